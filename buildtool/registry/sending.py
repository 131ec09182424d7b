"""A file as a body: from the page cache to the socket by sendfile(2), without passing Python.

Only to a socket that is not encrypted; else the bytes are read and written as usual. What the server answers in the
middle of it is read meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import time
from collections.abc import Callable

from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter

from buildtool.registry.errors import RegistryUnreachable
from buildtool.registry.work import in_thread, settled

CHUNK = 1 << 20
_PIECE = 4 << 20
_WAIT = 200
SILENCE = 300.0
"""Seconds after which a peer that takes nothing is given up: it keeps a thread."""


class FileBody(payload.Payload):
    """Bytes `start` to `end` of an open file; `report` is called on the loop with the position that is reached."""

    def __init__(self, fd: int, start: int, end: int, report: Callable[[int], None]) -> None:
        super().__init__(fd, content_type="application/octet-stream")
        self._size = end - start
        self._fd, self._start, self._end = fd, start, end
        self._report = report
        self._begun = False

    @property
    def consumed(self) -> bool:
        """aiohttp sends some requests twice: one of which the server has seen a part is not its to decide about."""
        return self._begun

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """No text."""
        raise TypeError("a file of bytes")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Raises OSError, RegistryUnreachable."""
        self._begun = True
        transport: asyncio.WriteTransport | None = getattr(writer, "transport", None)
        writer.send_headers()
        encrypted = transport is None or transport.get_extra_info("sslcontext") is not None
        if transport is None or encrypted or transport.get_write_buffer_size():
            await self._write(writer)
            return
        await send_file(transport, self._fd, self._start, self._end, self._report)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """As `write`: the length is always the file's."""
        await self.write(writer)

    async def _write(self, writer: AbstractStreamWriter) -> None:
        position = self._start
        while position < self._end:
            data = await settled(os.pread, self._fd, min(CHUNK, self._end - position), position)
            if not data:
                raise RegistryUnreachable("the blob became shorter while it was sent")
            await writer.write(data)
            position += len(data)
            self._report(position)


async def send_file(
    transport: asyncio.BaseTransport, fd: int, start: int, end: int, report: Callable[[int], None] | None = None
) -> None:
    """Bytes `start` to `end` of a file, to a plain socket whose transport has nothing more to write.

    In a thread: a file that is not in memory would hold up the loop. Raises OSError (also for a peer that takes
    nothing for `SILENCE` seconds), RegistryUnreachable.
    """
    loop = asyncio.get_running_loop()
    own = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    def work() -> None:
        poll = select.poll()
        poll.register(own, select.POLLOUT)
        position, moved = start, time.monotonic()
        while position < end and not stopped:
            if not poll.poll(_WAIT):
                if time.monotonic() - moved > SILENCE:
                    raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
                continue
            try:
                sent = os.sendfile(own.fileno(), fd, position, min(_PIECE, end - position))
            except BlockingIOError:
                continue
            if not sent:
                raise RegistryUnreachable("the blob became shorter while it was sent")
            position, moved = position + sent, time.monotonic()
            if report is not None:
                loop.call_soon_threadsafe(report, position)

    with own:
        own.setblocking(False)
        await in_thread(work, "send", stop=stop)
