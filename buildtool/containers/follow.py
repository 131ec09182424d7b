"""A container's log as an async stream, once or followed until the container stops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import BinaryIO

from buildtool.aio import offload
from buildtool.containers import times
from buildtool.containers.inotify import Watch
from buildtool.containers.logs import BLOCK, LogOptions, Renderer, open_log, read_blocks


async def stream(path: Path, options: LogOptions, stopped: Awaitable[object] | None) -> AsyncGenerator[bytes]:
    """The log as blocks of frames (raw bytes with `options.raw`).

    With `stopped`, goes on after the end of the file until that is done and everything written before is delivered.
    Rotation while following is seen: the old file is read to its end, then the new one.
    """
    if stopped is None:
        async with aclosing(_once(path, options)) as blocks:
            async for block in blocks:
                yield block
        return
    ending = asyncio.ensure_future(stopped)
    try:
        async with aclosing(_followed(path, options, ending)) as blocks:
            async for block in blocks:
                yield block
    finally:
        ending.cancel()


def until_now(path: Path, options: LogOptions) -> AsyncGenerator[bytes]:
    """The log as it is at this call, however much is written before it is read."""
    try:
        end = path.stat().st_size
    except FileNotFoundError:
        end = 0
    return _once(path, options, end)


async def _once(path: Path, options: LogOptions, end: int | None = None) -> AsyncGenerator[bytes]:
    with ExitStack() as stack:
        files = [stack.enter_context(file) for file in await offload(open_log, path)]
        renderer = Renderer(options)
        blocks = read_blocks(files, options.tail, since=options.since, end=end)
        while (rendered := await offload(_next, blocks, renderer)) is not None:
            if rendered:
                yield rendered


async def _followed(path: Path, options: LogOptions, ending: asyncio.Future[object]) -> AsyncGenerator[bytes]:
    with ExitStack() as stack:
        watch = stack.enter_context(Watch(path))
        files = [stack.enter_context(file) for file in await offload(open_log, path)]
        renderer = Renderer(options)
        blocks = read_blocks(files, options.tail, since=options.since)
        while (rendered := await offload(_next, blocks, renderer)) is not None:
            if rendered:
                yield rendered
        follower = _Follower(path, files[-1] if files else None, watch, stack)
        ending.add_done_callback(lambda _: watch.wake())
        while not renderer.finished:
            last = ending.done()
            async for block in follower.read():
                if rendered := renderer.render(block):
                    yield rendered
            if last or (options.until and times.now() >= options.until):
                return
            await _wait(watch, options.until)


def _next(blocks: Iterator[bytes], renderer: Renderer) -> bytes | None:
    block = b"" if renderer.finished else next(blocks, b"")
    return renderer.render(block) if block else None


class _Follower:
    """Reads what is new, going over to the file of the same name when the log was rotated."""

    def __init__(self, path: Path, file: BinaryIO | None, watch: Watch, stack: ExitStack) -> None:
        self._path, self._file, self._watch, self._stack = path, file, watch, stack

    async def read(self) -> AsyncIterator[bytes]:
        """Everything new until now."""
        while True:
            if self._file is not None:
                while block := self._file.read(BLOCK):
                    yield block
            if not self._replaced():
                return

    def _replaced(self) -> bool:
        try:
            current = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is not None:
            own = _fstat(self._file)
            if own == (current.st_dev, current.st_ino):
                return False
        self._file = self._stack.enter_context(self._path.open("rb"))
        self._watch.renew()
        return True


def _fstat(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


async def _wait(watch: Watch, until: int) -> None:
    if not until:
        await watch.changed()
        return
    try:
        await asyncio.wait_for(watch.changed(), max(0.0, (until - times.now()) / times.SECOND))
    except TimeoutError:
        return
