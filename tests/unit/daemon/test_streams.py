"""Bodies between the event loop and threads, and the lives of handlers whose client goes away."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from buildtool.daemon.answers import Stream, json_answer
from buildtool.daemon.call import Call
from buildtool.daemon.routing import Routes
from buildtool.daemon.threads import StreamWriter, body_file, in_own_thread, iterate
from buildtool.errors import InvalidInput


async def test_a_thread_reads_a_large_body_and_writes_a_large_answer(serve: Any) -> None:
    routes = Routes()

    @routes.add("POST", "/echo", stream=True)
    async def echo(call: Call) -> web.StreamResponse:
        stream, file = Stream(call, "application/octet-stream"), body_file(call.request)
        writer = StreamWriter(stream)

        def work() -> None:
            while block := file.read(100_000):
                writer.write(hashlib.sha256(block).digest() * (len(block) // 32))
            writer.flush()

        await in_own_thread(work)
        return stream.response

    served = await serve(routes)
    payload = bytes(5_000_000)
    head, body = await served.ask(b"POST /echo HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(payload), payload))

    assert b" 200 OK" in head
    assert len(body) == 50 * 32 * (100_000 // 32)


async def test_a_body_that_breaks_off_ends_the_thread_with_an_error(serve: Any) -> None:
    routes, errors = Routes(), []
    done = asyncio.Event()

    @routes.add("POST", "/read")
    async def read(call: Call) -> web.StreamResponse:
        file = body_file(call.request)
        try:
            await in_own_thread(file.read)
        except InvalidInput as error:
            errors.append(str(error))
            raise
        finally:
            done.set()
        return json_answer({})

    served = await serve(routes)
    _, writer = await served.connect()
    writer.write(b"POST /read HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\npart")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()

    await asyncio.wait_for(done.wait(), 5)
    assert errors and "broke off" in errors[0]


async def test_plain_handlers_finish_and_streams_end_when_the_client_goes(serve: Any) -> None:
    routes = Routes()
    ended: list[str] = []
    both = asyncio.Event()

    async def work(name: str, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
            ended.append(f"{name} finished")
        except asyncio.CancelledError:
            ended.append(f"{name} cancelled")
            raise
        finally:
            if len(ended) == 2:
                both.set()

    @routes.add("POST", "/plain")
    async def plain(call: Call) -> web.StreamResponse:
        await work("plain", 0.3)
        return json_answer({})

    @routes.add("GET", "/stream", stream=True)
    async def stream(call: Call) -> web.StreamResponse:
        await Stream(call, "text/plain").open()
        await work("stream", 30)
        return json_answer({})

    served = await serve(routes)
    for request in (b"POST /plain", b"GET /stream"):
        _, writer = await served.connect()
        writer.write(request + b" HTTP/1.1\r\nHost: d\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    await asyncio.wait_for(both.wait(), 5)
    assert sorted(ended) == ["plain finished", "stream cancelled"]


async def test_iterating_a_blocking_iterator() -> None:
    def numbers() -> Iterator[int]:
        yield from range(500)

    assert [number async for number in iterate(numbers)] == list(range(500))


async def test_errors_of_a_blocking_iterator_come_after_its_items() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise InvalidInput("bad archive")

    found = []
    with pytest.raises(InvalidInput, match="bad archive"):
        async for number in iterate(failing):
            found.append(number)
    assert found == [1]


async def test_leaving_early_closes_the_blocking_iterator() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                time.sleep(0.001)
                yield 1
        finally:
            closed.set()

    iterator = iterate(endless)
    async for _ in iterator:
        break
    await iterator.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0.2)
    assert closed.is_set()
