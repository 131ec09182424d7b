"""The daemon's end of a shim's socket: calls, events and attach streams."""

from __future__ import annotations

import asyncio
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
_READ = 1 << 18


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


def connect_shim(bundle_dir: Path) -> Connection | None:
    """A control connection to the shim of that bundle; None when there is none (any more)."""
    connection = open_shim_socket(bundle_dir)
    return None if connection is None else Connection(connection)


class Connection:
    """One control connection on a socket that does not block: concurrent calls, and events to a callback.

    It reads the socket itself: the layers of asyncio's streams cost as much as all else that a start takes here.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._received = bytearray()
        self._next = 1
        self._waiting: dict[int, asyncio.Future[Message]] = {0: self._loop.create_future()}
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.on_event: Callable[[Message], None] = lambda _event: None
        self._loop.add_reader(connection.fileno(), self._on_readable)

    async def first_answer(self) -> Message:
        """The answer to the creation, which the spawner's request asked for."""
        return await self._waiting[0]

    async def call(self, op: str, **arguments: Any) -> Message:
        """One operation; raises the error that it ends with, NotFound when the shim is gone."""
        if self.ended.done():
            raise NotFound("the container has ended")
        number, self._next = self._next, self._next + 1
        future: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[number] = future
        try:
            await self._send(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
            return await future
        finally:
            self._waiting.pop(number, None)

    async def _send(self, data: bytes) -> None:
        """Send a whole message, also when the caller is cancelled half-way: the next begins after it."""
        try:
            sent = 0 if self._sending.locked() else self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            raise NotFound("the container has ended") from error
        if sent < len(data):
            await asyncio.shield(self._loop.create_task(self._send_rest(data[sent:])))

    async def _send_rest(self, data: bytes) -> None:
        async with self._sending:
            try:
                await self._loop.sock_sendall(self._socket, data)
            except OSError as error:
                raise NotFound("the container has ended") from error

    def close(self) -> None:
        """Let go of the shim; calls that wait end with NotFound."""
        descriptor = self._socket.fileno()
        if descriptor >= 0:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
            self._socket.close()
        self._end()

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        while (end := self._received.find(b"\n")) >= 0:
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            try:
                self._take(json.loads(line))
            except ValueError:  # not one of our shims
                self.close()
                return

    def _take(self, message: Message) -> None:
        if "event" in message:
            self.on_event(message)
            return
        future = self._waiting.get(message["id"])
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(error_of(message["error"]))
        else:
            future.set_result(message["ok"])

    def _end(self) -> None:
        for number, future in self._waiting.items():
            if not future.done():
                future.set_exception(NotFound("the container has ended"))
                if number == 0:
                    future.exception()  # nobody waits for it after the creation
        if not self.ended.done():
            self.ended.set_result(None)
