"""CI simulated: one shared cache, a machine that filled it, and machines with stores of their own that are fresh."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox
from tests.e2e.conftest import free_port
from tests.unit.registry.conftest import wait_for_port

TEXT = """\
FROM {base} AS build
RUN echo tool > /tool
COPY a /a
RUN cat /a /tool > /made
FROM {base}
RUN echo base > /base
COPY --from=build /made /made
COPY b /b
"""
INNER = {"echo tool > /tool", "cat /a /tool > /made"}
"""The commands whose layers are not in the image, and so not in an inline cache."""


@dataclass
class LoggingRegistry:
    """A registry and what it logs."""

    host: str
    log: Path

    def requests(self) -> list[str]:
        """`METHOD /path: status` of every request so far."""
        return re.findall(r"buildtool\.registry: - (.*?), [0-9.]+ s", self.log.read_text())


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, daemon: Daemon) -> Iterator[LoggingRegistry]:
    """A registry that has the base image."""
    folder, host = tmp_path_factory.mktemp("logged"), f"127.0.0.1:{free_port()}"
    command = [BUILDTOOL, "registry", "serve", "--addr", host, "--root", str(folder / "root"), "--log-level", "info"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for_port(int(host.rpartition(":")[2]), process, 15.0)
        load_busybox(daemon)
        program = Program(BUILDTOOL, daemon.environment)
        program("tag", "busybox", f"{host}/base:1")
        program("push", "-q", f"{host}/base:1")
        program("rmi", f"{host}/base:1")
        yield LoggingRegistry(host, folder / "log")
    finally:
        process.terminate()
        process.wait(15)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket in a server that speaks S3."""
    program = Path(sys.executable).with_name("moto_server")
    pytest.importorskip("obstore")
    if not program.exists():
        pytest.skip("there is no moto_server in this environment")
    port = free_port()
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(port, process, 30.0)
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/caches", method="PUT")):
            yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Machine:
    """A machine with a store of its own."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.program = Program(BUILDTOOL, {**daemon.environment, "NO_COLOR": "1"})

    def build(self, *words: str | Path) -> str:
        """Build; what was told of it."""
        return str(self.program("build", "--network=none", "--progress=plain", *words, timeout=120).stderr)

    def unpacked(self) -> dict[str, str]:
        """The files at the top of all layers that are unpacked here, but for the base's, and their contents."""
        found = {}
        for path in self.daemon.data.glob("snapshots/*/fs/*"):
            if path.is_file():
                found[path.name] = path.read_text()
        return found


@pytest.fixture
def machine(make_daemon: Callable[..., Daemon]) -> Iterator[Callable[[], Machine]]:
    """Makes fresh machines."""
    made: list[Daemon] = []

    def make() -> Machine:
        made.append(make_daemon())
        return Machine(made[-1])

    yield make
    for daemon in made:
        daemon.close()


def executed(told: str) -> set[str]:
    """The commands of the RUN steps that were not cached."""
    steps = dict(re.findall(r"^(#\d+) \[[^\]]*\] (.*)$", told, re.MULTILINE))
    cached = set(re.findall(r"^(#\d+) CACHED", told, re.MULTILINE))
    names = [name for step, name in steps.items() if step not in cached]
    return {name.removeprefix("RUN ") for name in names if name.startswith("RUN ")}


def source_of(path: Path, registry: LoggingRegistry, unique: str, **files: str) -> Path:
    path.mkdir()
    (path / "Buildfile").write_text(TEXT.format(base=f"{registry.host}/base:1"))
    for name, content in ({"a": f"a of {unique}", "b": f"b of {unique}"} | files).items():
        (path / name).write_text(f"{content}\n")
    return path


