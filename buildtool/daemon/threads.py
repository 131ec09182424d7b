"""Bodies for code that blocks: a file to read a request from, a function to write an answer with, each used in a
thread of its own.

A slow client holds up such a thread, so these never use the shared pool of `offload`.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import BinaryIO, TypeVar, cast

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from buildtool.daemon.answers import Stream, abort, message_of
from buildtool.daemon.call import Call
from buildtool.errors import InvalidInput

R = TypeVar("R")
T = TypeVar("T")

_BATCH = 256 * 1024


async def in_own_thread(work: Callable[[], R], name: str = "stream") -> R:
    """Run blocking work in a new thread. A cancelled caller waits no longer; the work then meets a closed
    connection."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def settle(result: R | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(cast(R, result))
        elif isinstance(error, StopIteration):
            future.set_exception(RuntimeError("StopIteration left the work"))
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001 - handed to the caller as it is
            error = caught
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future


class BodyReader(io.RawIOBase):
    """The body of a request as a file, for one thread. Made on the loop, read off it."""

    def __init__(self, request: web.BaseRequest, first: bytes = b"") -> None:
        super().__init__()
        self._content = request.content
        self._loop = asyncio.get_running_loop()
        self._rest = memoryview(first)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer with what has come. Raises InvalidInput when the client broke off."""
        if not self._rest:
            self._rest = memoryview(self._next())
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _next(self) -> bytes:
        try:
            return asyncio.run_coroutine_threadsafe(self._content.readany(), self._loop).result()
        except (ConnectionError, RequestPayloadError, asyncio.CancelledError, EOFError) as error:
            raise InvalidInput(f"the request's body broke off: {error or 'the connection was closed'}") from None


def body_file(request: web.BaseRequest, first: bytes = b"") -> BinaryIO:
    """The request's body (after `first`, already read from it) as a buffered binary file for another thread."""
    return cast(BinaryIO, io.BufferedReader(BodyReader(request, first), _BATCH))


class StreamWriter:
    """Collects small writes of a thread and sends them; raises ConnectionError there when the client is gone."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send, at the latest with `flush`."""
        self._parts.append(bytes(data))
        self._size += len(data)
        if self._size >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Send what is held; waits until the connection takes it."""
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        try:
            asyncio.run_coroutine_threadsafe(self._stream.write(data), self._loop).result()
        except asyncio.CancelledError:
            raise ConnectionResetError("the client has closed the connection") from None


async def written(
    call: Call, content_type: str, write: Callable[[Callable[[bytes], None]], None]
) -> web.StreamResponse:
    """An answer that blocking code writes, with the function it is given. An error before its first bytes is an error
    answer; a later one cuts the connection."""
    stream = Stream(call, content_type)
    writer = StreamWriter(stream)

    def work() -> None:
        write(writer.write)
        writer.flush()

    try:
        await in_own_thread(work, "answer")
    except Exception as error:
        if not stream.begun:
            raise
        message_of(error)
        abort(call)
    return stream.response


async def iterate(make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """The items of a blocking iterator that runs in a thread of its own, one step ahead at most.

    Closing this iterator early closes the blocking one at its next item.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[T] = asyncio.Queue(maxsize=64)
    stopped = threading.Event()

    def pump() -> None:
        for item in make():
            if stopped.is_set():
                return
            asyncio.run_coroutine_threadsafe(queue.put(item), loop).result()

    worker = asyncio.ensure_future(in_own_thread(pump))
    try:
        while True:
            getter = asyncio.ensure_future(queue.get())
            try:
                await asyncio.wait([getter, worker], return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not getter.done():
                    getter.cancel()
            if getter.done() and not getter.cancelled():
                yield getter.result()
                continue
            while not queue.empty():
                yield queue.get_nowait()
            await worker
            return
    finally:
        stopped.set()
        while not queue.empty():
            queue.get_nowait()
        worker.cancel()
