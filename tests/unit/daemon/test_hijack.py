"""Requests that take over their connection, byte for byte."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from buildtool.daemon import answers, attach
from buildtool.daemon.call import Call
from buildtool.daemon.routing import Routes

LEGACY = b"POST /containers/abc/attach?stream=1 HTTP/1.1\r\nHost: d\r\n\r\n"
UPGRADE = LEGACY.replace(b"/c", b"/v1.43/c").replace(b": d", b": d\r\nConnection: Upgrade\r\nUpgrade: tcp")


class Echo:
    """An attachment that gives back what it is sent, upper-cased, and `end` when stdin was closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.closed = False
        self.detached = False

    async def read(self) -> bytes:
        return await self.queue.get()

    async def write(self, data: bytes) -> None:
        self.queue.put_nowait(data.upper())

    async def close_stdin(self) -> None:
        self.queue.put_nowait(b"end")
        self.queue.put_nowait(b"")

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def routes() -> Routes:
    routes = Routes()
    echoes: list[Echo] = []
    routes.echoes = echoes  # type: ignore[attr-defined]

    @routes.add("POST", "/containers/{id}/attach", stream=True)
    async def attach_it(call: Call) -> web.StreamResponse:
        raw = call.hijack()
        echo = Echo()
        echoes.append(echo)
        attach.begin(raw, tty=False)
        return await attach.serve(raw, echo, stdin=True)

    @routes.add("POST", "/exec/{id}/start", stream=True)
    async def start(call: Call) -> web.StreamResponse:
        body = await call.json()
        if body.get("Detach"):
            return answers.json_answer(body)
        raw = call.hijack()
        echo = Echo()
        await echo.write(str(body["Tty"]).encode())
        attach.begin(raw, tty=True)
        return await attach.serve(raw, echo, stdin=True)

    @routes.add("GET", "/_ping")
    async def ping(call: Call) -> web.StreamResponse:
        return answers.text_answer("OK")

    return routes


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)


async def test_upgrade_is_answered_with_101_and_half_close_keeps_output(serve: Any, routes: Routes) -> None:
    served = await serve(routes)
    reader, writer = await served.connect()
    writer.write(UPGRADE)

    head = await read_head(reader)
    writer.write(b"one")
    first = await reader.readexactly(3)
    writer.write_eof()
    rest = await asyncio.wait_for(reader.read(), 5)

    assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    assert b"Upgrade: tcp\r\n" in head
    assert b"application/vnd.docker.multiplexed-stream" in head
    assert (first, rest) == (b"ONE", b"end")
    writer.close()


@pytest.mark.parametrize("request_head", [UPGRADE, LEGACY])
async def test_bytes_and_half_close_in_the_segment_of_the_request_are_kept(
    serve: Any, routes: Routes, request_head: bytes
) -> None:
    served = await serve(routes)
    reader, writer = await served.connect()
    writer.write(request_head + b"GET / HTTP/1.1\r\n\r\n")
    writer.write_eof()

    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 101" if request_head is UPGRADE else b"HTTP/1.1 200 OK")
    kind = b"multiplexed-stream" if request_head is UPGRADE else b"raw-stream"
    assert b"\r\nContent-Type: application/vnd.docker." + kind in head
    assert body == b"GET / HTTP/1.1\r\n\r\nend"
    writer.close()


async def test_request_in_pieces_of_one_byte(serve: Any, routes: Routes) -> None:
    body = b'{"Tty": true}'
    request = (
        b"POST /v1.50/exec/e1/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    served = await serve(routes)
    reader, writer = await served.connect()
    for byte in request + b"xyz":
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    writer.write_eof()

    answer = await asyncio.wait_for(reader.read(), 5)

    assert b"application/vnd.docker.raw-stream" in answer
    assert answer.endswith(b"\r\n\r\nTRUEXYZend")
    writer.close()


async def test_connection_is_reused_before_a_hijack_and_after_one_that_was_not_needed(
    serve: Any, routes: Routes
) -> None:
    served = await serve(routes)
    reader, writer = await served.connect()
    ping = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
    detach = (
        b"POST /exec/e/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
        b'{"Detach": true}'
    )

    for request in (ping, detach, ping):
        writer.write(request)
        assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"OK" if request is ping else b"\n")
    writer.write(UPGRADE)
    assert (await read_head(reader)).startswith(b"HTTP/1.1 101")
    writer.write(b"x")
    assert await reader.readexactly(1) == b"X"
    writer.close()


async def test_a_client_that_goes_away_detaches(serve: Any, routes: Routes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildtool.daemon.hijack._ORPHAN_CHECK_SECONDS", 0.05)
    monkeypatch.setattr(Echo, "close_stdin", Echo.close)
    served = await serve(routes)
    reader, writer = await served.connect()
    writer.write(UPGRADE)
    await read_head(reader)

    writer.close()

    for _ in range(100):
        if not served.dispatcher.in_flight:
            break
        await asyncio.sleep(0.02)
    assert served.dispatcher.in_flight == 0
    assert routes.echoes[0].closed  # type: ignore[attr-defined]


async def test_large_input_waits_for_a_slow_reader_and_arrives_whole(serve: Any) -> None:
    routes, received = Routes(), []

    class Slow(Echo):
        async def write(self, data: bytes) -> None:
            await asyncio.sleep(0.001)
            received.append(data)

    @routes.add("POST", "/containers/{id}/attach", stream=True)
    async def attach_it(call: Call) -> web.StreamResponse:
        raw = call.hijack()
        attach.begin(raw, tty=False)
        return await attach.serve(raw, Slow(), stdin=True)

    served = await serve(routes)
    reader, writer = await served.connect()
    payload = bytes(range(256)) * 32 * 1024

    writer.write(UPGRADE + payload)
    await writer.drain()
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 20)

    assert answer.endswith(b"end")
    assert b"".join(received) == payload
    writer.close()


async def test_malformed_requests_get_json_errors(serve: Any, routes: Routes) -> None:
    served = await serve(routes)
    head, body = await served.ask(b"GARBAGE\r\n\r\n")
    assert b" 400 Bad Request\r\n" in head
    assert body.startswith(b'{"message":')

    chunked = LEGACY.replace(b": d", b": d\r\nConnection: close\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n"
    head, body = await served.ask(chunked)
    assert head.startswith(b"HTTP/1.1 400")
    assert b"take over its connection" in body


async def test_web_socket_carries_the_same_bytes(serve: Any) -> None:
    routes = Routes()

    @routes.add("GET", "/containers/{id}/attach/ws", stream=True)
    async def attach_ws(call: Call) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(call.request)
        return await attach.serve_websocket(socket, Echo())

    served = await serve(routes)
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(served.path)) as session,
        session.ws_connect("http://d/v1.43/containers/abc/attach/ws") as socket,
    ):
        await socket.send_bytes(b"bytes")
        assert await socket.receive_bytes(timeout=5) == b"BYTES"
        await socket.send_str("text")
        assert await socket.receive_bytes(timeout=5) == b"TEXT"
    head, body = await served.ask(b"GET /containers/a/attach/ws HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
    assert (head[:12], body[:11]) == (b"HTTP/1.1 400", b'{"message":')
