"""`RUN --mount=type=ssh`: a socket in the step whose connections lead to an agent elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol


class Channel(Protocol):
    """One connection to an agent."""

    async def read(self) -> bytes:
        """The next bytes; b"" at the end."""

    async def write(self, data: bytes) -> None:
        """Send bytes. Raises ConnectionError when the agent is gone."""

    async def end(self) -> None:
        """Nothing more will be written."""

    async def close(self) -> None:
        """Both directions are done with."""


Dial = Callable[[], Awaitable[Channel]]
"""Opens a connection to an agent. Raises ConnectionError when there is none any more."""


class AgentSocket:
    """A unix socket at `path`, there from the beginning, answered while it is entered. `close` removes it."""

    def __init__(self, path: Path, dial: Dial) -> None:
        self.path = path
        self._dial = dial
        self._socket = _listen(path)
        self._connections: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AgentSocket:
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        tasks = [task for task in (self._accepting, *self._connections) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    def close(self) -> None:
        """Remove it, from any thread. While it is entered the loop watches the socket: leaving closes that."""
        if self._accepting is None:
            self._socket.close()
        self.path.unlink(missing_ok=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._socket)
            task = asyncio.create_task(self._serve(connection))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.setblocking(False)
            try:
                channel = await self._dial()
            except ConnectionError:
                return
            try:
                there = asyncio.create_task(_forward(connection, channel))
                back = asyncio.create_task(_backward(channel, connection))
                try:
                    await back
                finally:
                    for task in (there, back):
                        task.cancel()
                    await asyncio.gather(there, back, return_exceptions=True)
            finally:
                await channel.close()


async def _forward(connection: socket.socket, channel: Channel) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(connection, 65536):
            await channel.write(data)
    with contextlib.suppress(ConnectionError):
        await channel.end()


async def _backward(channel: Channel, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while data := await channel.read():
            await loop.sock_sendall(connection, data)


def _listen(path: Path) -> socket.socket:
    """Listen at a path of any length."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        listener.listen(16)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(directory)
    return listener
