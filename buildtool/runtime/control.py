"""The daemon's end of a shim's socket: calls, events and attach streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from buildtool.errors import BuildtoolError, CommandNotExecutable, CommandNotFound, Conflict, NotFound, Unavailable

Message = dict[str, Any]
_ERRORS: dict[str, type[BuildtoolError]] = {
    "not_found": CommandNotFound,
    "not_executable": CommandNotExecutable,
    "gone": NotFound,
    "state": Conflict,
    "unavailable": Unavailable,
}


def error_of(answer: Message) -> BuildtoolError:
    """The exception that an error answer stands for."""
    return _ERRORS.get(answer["kind"], BuildtoolError)(answer["message"])


def open_shim_socket(bundle_dir: Path) -> socket.socket | None:
    """A connection to the shim of that bundle; None when there is none (any more)."""
    try:
        directory = os.open(bundle_dir, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"/proc/self/fd/{directory}/shim.sock")
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory)
    connection.setblocking(False)
    return connection


async def connect_shim(bundle_dir: Path) -> Connection | None:
    """A control connection to the shim of that bundle; None when there is none (any more)."""
    connection = open_shim_socket(bundle_dir)
    return None if connection is None else await Connection.open(connection)


class Connection:
    """One control connection: concurrent calls, and events to a callback."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._next = 1
        loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[Message]] = {0: loop.create_future()}
        self.ended: asyncio.Future[None] = loop.create_future()
        self.on_event: Callable[[Message], None] = lambda _event: None
        self._pump = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, connection: socket.socket) -> Connection:
        return cls(*await asyncio.open_unix_connection(sock=connection, limit=16 * 1024 * 1024))

    async def first_answer(self) -> Message:
        """The answer to the creation, which the spawner's request asked for."""
        return await self._waiting[0]

    async def call(self, op: str, **arguments: Any) -> Message:
        """One operation; raises the error that it ends with, NotFound when the shim is gone."""
        if self.ended.done():
            raise NotFound("the container has ended")
        number, self._next = self._next, self._next + 1
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
            return await future
        except ConnectionError as error:
            raise NotFound("the container has ended") from error
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        self._pump.cancel()
        self._writer.close()

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                message = json.loads(line)
                if "event" in message:
                    self.on_event(message)
                    continue
                future = self._waiting.get(message["id"])
                if future is None or future.done():
                    continue
                if "error" in message:
                    future.set_exception(error_of(message["error"]))
                else:
                    future.set_result(message["ok"])
        except (OSError, ValueError):  # the shim died in the middle of a line
            pass
        finally:
            self._end()

    def _end(self) -> None:
        for number, future in self._waiting.items():
            if not future.done():
                future.set_exception(NotFound("the container has ended"))
                if number == 0:
                    future.exception()  # nobody waits for it after the creation
        if not self.ended.done():
            self.ended.set_result(None)
        with contextlib.suppress(RuntimeError):  # the loop is closing
            self._writer.close()
