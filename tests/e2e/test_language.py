"""What Dockerfiles do not have, and what builds say, through CLI and daemon."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server: its URL, and the directory it shows."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", folder
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def build(cli: Program, context: Path, text: str, *flags: str, check: bool = True) -> str:
    """Everything that a build prints."""
    (context / "Buildfile").write_text(text)
    done = cli("build", "--network", "none", "--progress=plain", *flags, context, check=check)
    return str(done.stdout) + str(done.stderr)


def test_optional_copies_renewed_and_repeated_runs(cli: Program, context: Path, busybox_image: str) -> None:
    text = f"""FROM {busybox_image}
COPY --if-exists missing*.conf other /etc/app/
RUN ls -d /etc/app || echo nothing was copied
RUN --no-cache echo same > /same
RUN --retry=1 --timeout=20s --mount=type=cache,target=/c,id={context} test -e /c/once || ! touch /c/once
RUN --cache-ttl=12h cat /same
"""
    first = build(cli, context, text, "-t", "language:1")
    assert "nothing was copied" in first
    assert "try 1 of 2 failed: exit code: 1; trying again" in first
    layers = cli("image", "inspect", "--format", "{{len .RootFS.Layers}}", "language:1").stdout
    again = build(cli, context, text, "-t", "language:1", "--explain")
    assert again.count("CACHED") == 5
    assert re.search(r"RUN --no-cache.*: executed: it is never cached \(RUN --no-cache\)", again)
    assert "early cutoff" in again
    (context / "missing.conf").write_text("now\n")
    third = build(cli, context, text, "-t", "language:1", "--explain")
    assert "missing.conf (new)" in third
    assert int(cli("image", "inspect", "--format", "{{len .RootFS.Layers}}", "language:1").stdout) == int(layers) + 1
    cli("rmi", "language:1")


def test_a_timeout_and_the_tries_are_told(cli: Program, context: Path, busybox_image: str) -> None:
    said = build(cli, context, f"FROM {busybox_image}\nRUN --timeout=400ms --retry=1 sleep 600\n", check=False)
    assert "try 1 of 2 failed: killed after 400ms (--timeout)" in said
    assert "killed after 400ms (--timeout) (the last of 2 tries)" in said
    assert "Buildfile:2:1" in said


def test_strict_caching_runs_what_names_the_argument(cli: Program, context: Path, busybox_image: str) -> None:
    runs = f"RUN echo fixed ${{V_OTHER}} {context}\nRUN echo it is $V {context}\n"
    text = f"# cache=strict\nFROM {busybox_image}\nARG V=1\n{runs}"
    build(cli, context, text)
    said = build(cli, context, text, "--build-arg", "V=2", "--explain")
    assert "it is 2" in said and said.count("CACHED") == 2
    assert "ARG V: '1' → '2'" in said
    plain = build(cli, context, text.partition("\n")[2], "--build-arg", "V=3")
    assert plain.count("CACHED") == 1


def test_stages_are_included_from_the_web(
    cli: Program, context: Path, web: tuple[str, Path], busybox_image: str
) -> None:
    url, folder = web
    (folder / "stages").write_text(f"FROM {busybox_image} AS tools\nINCLUDE parts/more\nRUN echo included > /tool\n")
    (folder / "parts").mkdir()
    (folder / "parts" / "more").write_text("ENV MORE=yes\n")
    text = f'INCLUDE {url}/stages\nFROM tools\nRUN cat /tool; echo "MORE=$MORE"\n'
    assert "MORE=yes" in build(cli, context, text)
    failed = build(cli, context, text.replace("cat /tool", "exit 3"), check=False)
    assert "Buildfile:3:1" in failed
    (folder / "stages").write_text(f"FROM {busybox_image} AS tools\nRUN exit 4\n")
    assert f"{url}/stages:2:1" in build(cli, context, text, check=False)
    (folder / "parts" / "more").write_text("INCLUDE ../stages\n")
    (folder / "stages").write_text(f"FROM {busybox_image} AS tools\nINCLUDE parts/more\n")
    assert "includes itself" in build(cli, context, text, check=False)
    assert "404" in build(cli, context, f"INCLUDE {url}/none\nFROM scratch\n", check=False)
    checksum = build(cli, context, f"INCLUDE --checksum=sha256:{'0' * 64} {url}/stages\nFROM a\n", check=False)
    assert "has the checksum sha256:" in checksum


def test_the_docker_cli_builds_the_same(docker: Program, context: Path, busybox_image: str) -> None:
    (context / "Dockerfile").write_bytes(
        f"# \xe9t\xe9\nFROM {busybox_image}\nCOPY --if-exists none /n\nRUN --retry=2 --no-cache echo fine\n".encode(
            "latin-1"
        )
    )
    done = docker("build", "--network", "none", context)
    assert "fine" in done.stdout
    (context / "Dockerfile").write_text("FROM a\nRUN --cache-ttl=0 x\n")
    refused = docker("build", context, check=False)
    assert refused.returncode != 0 and "--cache-ttl cannot be less than 1s" in refused.stderr