@pytest.mark.parametrize("kind", ["registry", "inline", "local", "s3"])
def test_fresh_machines_with_one_cache(
    daemon: Daemon,
    machine: Callable[[], Machine],
    logged: LoggingRegistry,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    unique: str,
    kind: str,
) -> None:
    name = f"{logged.host}/{unique}/app"
    url = request.getfixturevalue("s3") if kind == "s3" else ""
    bucket = f"type=s3,bucket=caches,prefix={unique},region=us-east-1,endpoint_url={url}"
    bucket += ",access_key_id=test,secret_access_key=test"

    def to(tag: str) -> list[str]:
        """How a machine writes the cache; an inline one goes with the image."""
        return {
            "registry": [f"--cache-to=type=registry,ref={name}:cache,mode=max"],
            "inline": ["--cache-to=type=inline", "--push", "-t", f"{name}:{tag}"],
            "local": [f"--cache-to=type=local,dest={tmp_path}/cache,mode=max"],
            "s3": [f"--cache-to={bucket},mode=max"],
        }[kind]

    def origin(*tags: str) -> list[str]:
        return {
            "registry": [f"--cache-from={name}:cache"],
            "inline": [f"--cache-from={name}:{tag}" for tag in tags],
            "local": [f"--cache-from=type=local,src={tmp_path}/cache"],
            "s3": [f"--cache-from={bucket}"],
        }[kind]

    source = source_of(tmp_path / "source", logged, unique)
    Machine(daemon).build(*to("1"), source)

    # An unchanged tree: no RUN, and not one layer.
    fresh = machine()
    before = len(logged.requests())
    told = fresh.build(*origin("1"), "-t", "app:1", source)
    assert "all cached" in told
    assert fresh.unpacked() == {}
    fetched = [each for each in logged.requests()[before:] if re.match("GET .*/base/blobs/", each)]
    assert len(fetched) <= 1  # its config

    # A changed line that the image's last step reads: no RUN, and no layer but those that this step stands on.
    second = machine()
    changed = source_of(tmp_path / "late", logged, unique, b="b, changed")
    if kind != "inline":  # which has nothing of the other stage: that is built again to see what comes out of it
        assert executed(second.build(*origin("1"), "-t", "app:2", changed)) == set()
        assert "tool" not in second.unpacked()

    # One that the second command of the build stage reads: that, and what only an inline cache lacks.
    changed = source_of(tmp_path / "early", logged, unique, a=f"a of {unique}, changed")
    wanted = INNER if kind == "inline" else {"cat /a /tool > /made"}
    assert executed(fresh.build(*origin("1"), "-t", "app:3", changed)) == wanted
    assert (
        fresh.program("run", "--rm", "--network=none", "app:3", "cat", "/made").stdout
        == f"a of {unique}, changed\ntool\n"
    )
    assert f"a of {unique}\ntool\n" not in fresh.unpacked().values()  # the old result was not fetched

    # Two machines that write at once: both results are there for a third.
    variants = [source_of(tmp_path / tag, logged, unique, a=f"{tag} of {unique}") for tag in ("x", "y")]
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(
                lambda one: one[0].build(*origin("1"), *to(one[1].name), one[1]),
                zip((fresh, second), variants, strict=True),
            )
        )
    third = machine()
    for variant in variants:
        told = third.build(*origin("x", "y"), "-t", f"app:{variant.name}", variant)
        assert "all cached" in told, told
    assert third.unpacked() == {}


def test_an_unchanged_build_and_push_of_a_fresh_machine_asks_ten_questions_at_most(
    daemon: Daemon, machine: Callable[[], Machine], logged: LoggingRegistry, tmp_path: Path, unique: str
) -> None:
    name = f"{logged.host}/{unique}/app"
    source = source_of(tmp_path / "source", logged, unique)
    cache = f"type=registry,ref={name}:cache"
    words = ("-t", f"{name}:1", "--push", f"--cache-from={cache}", f"--cache-to={cache},mode=max", source)
    Machine(daemon).build(*words)
    pushed = json.loads(urllib.request.urlopen(f"http://{logged.host}/v2/{unique}/app/manifests/1").read())
    fresh = machine()
    before = len(logged.requests())
    assert "all cached" in fresh.build(*words)
    asked = logged.requests()[before:]
    assert 0 < len(asked) <= 10, asked
    assert fresh.unpacked() == {}
    assert json.loads(urllib.request.urlopen(f"http://{logged.host}/v2/{unique}/app/manifests/1").read()) == pushed
