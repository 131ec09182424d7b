"""Caches that are slow, down, broken or forged: told of, and done without."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox

KINDS = ("registry", "s3")


@pytest.fixture
def source(tmp_path: Path, busybox_image: str) -> Path:
    path = tmp_path / "src"
    path.mkdir()
    (path / "Buildfile").write_text(f"FROM {busybox_image}\nRUN echo {tmp_path} > /made\nRUN cat /made > /again\n")
    return path


def cache(kind: str, host: str, unique: str) -> str:
    if kind == "registry":
        return f"type=registry,ref={host}/{unique}/app:cache,timeout=1s"
    return (
        f"type=s3,bucket=b,prefix={unique},region=us-east-1,endpoint_url=http://{host},timeout=1s,"
        "access_key_id=test,secret_access_key=test"
    )


@pytest.fixture
def silent() -> Iterator[str]:
    """Something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for each in held:
            each.close()


class _Server:
    """An HTTP server that answers everything alike."""

    def __init__(self, status: int, body: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = answer

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def built(cli: Program, source: Path, given: str, tag: str) -> str:
    """Build with this cache in both directions; what was told. The image has what it is to have."""
    words = (f"--cache-from={given}", f"--cache-to={given},mode=max", "-t", tag, source)
    told = str(cli("build", "--network=none", "--progress=plain", *words).stderr)
    assert cli("run", "--rm", "--network=none", tag, "cat", "/again").stdout == f"{source.parent}\n"
    cli("rmi", "-f", tag)
    return told


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_does_not_answer_holds_nothing_up(
    cli: Program, source: Path, silent: str, unique: str, kind: str
) -> None:
    told = built(cli, source, cache(kind, silent, unique), f"{unique}:1")
    assert "is not used: it did not answer within 1 seconds" in told
    assert "the cache is not exported to" in told


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"{}"), (200, b"no JSON"), (200, b"[" * 100_000), (403, b"no"), (500, b"")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_one_that_answers_nonsense_is_told_of(
    cli: Program, source: Path, unique: str, kind: str, status: int, body: bytes
) -> None:
    server = _Server(status, body)
    try:
        told = built(cli, source, cache(kind, server.host, unique), f"{unique}:1")
    finally:
        server.close()
    assert "is not used" in told or "is ignored" in told or "the cache is not exported" in told
    assert "Traceback" not in told


def test_layers_and_bundles_that_were_changed_in_a_registry_are_not_used(
    cli: Program,
    make_daemon: Callable[..., Daemon],
    start_registry: Callable[..., str],
    source: Path,
    unique: str,
    tmp_path: Path,
) -> None:
    root = tmp_path / "registry"
    root.mkdir()
    given = f"type=registry,ref={start_registry(root=root)}/{unique}/app:cache"
    cli("build", "-q", "--network=none", f"--cache-to={given},mode=max", source)
    machine = make_daemon()
    load_busybox(machine)
    fresh = Program(BUILDTOOL, {**machine.environment, "NO_COLOR": "1"})
    # a changed last step stands on the layer of the one before, which is not any more what its digest says
    (source / "Buildfile").write_text((source / "Buildfile").read_text() + "RUN cat /again > /last\n")
    layers = [path for path in root.rglob("*") if path.is_file() and path.read_bytes()[:2] == b"\x1f\x8b"]
    assert len(layers) >= 2
    for path in layers:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    told = fresh("build", "--network=none", "--progress=plain", "-t", "x:1", f"--cache-from={given}", source).stderr
    assert "WARNING" in told and "is executed" in told
    assert fresh("run", "--rm", "--network=none", "x:1", "cat", "/last").stdout == f"{tmp_path}\n"

    bundles = [path for path in root.rglob("*") if path.is_file() and path.read_bytes()[:12] == b'{"version":1']
    assert bundles
    for path in bundles:
        document = json.loads(path.read_bytes())
        path.write_text(json.dumps(document | {"records": document["records"][::-1]}))
    fresh("rmi", "x:1")
    fresh("builder", "prune", "-af")
    told = fresh("build", "--network=none", "--progress=plain", "-t", "x:1", f"--cache-from={given}", source).stderr
    assert "is not used" in told
    assert fresh("run", "--rm", "--network=none", "x:1", "cat", "/last").stdout == f"{tmp_path}\n"
    machine.close()
