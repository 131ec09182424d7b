"""What syslog daemons and the journal get: formats, framing, cut lines, and what happens when they go away."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildtool.runtime.jsonlog import JsonLog
from buildtool.runtime.logsinks import CUT, open_sink
from tests.certificates import make_certificates

TLS = {"ca": "", "cert": "", "key": "", "skip_verify": False}


def syslog(scheme: str, place: Any, form: str = "", **more: Any) -> dict[str, Any]:
    return {
        **{"kind": "syslog", "scheme": scheme, "place": place, "facility": 3, "format": form, "tag": "web"},
        **{"wait": True, "tls": TLS, **more},
    }


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        yield server


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("", rb"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d web\[\d+\]: one"),
        ("rfc3164", rb"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ web\[\d+\]: one"),
        ("rfc5424", rb"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \S+ web \d+ web - one"),
        ("rfc5424micro", rb"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ web \d+ web - one"),
    ],
)
def test_formats_by_udp(datagrams: socket.socket, form: str, pattern: bytes) -> None:
    log = open_sink(syslog("udp", datagrams.getsockname(), form), None)
    log.write(1, b"one\ntw")
    assert re.fullmatch(pattern, datagrams.recv(4096))
    log.write(2, b"error\n")
    assert datagrams.recv(4096).startswith(b"<27>")
    log.write(1, b"o")
    log.close()
    assert datagrams.recv(4096).endswith(b"two")


def test_lines_by_tcp_and_again_after_the_server_was_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = JsonLog(str(tmp_path / "log"), None, 1)
        log = open_sink(syslog("tcp", server.getsockname()), kept)
        connection, _ = server.accept()
        log.write(1, b"first\n")
        assert connection.recv(4096).endswith(b": first\n")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()  # with a reset
        log.write(1, b"second\n")
        again, _ = server.accept()
        assert again.recv(4096).endswith(b": second\n")
        again.close()
    log.write(1, b"nobody\n")
    log.write(1, b"listens\n")
    log.close()
    assert log.lost
    assert (tmp_path / "log").read_text().count('"log"') == 4


def test_a_destination_that_is_not_there_is_an_error() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            open_sink(syslog("tcp", probe.getsockname()), None)


def test_octets_are_counted_by_tls(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server-key.pem")
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with context.wrap_socket(server.accept()[0], server_side=True) as connection:
                received.append(connection.recv(4096))

        thread = threading.Thread(target=serve)
        thread.start()
        trusted = {**TLS, "ca": str(tmp_path / "ca.pem")}
        log = open_sink(syslog("tcp+tls", ("localhost", server.getsockname()[1]), "rfc5424", tls=trusted), None)
        log.write(1, b"secret\n")
        thread.join(10)
        log.close()
    length, _, message = received[0].partition(b" ")
    assert (int(length), message.endswith(b" - secret")) == (len(message), True)


def fields(message: bytes) -> dict[str, bytes]:
    """A message of the journal's native protocol."""
    found = {}
    while message:
        line, _, message = message.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(message[:8], "little")
            value, message = message[8 : 8 + size], message[8 + size + 1 :]
        found[name.decode()] = value
    return found


def test_the_journal_gets_fields(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        journal.settimeout(10)
        own = {"CONTAINER_NAME": "web", "LABEL": "two\nlines"}
        log = open_sink({"kind": "journald", "path": path, "fields": own}, None)
        log.write(2, b"failed\n")
        assert fields(journal.recv(65536)) == {
            "MESSAGE": b"failed", "PRIORITY": b"3", "CONTAINER_NAME": b"web", "LABEL": b"two\nlines",
        }  # fmt: skip
        log.write(1, b"x" * (CUT + 1) + b"\n")
        first, second = fields(journal.recv(65536)), fields(journal.recv(65536))
        assert (len(first["MESSAGE"]), first["CONTAINER_PARTIAL_MESSAGE"]) == (CUT, b"true")
        assert (second["MESSAGE"], "CONTAINER_PARTIAL_MESSAGE" in second) == (b"x", False)
        log.close()
