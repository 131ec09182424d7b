"""Every example builds and runs, as README says: real Debian, apt, pip, gcc and npm inside RUN."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import quote

import pytest

from tests.conftest import Program, docker_composes

EXAMPLES = Path(__file__).parents[2] / "examples"
Cli = Callable[..., CompletedProcess[str]]

pytestmark = [pytest.mark.xdist_group("debian"), pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def debian(cli: Cli) -> str:
    """`debian:bookworm` in the daemon's store, with the certificates this machine trusts."""
    cli("image", "bootstrap", "debian:bookworm", "--include", "ca-certificates", "--host-ca", timeout=300)
    return "debian:bookworm"


def test_the_sbom_of_debian_is_what_dpkg_query_says(cli: Cli, debian: str) -> None:
    asked = cli("run", "--rm", debian, "dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\\n").stdout
    sbom = json.loads(cli("image", "sbom", "--format", "cyclonedx", debian).stdout)
    urls = [component.get("purl", "") for component in sbom["components"]]
    found = {url for url in urls if url.startswith("pkg:deb/debian/")}
    wanted = set()
    for line in asked.splitlines():
        name, version, architecture = line.split()
        version = quote(version, safe=":~")
        wanted.add(f"pkg:deb/debian/{quote(name)}@{version}?arch={architecture}&distro=debian-12")
    assert found == wanted and len(found) > 50


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def service(cli: Cli, port: int) -> Iterator[Callable[[str], str]]:
    """Starts a container of an image in the background on `port`; removed at the end."""
    started: list[str] = []

    def start(image: str) -> str:
        started.append(cli("run", "-d", "-e", f"PORT={port}", "-p", f"127.0.0.1:{port}:{port}", image).stdout.strip())
        return started[-1]

    yield start
    for container in started:
        cli("rm", "-f", container)


def ask(port: int) -> dict[str, object]:
    """The JSON that the service answers, once it listens."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                document: dict[str, object] = json.load(answer)
                return document
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nothing answers on port {port}")


def test_hello_greets_and_its_second_build_is_cached(cli: Cli, busybox_image: str) -> None:
    cli("build", "-t", "hello", str(EXAMPLES / "hello"))
    assert cli("run", "--rm", "hello").stdout == "hello, world\n"
    assert cli("run", "--rm", "-e", "NAME=you", "hello").stdout == "hello, you\n"

    again = cli("build", "--progress", "plain", "-t", "hello", str(EXAMPLES / "hello"))
    assert (again.stdout + again.stderr).count("CACHED") == 4


def test_web_serves_as_its_own_user_and_becomes_healthy(
    cli: Cli, debian: str, port: int, service: Callable[[str], str]
) -> None:
    cli("build", "-t", "web", str(EXAMPLES / "web"), timeout=300)
    container = service("web")
    assert ask(port) == {"greeting": "hello", "user": 1000}
    for _ in range(100):
        health = cli("inspect", "-f", "{{.State.Health.Status}}", container).stdout.strip()
        if health == "healthy":
            break
        time.sleep(0.1)
    assert health == "healthy"
    assert "listening on" in cli("logs", container).stdout


def test_c_program_runs_from_scratch_with_nothing_beside_it(cli: Cli, debian: str) -> None:
    cli("build", "-t", "primes", str(EXAMPLES / "c"), timeout=300)
    assert cli("run", "--rm", "primes").stdout.split() == ["2", "3", "5", "7", "11", "13", "17", "19", "23", "29"]
    assert len(json.loads(cli("inspect", "primes").stdout)[0]["RootFS"]["Layers"]) == 1


def test_node_service_installs_its_lock_file_and_serves(
    cli: Cli, debian: str, port: int, service: Callable[[str], str]
) -> None:
    cli("build", "-t", "node-service", str(EXAMPLES / "node"), timeout=300)
    service("node-service")
    assert ask(port)["greeting"] == "hello"


def fetch(port: int, path: str, data: bytes | None = None) -> dict[str, object]:
    """The JSON that the notes service answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=10) as answer:
        document: dict[str, object] = json.load(answer)
        return document


@pytest.mark.skipif(os.geteuid() != 0, reason="a stack has networks of its own, which need root")
def test_stack_of_web_database_and_cache_keeps_its_data(cli: Program, debian: str, port: int, unique: str) -> None:
    def compose(*words: str, **env: str) -> CompletedProcess[str]:
        command = ["compose", "-p", unique, *words]
        return cli(*command, cwd=EXAMPLES / "stack", env={"PORT": str(port), **env}, timeout=300)

    def ids() -> dict[str, str]:
        lines = compose("ps", "-a", "--format", "{{.Service}} {{.ID}}").stdout.splitlines()
        return dict(line.split() for line in lines)

    def states() -> dict[str, str]:
        form = "{{.Service}} {{.State}} {{.Health}} {{.ExitCode}}"
        lines = compose("ps", "-a", "--format", form).stdout.splitlines()
        return {name: " ".join(rest) for name, *rest in map(str.split, lines)}

    def kill(service: str) -> str:
        found = json.loads(cli("inspect", ids()[service]).stdout)[0]
        os.kill(found["State"]["Pid"], signal.SIGKILL)
        return str(found["Id"])

    try:
        compose("up", "-d", "--wait")
        up = dict.fromkeys(("web", "db", "cache"), "running healthy 0")
        assert states() == {**up, "migrate": "exited 0"}
        assert fetch(port, "/")["greeting"] == "Notes"
        assert fetch(port, "/notes", b"first") == {"added": "first"}
        assert fetch(port, "/notes") == {"notes": ["first"], "from": "database"}
        assert fetch(port, "/notes") == {"notes": ["first"], "from": "cache"}
        assert "postgres" in compose("top", "db").stdout and "redis-server" in compose("top", "cache").stdout
        assert compose("exec", "-T", "web", "cat", "/run/secrets/db_password").stdout.strip()

        begun = ids()
        for service in ("cache", "db"):
            killed = kill(service)
            compose("up", "-d", "--wait")
            assert json.loads(cli("inspect", killed).stdout)[0]["RestartCount"] >= 1
        assert ids() == begun
        assert fetch(port, "/notes") == {"notes": ["first"], "from": "database"}

        before = ids()
        compose("up", "-d", "--wait", GREETING="Changed")
        after = ids()
        assert {name for name in after if after[name] != before[name]} == {"web"}
        assert fetch(port, "/")["greeting"] == "Changed"

        compose("up", "-d", "--wait", "--scale", "cache=2", GREETING="Changed")
        assert compose("ps", "--services").stdout.split() == ["cache", "db", "web"]
        assert len(compose("ps", "-q", "cache").stdout.split()) == 2

        compose("down")
        assert ids() == {}
        compose("up", "-d", "--wait")
        assert fetch(port, "/notes")["notes"] == ["first"]
        assert states() == {**up, "migrate": "exited 0"}

        for program in docker_composes().values():  # without building, for which it wants BuildKit's API
            plugin = Program(program, {**cli.environment, "DOCKER_HOST": cli.environment["BUILDTOOL_HOST"]})
            for words in (("up", "-d", "--no-build", "--wait", "web"), ("down",), ("up", "-d", "--no-build", "web")):
                plugin("-p", unique, *words, cwd=EXAMPLES / "stack", env={"PORT": str(port)}, timeout=120)
            compose("up", "-d", "--wait")
            assert fetch(port, "/notes")["notes"] == ["first"]
    finally:
        compose("down", "-v", "--rmi", "local")
