"""A server with a few routes of its own on a real unix socket, without the services."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildtool.daemon.routing import Router, Routes
from buildtool.daemon.server import Dispatcher, make_server


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path is short enough for a socket's address."""
    path = Path(tempfile.mkdtemp(prefix="bt-daemon-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Served:
    """A running server and its socket."""

    def __init__(self, path: str, dispatcher: Dispatcher) -> None:
        self.path = path
        self.dispatcher = dispatcher

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Send a whole request with `Connection: close`; the head and the body of the answer."""
        reader, writer = await self.connect()
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head, body


@pytest.fixture
async def serve(short_dir: Path) -> AsyncIterator[Any]:
    """`await serve(routes)` gives a Served; all are ended after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(routes: Routes, services: Any = None) -> Served:
            path = str(short_dir / f"{len(os.listdir(short_dir))}.sock")
            dispatcher = Dispatcher(services, Router(routes))
            server = make_server(dispatcher)
            listener = await asyncio.get_running_loop().create_unix_server(server, path)

            async def end() -> None:
                listener.close()
                server.pre_shutdown()
                await server.shutdown(0.2)

            stack.push_async_callback(end)
            return Served(path, dispatcher)

        yield start
