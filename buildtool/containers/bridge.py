"""Bytes from a worker thread to the event loop, a few blocks at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager

_DEPTH = 4
_BLOCK = 1 << 18


class Drain:
    """What a thread produces, as an async iterator. Closing it early makes the thread's next block fail.

    `held` is a context already entered, left when the thread has ended.
    """

    def __init__(
        self,
        start: Callable[[Callable[[bytes], None]], Future[None]],
        held: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(_DEPTH)
        self._closed = False
        self._result = start(self._emit)
        self._held = held
        self._result.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._finished))

    def _finished(self) -> None:
        self._queue.put_nowait(None)
        if self._held is not None:
            self._release = self._loop.create_task(_leave(self._held))

    @classmethod
    def of(cls, pieces: Callable[[], Iterator[bytes]]) -> Drain:
        """What an iterator gives, iterated in a thread of its own."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="drain")
        try:
            return cls(lambda emit: thread.submit(emit_blocks, pieces, emit))
        finally:
            thread.shutdown(wait=False)

    def _emit(self, block: bytes) -> None:
        self._room.acquire()
        if self._closed:
            raise ConnectionAbortedError("nobody reads the archive any more")
        self._loop.call_soon_threadsafe(self._queue.put_nowait, block)

    def __aiter__(self) -> Drain:
        return self

    async def __anext__(self) -> bytes:
        block = await self._queue.get()
        if block is None:
            self._queue.put_nowait(None)
            self._result.result()
            raise StopAsyncIteration
        self._room.release()
        return block

    async def failed(self) -> None:
        """Wait for the thread's end; raises what it raised."""
        await asyncio.shield(asyncio.wrap_future(self._result))

    async def aclose(self) -> None:
        """Stop the thread."""
        self._closed = True
        for _ in range(_DEPTH):
            self._room.release()


def emit_blocks(pieces: Callable[[], Iterator[bytes]], emit: Callable[[bytes], None]) -> None:
    """Hand on many small pieces as few blocks."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces():
        gathered.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            emit(b"".join(gathered))
            gathered, size = [], 0
    if gathered:
        emit(b"".join(gathered))


async def _leave(context: AbstractAsyncContextManager[object]) -> None:
    await context.__aexit__(None, None, None)
