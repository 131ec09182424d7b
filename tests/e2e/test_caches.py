"""The cache that travels, through CLI, daemon and registry: a machine builds, a fresh one takes what it made."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox

TEXT = "FROM {base} AS build\nRUN echo tool > /tool\nCOPY a /a\nRUN cat /a /tool > /made\n"
TEXT += "FROM {base}\nRUN echo base > /base\nCOPY --from=build /made /made\n"


@pytest.fixture
def fresh(make_daemon: Callable[..., Daemon]) -> Iterator[Program]:
    """A client of a machine on which nothing was built yet."""
    daemon = make_daemon()
    load_busybox(daemon)
    yield Program(BUILDTOOL, {**daemon.environment, "NO_COLOR": "1"})
    daemon.close()


@pytest.fixture
def source(tmp_path: Path, busybox_image: str) -> Path:
    path = tmp_path / "src"
    path.mkdir()
    (path / "Buildfile").write_text(TEXT.format(base=busybox_image))
    (path / "a").write_text(f"{tmp_path}\n")  # nothing of an earlier test is in the daemon's own cache
    return path


def said(program: Program, *arguments: str | Path, tag: str) -> str:
    return str(program("build", "--network=none", "--progress=plain", "-t", tag, *arguments).stderr)


def test_only_the_layers_that_are_needed_leave_the_registry(
    cli: Program, fresh: Program, start_registry: Callable[..., str], unique: str, tmp_path: Path, busybox_image: str
) -> None:
    """Counted by the registry's audit log: a cached build, COPY --from, a mount of a file, COPY --link and a push."""
    audit = tmp_path / "audit"
    host = start_registry("--audit-log", str(audit))
    base, app, cache = f"{host}/{unique}/base:1", f"{host}/{unique}/app:1", f"{host}/{unique}/app:cache"
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text(unique)

    def build(program: Program, text: str, *flags: str, tag: str) -> None:
        (context / "Buildfile").write_text(text)
        program("build", "--network=none", "--progress=plain", *flags, "-t", tag, context)

    layers = "".join(f"RUN echo {unique}{number} > /layer{number}\n" for number in range(3))
    build(cli, f"FROM {busybox_image}\n{layers}", tag=base)
    cli("push", "-q", base)
    text = f"FROM {base}\nRUN cat /layer0 > /made\nCOPY file /file\n"
    build(cli, text, f"--cache-to=type=registry,ref={cache},mode=max", tag=app)
    url = f"http://{host}/v2/{unique}/base/manifests/1"
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=accept)) as answer:
        blobs = [layer["digest"] for layer in json.load(answer)["layers"]][1:]  # the first one is busybox, here too

    def fetched() -> list[int]:
        """How often each of these layers was, since the last time."""
        lines = [json.loads(line) for line in audit.read_text().splitlines()]
        audit.write_text("")
        got = [line["digest"] for line in lines if line["method"] == "GET" and line["kind"] == "blobs"]
        return [got.count(blob) for blob in blobs]

    fetched()
    build(fresh, text, f"--cache-from=type=registry,ref={cache}", tag="app:cached")
    assert fetched() == [0, 0, 0]
    build(fresh, f"FROM scratch\nCOPY --from={base} /layer1 /\n", tag="app:copied")
    assert fetched() == [0, 1, 1]
    build(fresh, f"FROM {busybox_image}\nRUN --mount=from={base},source=/layer2,target=/m cat /m\n", tag="app:mount")
    assert fetched() == [0, 0, 0], "it is in the layers that are here"
    linked = f"{host}/{unique}/linked:1"
    build(fresh, f"FROM {base}\nENV A=1\nCOPY --link file /etc/\n", tag=linked)
    fresh("push", "-q", linked)
    assert fetched() == [0, 0, 0], "nor does the push need them: they are there"
    cli("pull", "-q", linked)
    assert cli("run", "--rm", "--network=none", linked, "cat", "/etc/file", "/layer0").stdout.startswith(unique)
    build(fresh, f"FROM {base}\nRUN true\n", tag="app:run")
    assert fetched() == [1, 0, 0]


