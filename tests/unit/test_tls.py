"""The relay: bytes both ways, half-close in either direction, mutual certificates."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildtool import tls
from tests.certificates import make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's and a client's certificate: {ca,server,client}.pem and their -key.pem."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture
def pair(certificates: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The plain ends of an encrypted connection: the client's and the server's."""
    wire_client, wire_server = socket.socketpair()
    server_end, server_inner = socket.socketpair()
    context = tls.server_context(*(str(certificates / f) for f in ("ca.pem", "server.pem", "server-key.pem")))

    def serve() -> None:
        relay = tls.Relay(wire_server, context, server_side=True)
        relay.handshake(10)
        relay.run(server_inner)

    thread = threading.Thread(target=serve)
    thread.start()
    own = tls.client_context(
        *(str(certificates / f) for f in ("ca.pem", "client.pem", "client-key.pem")), verify=True
    )
    client_end = tls.connect(wire_client, own, "localhost", 10)
    yield client_end, server_end
    client_end.close()
    server_end.close()
    thread.join(10)
    assert not thread.is_alive()


def everything(sock: socket.socket) -> bytes:
    data = b""
    while chunk := sock.recv(1 << 20):
        data += chunk
    return data


def test_a_half_close_leaves_the_other_direction_open(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.sendall(b"request")
    client.shutdown(socket.SHUT_WR)
    assert everything(server) == b"request"
    server.sendall(b"answer")
    assert client.recv(100) == b"answer"
    server.sendall(b", more")
    server.shutdown(socket.SHUT_WR)
    assert everything(client) == b", more"


def test_much_in_both_directions_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    payload = bytes(range(256)) * 20_000

    def send(sock: socket.socket) -> None:
        sock.sendall(payload)
        sock.shutdown(socket.SHUT_WR)

    threads = [threading.Thread(target=send, args=(one,)) for one in pair]
    for thread in threads:
        thread.start()
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(everything(client)))
    reader.start()
    assert everything(server) == payload
    reader.join()
    assert received == [payload]
    for thread in threads:
        thread.join()


def test_who_has_no_certificate_or_a_strange_one_is_refused(certificates: Path, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    server = tls.server_context(*(str(certificates / f) for f in ("ca.pem", "server.pem", "server-key.pem")))
    strange = tls.client_context(
        str(certificates / "ca.pem"), str(tmp_path / "client.pem"), str(tmp_path / "client-key.pem"), verify=True
    )
    for context in (tls.client_context(str(certificates / "ca.pem"), "", "", verify=True), strange):
        wire_client, wire_server = socket.socketpair()
        failures: list[OSError] = []

        def serve(wire: socket.socket = wire_server, failures: list[OSError] = failures) -> None:
            with wire:
                try:
                    tls.Relay(wire, server, server_side=True).handshake(10)
                except OSError as error:
                    failures.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        with wire_client:
            try:
                tls.connect(wire_client, context, "localhost", 10).recv(1)
            except OSError:
                pass
        thread.join(10)
        assert failures


def test_a_server_that_is_not_who_it_says_is_refused(certificates: Path) -> None:
    wire_client, wire_server = socket.socketpair()
    server = tls.server_context(*(str(certificates / f) for f in ("ca.pem", "server.pem", "server-key.pem")))
    own = tls.client_context(str(certificates / "ca.pem"), "", "", verify=True)

    def serve() -> None:
        with wire_server:
            try:
                tls.Relay(wire_server, server, server_side=True).handshake(10)
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    with wire_client, pytest.raises(ssl.SSLCertVerificationError) as raised:
        tls.connect(wire_client, own, "elsewhere.example", 10)
    assert "certificate cannot be verified" in tls.reason(raised.value)
    thread.join(10)
