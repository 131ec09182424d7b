"""Requests and answers over a real socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from buildtool.client import Address, Client, ConnectionLost, EngineError
from buildtool.client.engine import encode_query, quote_path
from buildtool.errors import DaemonUnreachable

from .conftest import Peer, ok, read_request


def test_answers_are_json_and_the_connection_is_kept(peer: Peer) -> None:
    peer.will(peer.answer(ok(b'{"a": 1}'), ok(b"[2]")))
    client = Client(peer.address)
    assert client.get("/one") == {"a": 1}
    assert client.post("/two", {"x": True, "y": None}, {"k": "v"}) == [2]
    assert peer.requests[0].startswith(b"GET /one HTTP/1.1\r\n")
    assert peer.requests[1].startswith(b"POST /two?x=1 HTTP/1.1\r\n")
    assert peer.requests[1].endswith(b'\r\n\r\n{"k": "v"}')


def test_a_post_without_a_body_says_so(peer: Peer) -> None:
    peer.will(peer.answer(b"HTTP/1.1 204 No Content\r\n\r\n"))
    Client(peer.address).call("POST", "/x").read()
    assert b"Content-Length: 0\r\n" in peer.requests[0]


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_chunked_answers_come_whole_in_whatever_pieces(peer: Peer, piece: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = head + b"4;ext=1\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: x\r\n\r\n"

    def script(connection: socket.socket) -> None:
        read_request(connection)
        for at in range(0, len(body), piece):
            connection.sendall(body[at : at + piece])
        read_request(connection)
        connection.sendall(ok(b"again"))

    peer.will(script)
    client = Client(peer.address)
    assert client.call("GET", "/x").read() == b"Wikipedia"
    assert client.call("GET", "/y").read() == b"again"


def test_an_answer_without_a_length_ends_with_the_connection(peer: Peer) -> None:
    peer.will(peer.answer(b"HTTP/1.1 200 OK\r\n\r\nabc"), peer.answer(ok(b"next")))
    client = Client(peer.address)
    assert client.call("GET", "/x").read() == b"abc"
    assert client.call("GET", "/y").read() == b"next"


def test_head_has_no_body_whatever_its_headers_say(peer: Peer) -> None:
    peer.will(peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nApi-Version: 1.50\r\n\r\n", ok(b"next")))
    client = Client(peer.address)
    assert client.call("HEAD", "/_ping").headers["api-version"] == "1.50"
    assert client.call("GET", "/y").read() == b"next"


def test_a_kept_connection_that_the_peer_closed_is_replaced(peer: Peer) -> None:
    peer.will(peer.answer(ok(b"1")), peer.answer(ok(b"2")))
    client = Client(peer.address)
    client.get("/a")
    time.sleep(0.05)
    assert client.post("/b") == 2


def test_a_call_while_an_answer_is_being_read_takes_another_connection(peer: Peer) -> None:
    peer.will(peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun"), peer.answer(ok(b"2")))
    client = Client(peer.address)
    stream = client.call("GET", "/stream")
    assert stream.read_some() == b"begun"
    assert client.get("/other") == 2


def test_refusals_carry_the_daemons_words_and_status(peer: Peer) -> None:
    body = b'{"message": "No such container: x"}'
    peer.will(peer.answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    with pytest.raises(EngineError, match="No such container: x") as refused:
        Client(peer.address).get("/containers/x/json")
    assert refused.value.status == 404


def test_a_refusal_that_is_not_json_is_shown_as_it_is(peer: Peer) -> None:
    peer.will(peer.answer(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops"))
    with pytest.raises(EngineError, match="oops"):
        Client(peer.address).get("/x")


def test_a_cut_answer_is_an_error(peer: Peer) -> None:
    peer.will(peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"))
    with pytest.raises(ConnectionLost, match="middle of an answer"):
        Client(peer.address).call("GET", "/x").read()


def test_a_post_is_not_sent_twice_when_the_first_connection_dies(peer: Peer) -> None:
    peer.will(peer.answer(b""), peer.answer(ok(b"1")))
    with pytest.raises(ConnectionLost):
        Client(peer.address).post("/containers/create")


def test_what_is_not_http_is_refused(peer: Peer) -> None:
    peer.will(peer.answer(b"SSH-2.0-x\r\n\r\n"), peer.answer(b"SSH-2.0-x\r\n\r\n"))
    with pytest.raises(ConnectionLost, match="not HTTP"):
        Client(peer.address).get("/x")


def test_uploads_are_chunked_as_they_come(peer: Peer) -> None:
    peer.will(peer.answer(ok(b"{}")))

    def parts() -> Iterator[bytes]:
        yield b"abc"
        yield b""
        yield b"0123456789abcdef"

    Client(peer.address).call("POST", "/images/load", body=parts()).read()
    assert peer.requests[0].endswith(b"\r\n\r\n3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n")


def test_an_early_refusal_ends_an_upload(peer: Peer) -> None:
    def script(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b'HTTP/1.1 400 Bad Request\r\nContent-Length: 17\r\n\r\n{"message": "no"}')
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    peer.will(script)
    with pytest.raises(EngineError, match="no"):
        Client(peer.address).call("POST", "/build", body=(bytes(1 << 16) for _ in range(50)))


def test_objects_need_no_line_ends(peer: Peer) -> None:
    body = '{"a":1}{"b":"é"}\r\n{"c":[3]}\n'.encode()

    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for at in range(len(body)):
            connection.sendall(body[at : at + 1])

    peer.will(script)
    assert list(Client(peer.address).call("GET", "/events").objects()) == [{"a": 1}, {"b": "é"}, {"c": [3]}]


def test_hijacked_connections_go_both_ways_after_half_close(peer: Peer) -> None:
    def script(connection: socket.socket) -> None:
        peer.requests.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nfirst ")
        received = b""
        while part := connection.recv(100):
            received += part
        connection.sendall(b"last " + received)

    peer.will(script)
    stream = Client(peer.address).hijack("/containers/x/attach", {"stream": True})
    assert stream.pending
    assert stream.receive() == b"first "
    assert stream.send_some(b"input") == 5
    stream.end_input()
    assert stream.receive() == b"last input"
    assert stream.receive() == b""
    assert b"Upgrade: tcp\r\n" in peer.requests[0]
    stream.close()


def test_no_daemon_says_where_and_what_to_do(tmp_path: object) -> None:
    address = Address(path=f"{tmp_path}/none", foreign=True, source="DOCKER_HOST")
    with pytest.raises(DaemonUnreachable) as refused:
        Client(address).get("/version")
    text = str(refused.value)
    assert f"unix://{tmp_path}/none" in text and "DOCKER_HOST" in text and "daemon running" in text


def test_tcp_is_spoken_too() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            read_request(connection)
            connection.sendall(ok(b'"tcp"'))

    import threading

    thread = threading.Thread(target=serve)
    thread.start()
    address = Address(host="127.0.0.1", port=listener.getsockname()[1], foreign=True)
    assert Client(address).get("/x") == "tcp"
    thread.join()
    listener.close()


def test_queries_and_paths_are_encoded() -> None:
    assert encode_query({}) == ""
    assert encode_query({"a": "x y/ü", "b": True, "c": False, "d": None, "n": 0}) == "?a=x%20y%2F%C3%BC&b=1&n=0"
    assert encode_query({"t": ["a:1", "b"], "filters": {"label": ["x"]}}) == (
        "?t=a%3A1&t=b&filters=%7B%22label%22%3A%20%5B%22x%22%5D%7D"
    )
    assert quote_path("host:5000/a/b@sha256:ff ?") == "host:5000/a/b@sha256:ff%20%3F"