def test_registry_inline_and_directory(
    cli: Program, fresh: Program, registry: str, source: Path, unique: str, tmp_path: Path
) -> None:
    name, cache = f"{registry}/{unique}/app:1", f"type=registry,ref={registry}/{unique}/app:cache"
    first = said(cli, f"--cache-to={cache},mode=max", f"--cache-from={cache}", source, tag=name)
    assert "5 of 5 records" in first
    assert "nothing is new" in said(cli, f"--cache-to={cache},mode=max", f"--cache-from={cache}", source, tag=name)
    second = said(fresh, f"--cache-from={cache}", source, tag="app:2")
    assert "all cached" in second
    other = f"{registry}/{unique}/elsewhere:1"
    fresh("tag", "app:2", other)
    assert "Mounted from" in fresh("push", other).stdout  # nothing goes through this machine
    fresh("rmi", other)
    assert fresh("run", "--rm", "--network=none", "app:2", "cat", "/made").stdout == f"{tmp_path}\ntool\n"

    said(cli, "--cache-to=type=inline", source, tag=name)
    cli("push", "-q", name)
    fresh("rmi", "app:2")
    fresh("builder", "prune", "-af")
    assert "all cached" in said(fresh, f"--cache-from={name}", source, tag="app:2")
    assert fresh("run", "--rm", "--network=none", "app:2", "cat", "/made").stdout == f"{tmp_path}\ntool\n"

    folder = tmp_path / "cache"
    said(
        cli, f"--cache-to=type=local,dest={folder},mode=max,compression=zstd,force-compression=true", source, tag=name
    )
    index = json.loads((folder / "index.json").read_bytes())
    assert [each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]] == ["latest"]
    fresh("rmi", "app:2")
    fresh("builder", "prune", "-af")
    (source / "a").write_text("changed\n")
    third = said(fresh, f"--cache-from=type=local,src={folder}", source, tag="app:2")
    assert third.count(" CACHED") == 3  # the base, and the RUN steps that do not see the file
    assert fresh("run", "--rm", "--network=none", "app:2", "cat", "/made").stdout == "changed\ntool\n"
    cli("rmi", name)


def test_caches_that_cannot_be_reached_are_told_of(cli: Program, source: Path, tmp_path: Path) -> None:
    cache = "type=registry,ref=127.0.0.1:1/x:y,timeout=2s"
    text = said(cli, f"--cache-from={cache}", f"--cache-to={cache}", source, tag="app:3")
    assert "cache registry 127.0.0.1:1/x:y is not used" in text
    assert "the cache is not exported to registry 127.0.0.1:1/x:y" in text
    cli("rmi", "app:3")
    strict = cli("build", "-q", f"--cache-to={cache},ignore-error=false", source, check=False)
    assert strict.returncode == 1 and "cannot export the cache" in strict.stderr
    missing = cli("build", "-q", "-t", "app:3", f"--cache-from=type=local,src={tmp_path}/none", source)
    assert "there is no cache in" in missing.stderr
    cli("rmi", "app:3")


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("cache-from", "type=gha,scope=a", "type=gha is not possible here"),
        ("cache-to", "type=gha,mode=max", "take a registry: type=registry,ref=ghcr.io/"),
        ("cache-to", "type=azblob,name=a", "type=azblob is not possible here"),
        ("cache-from", "type=what", "unknown type 'what'"),
        ("cache-to", "type=registry,ref=a,oci-mediatypes=false", "oci-mediatypes=false is not possible"),
        ("cache-to", "type=registry,ref=a,compresion=zstd", "did you mean 'compression'?"),
        ("cache-to", "type=s3,bucket=a,region=b,upload_parallelism=4", "unknown attribute 'upload_parallelism'"),
        ("cache-from", "type=registry", "ref is missing"),
        ("cache-from", "type=registry,ref=a,mode=max", "unknown attribute 'mode'"),
        ("cache-from", "type=inline", "unknown type 'inline'"),
        ("cache-from", "type=local", "src is missing"),
        ("cache-from", "src=x", "type is missing"),
        ("cache-to", "type=registry,ref=a,mode=most", "unknown mode 'most'"),
        ("cache-to", "type=registry,ref=a,compression=lzma", "unsupported compression 'lzma'"),
        ("cache-to", "type=registry,ref=a,compression=gzip,compression-level=10", "gzip has levels 0 to 9"),
        ("cache-to", "type=registry,ref=a,ignore-error=maybe", "true or false"),
        ("cache-to", "type=registry,ref=a,timeout=soon", "timeout"),
        ("cache-to", "type=registry,x", "no name=value"),
        ("cache-to", "type=inline,mode=max", "unknown attribute 'mode'"),
        ("cache-to", "type=registry,ref=A", "A"),
        ("cache-to", "type=s3,region=x", "bucket is missing"),
        ("cache-from", "type=s3,bucket=b,use_path_style=perhaps", "true or false"),
    ],
)
def test_what_cannot_be_meant_is_refused(cli: Program, source: Path, flag: str, value: str, words: str) -> None:
    refused = cli("build", f"--{flag}={value}", source, check=False)
    assert refused.returncode != 0
    assert words in refused.stderr and "Traceback" not in refused.stderr


def test_a_cache_that_is_an_index(
    cli: Program, fresh: Program, registry: str, unique: str, tmp_path: Path, busybox_image: str
) -> None:
    """As BuildKit writes it with image-manifest=false: an index that names layers."""
    (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\nRUN echo {unique} > /made\n")
    cache = f"type=registry,ref={registry}/{unique}:cache"
    told = said(cli, f"--cache-to={cache},mode=max,image-manifest=false,ignore-error=false", tmp_path, tag=unique)
    assert "exported cache" in told
    assert "2 steps, all cached" in said(fresh, f"--cache-from={cache}", tmp_path, tag=unique)
    cli("rmi", unique)
