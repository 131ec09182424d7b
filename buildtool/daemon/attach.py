"""Between a hijacked connection and what a container reads and writes."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import WSMsgType, web

from buildtool.daemon.answers import RAW, stream_type
from buildtool.daemon.hijack import Hijacked, RawConnection
from buildtool.daemon.negotiate import MAXIMUM, Version

_LINGER_SECONDS = 2.0  # a process may close its output long before it ends


class Attachment(Protocol):
    """What the services give: output to read, input to write. `detached` tells that the detach keys were typed."""

    detached: bool

    async def read(self) -> bytes:
        """The next bytes of output; b"" at its end."""

    async def write(self, data: bytes) -> None:
        """Send bytes to stdin."""

    async def close_stdin(self) -> None:
        """The client has sent its last byte."""

    async def close(self) -> None:
        """Detach."""


def begin(raw: RawConnection, *, tty: bool, version: Version = MAXIMUM) -> None:
    """Answer with the head of a stream. Who asks for no upgrade is told of one kind only, as by dockerd."""
    raw.begin(stream_type(version, tty=tty) if raw.upgrade else RAW)


async def serve(
    raw: RawConnection,
    attachment: Attachment,
    *,
    stdin: bool,
    ended: Callable[[], Awaitable[None]] | None = None,
) -> Hijacked:
    """After `begin`: carry bytes both ways until the output ends, or the client goes.

    The end of the client's input closes stdin and leaves the output flowing. After the output, the connection is
    closed when `ended` returns: clients ask for the exit code next.
    """
    tasks: list[asyncio.Task[None]] = []
    try:
        output = asyncio.create_task(_output(raw, attachment))
        gone = asyncio.create_task(raw.watch())
        tasks = [output, gone, asyncio.create_task(_input(raw, attachment if stdin else None))]
        await asyncio.wait([output, gone], return_when=asyncio.FIRST_COMPLETED)
        if ended is not None and output.done() and not attachment.detached:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended(), _LINGER_SECONDS)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(ConnectionError):
            await attachment.close()
        raw.close()
    return Hijacked()


async def tell(raw: RawConnection, text: str, *, tty: bool) -> Hijacked:
    """After `begin`: send this text as output, and that is all."""
    data = text.encode()
    await raw.write(data if tty else struct.pack(">BxxxL", 1, len(data)) + data)
    raw.close()
    return Hijacked()


async def serve_websocket(socket: web.WebSocketResponse, attachment: Attachment) -> web.WebSocketResponse:
    """The same over a web socket: its messages' bytes are the stream."""

    async def output() -> None:
        while data := await attachment.read():
            await socket.send_bytes(data)
        await socket.close()

    sender = asyncio.create_task(output())
    try:
        async for message in socket:
            if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                data = message.data
                await attachment.write(data.encode() if isinstance(data, str) else data)
    finally:
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
        await attachment.close()
    return socket


async def _output(raw: RawConnection, attachment: Attachment) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await attachment.read():
            await raw.write(data)


async def _input(raw: RawConnection, attachment: Attachment | None) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await raw.read():
            if attachment is not None:
                await attachment.write(data)
        if attachment is not None and not raw.lost.done():
            await attachment.close_stdin()
