"""Attaching to a container's streams: before or after its start, with its log in front, with detach keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from buildtool.containers.detach import DetachScanner


class Stream(Protocol):
    """What the runtime's attachments do."""

    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    def close_stdin(self) -> None: ...
    def close(self) -> None: ...


class Attachment:
    """One client's connection to a process's streams.

    Reading gives frames (raw bytes with a terminal) until b"". Before the process exists reading and writing wait for
    it. `detached` tells that the detach keys ended it; `history` is given out before the live output.
    """

    def __init__(
        self,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
        detach_keys: bytes = b"",
        on_close: Callable[[Attachment], None] | None = None,
    ) -> None:
        self.stdin, self.stdout, self.stderr, self.tty = stdin, stdout, stderr, tty
        self.detached = False
        self.history: AsyncIterator[bytes] | None = None
        self._scanner = DetachScanner(detach_keys) if tty and stdin and detach_keys else None
        self._stream: asyncio.Future[Stream | None] = asyncio.get_running_loop().create_future()
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_close = on_close

    @property
    def bound(self) -> bool:
        """Whether the process is there (or will never be)."""
        return self._stream.done()

    def bind(self, stream: Stream | None) -> None:
        """The process's streams; None when there will be none: reading ends."""
        if not self._stream.done():
            self._stream.set_result(stream)

    async def read(self) -> bytes:
        """The next output, b"" at its end or after closing."""
        if self.history is not None:
            block = await anext(self.history, b"")
            if block:
                return block
            self.history = None
        stream = await self._connected()
        if stream is None or self._closing.done():
            return b""
        reading = asyncio.ensure_future(stream.read())
        await asyncio.wait((reading, self._closing), return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            return reading.result()
        reading.cancel()
        return b""

    async def write(self, data: bytes) -> None:
        """Send input. What arrives after the end is dropped; the detach keys close the attachment."""
        detach = False
        if self._scanner is not None:
            data, detach = self._scanner.feed(data)
        stream = await self._connected() if data else None
        if stream is not None and data:
            try:
                await stream.write(data)
            except (BrokenPipeError, ConnectionResetError):
                return
        if detach:
            self.detached = True
            await self.close()

    async def close_stdin(self) -> None:
        """The client has no more input."""
        stream = await self._connected()
        if stream is not None and not self._closing.done():
            if self._scanner is not None and (held := self._scanner.flush()):
                await stream.write(held)
            stream.close_stdin()

    async def close(self) -> None:
        """Let go; the process goes on. Idempotent."""
        if self._closing.done():
            return
        self._closing.set_result(None)
        if self._on_close is not None:
            self._on_close(self)
        stream = self._stream.result() if self._stream.done() else None
        self.bind(None)
        if stream is not None:
            stream.close()

    async def _connected(self) -> Stream | None:
        if not self._stream.done():
            await asyncio.wait((self._stream, self._closing), return_when=asyncio.FIRST_COMPLETED)
        return self._stream.result() if self._stream.done() else None
