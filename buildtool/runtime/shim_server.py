# ruff: noqa: PTH101, PTH108
"""The shim's socket: control connections with JSON lines, and those that become attach streams."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

from buildtool.runtime.loop import IN, Loop
from buildtool.runtime.process import StartError

Spec = dict[str, Any]
SOCKET_NAME = "shim.sock"


class Control:
    """One control connection; it gets events once it has asked for the state."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = b""
        self.subscribed = False

    def send(self, message: Spec) -> None:
        """Send without ever blocking the shim: a peer that does not read its answers is cut off."""
        if self.connection.fileno() < 0:
            return
        data = json.dumps(message).encode() + b"\n"
        try:
            if self.connection.send(data) != len(data):
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def answer(self, request: Spec, answer: Spec) -> None:
        self.send({"id": request["id"], "ok": answer})

    def refuse(self, request: Spec, error: StartError | OSError) -> None:
        """Answer with an error; its kind tells the client which exception to raise."""
        kind = error.kind if isinstance(error, StartError) else "other"
        text = str(error) if isinstance(error, StartError) else os_text(error)
        self.send({"id": request["id"], "error": {"kind": kind, "message": text}})


class Server:
    """Accepts connections in the bundle's directory and hands their requests to `handle`.

    `handle(control, request)` returns the answer, or None when it answers later (or took the connection over with
    `release`). `dropped(control)` hears of connections that ended.
    """

    def __init__(self, loop: Loop, directory: str) -> None:
        self._loop = loop
        self._directory = directory
        self._controls: dict[int, Control] = {}
        self._listener: socket.socket | None = None
        self.handle: Callable[[Control, Spec], Spec | None] = lambda _control, _request: {}
        self.dropped: Callable[[Control], None] = lambda _control: None

    def listen(self) -> None:
        path = f"{self._directory}/{SOCKET_NAME}"
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._listener.bind(f"/proc/self/fd/{fd}/{SOCKET_NAME}")  # the path itself may be longer than a socket's name
        os.close(fd)
        os.chmod(path, 0o600)
        self._listener.listen(64)
        self._loop.watch(self._listener.fileno(), IN, self._accept)

    def stop(self) -> None:
        """Take no further connections; those there are stay."""
        if self._listener is None:
            return
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._listener = None
        try:
            os.unlink(f"{self._directory}/{SOCKET_NAME}")
        except FileNotFoundError:
            return

    def add(self, connection: socket.socket) -> Control:
        """Serve a connection."""
        connection.setblocking(False)
        control = Control(connection)
        self._controls[connection.fileno()] = control
        self._loop.watch(connection.fileno(), IN, lambda _events: self._on_ready(control))
        return control

    def release(self, control: Control) -> socket.socket:
        """Stop serving a connection: it becomes something else."""
        fd = control.connection.fileno()
        self._loop.forget(fd)
        self._controls.pop(fd, None)
        return control.connection

    def broadcast(self, event: Spec) -> None:
        for control in list(self._controls.values()):
            if control.subscribed:
                control.send(event)

    def _accept(self, _events: int) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:  # taken back, or no descriptors left: the client tries again
            return
        self.add(connection)

    def _drop(self, control: Control) -> None:
        self.release(control).close()
        self.dropped(control)

    def _on_ready(self, control: Control) -> None:
        try:
            data = control.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(control)
            return
        control.buffer += data
        while b"\n" in control.buffer and control.connection.fileno() in self._controls:
            line, control.buffer = control.buffer.split(b"\n", 1)
            self._dispatch(control, line)

    def _dispatch(self, control: Control, line: bytes) -> None:
        try:
            request = json.loads(line)
            answer = self.handle(control, request)
        except (StartError, OSError) as error:
            control.refuse(request, error)
        except (ValueError, KeyError, TypeError):  # not one of our clients
            self._drop(control)
        else:
            if answer is not None:
                control.answer(request, answer)


def os_text(error: OSError) -> str:
    """A system error as part of a message."""
    what = f"{error.filename}: " if error.filename else ""
    return f"{what}{(error.strerror or str(error)).lower()}"
