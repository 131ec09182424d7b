"""A daemon that answers what the test says, over a real unix socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildtool.client import Address

Script = Callable[[socket.socket], None]


class Peer:
    """Serves each accepted connection with the next script, in a thread."""

    def __init__(self, path: Path) -> None:
        self.address = Address(path=str(path), foreign=True)
        self.requests: list[bytes] = []
        self._scripts: list[Script] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def will(self, *scripts: Script) -> None:
        """Answer the next connections with these scripts."""
        self._scripts += scripts

    def answer(self, *answers: bytes) -> Script:
        """A script that reads a request and sends an answer, as often as there are answers; then it closes."""

        def script(connection: socket.socket) -> None:
            for answer in answers:
                self.requests.append(read_request(connection))
                connection.sendall(answer)

        return script

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                if self._scripts:
                    self._scripts.pop(0)(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def read_request(connection: socket.socket) -> bytes:
    """One whole request: header, and the body by its Content-Length or in chunks."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.recv(65536)
        return data
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        part = connection.recv(65536)
        body, data = body + part, data + part
    return data


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    peer = Peer(tmp_path / "s")
    yield peer
    peer.close()


def ok(body: bytes, *, headers: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
