"""The shim's side of standard streams: output to the log and to attached clients, input from them.

A client that reads slowly stops the container's output once a mebibyte waits for it; one that is gone never does.
Nothing a connected client should get is dropped.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from buildtool.runtime.loop import HUP, IN, OUT, Loop

_CHUNK = 64 * 1024
_HIGH_WATER = 1024 * 1024
_LOW_WATER = 256 * 1024
_HEADER = struct.Struct(">BxxxI")


class Log(Protocol):
    """Where output is logged."""

    def write(self, stream: int, data: bytes) -> None:
        """Log output of stream 1 or 2."""

    def close(self) -> None:
        """Write what waits for its newline, and let go."""


class Output:
    """Reads a process's output descriptors and hands every byte to the log and to the clients, in order."""

    def __init__(self, loop: Loop, *, tty: bool, log: Log | None) -> None:
        self.tty = tty
        self.clients: set[Client] = set()
        self._loop = loop
        self._log = log
        self._sources: dict[int, int] = {}
        self._paused = False
        self._draining = False
        self.on_end: Callable[[], None] = lambda: None

    @property
    def ended(self) -> bool:
        return not self._sources

    def add(self, fd: int, stream: int) -> None:
        """Take over a descriptor: stream 1 is stdout (or the terminal), 2 is stderr."""
        os.set_blocking(fd, False)
        self._sources[fd] = stream
        self._watch(fd)

    def drain(self) -> None:
        """The process has ended: read what is there without waiting for slow clients."""
        self._draining = True
        self._resume()
        for fd in list(self._sources):
            while fd in self._sources and self._read(fd):
                pass

    def finish(self) -> None:
        """Close what is still open (a process left behind may hold it), flush the log, let clients have the rest."""
        for fd in list(self._sources):
            self._close(fd)
        if self._log is not None:
            self._log.close()
            self._log = None
        for client in list(self.clients):
            client.finish()

    def resume(self) -> None:
        """A client took some of its backlog, or went away."""
        if self._paused and all(client.backlog <= _LOW_WATER for client in self.clients):
            self._resume()

    def listen_again(self) -> None:
        """The process took input: clients may send more."""
        for client in list(self.clients):
            client.update()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            for fd in self._sources:
                self._watch(fd)

    def _watch(self, fd: int) -> None:
        self._loop.watch(fd, IN, lambda _events: self._on_ready(fd))

    def _on_ready(self, fd: int) -> None:
        self._read(fd)

    def _read(self, fd: int) -> bool:
        """Pass one chunk on; whether there may be more at once."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last process has closed the terminal
            data = b""
        if not data:
            self._close(fd)
            return False
        stream = self._sources[fd]
        if self._log is not None:
            self._log.write(stream, data)
        for client in list(self.clients):
            client.send(stream, data)
        if not self._draining and any(client.backlog > _HIGH_WATER for client in self.clients):
            self._paused = True
            for source in self._sources:
                self._loop.forget(source)
        return True

    def _close(self, fd: int) -> None:
        self._loop.forget(fd)
        self._sources.pop(fd)
        os.close(fd)
        if not self._sources:
            self.on_end()


class Input:
    """Feeds a process's standard input from clients; holds at most a chunk that the process has not taken yet.

    Without a descriptor it holds what comes until `connect`.
    """

    def __init__(self, loop: Loop, fd: int = -1) -> None:
        self._loop = loop
        self._fd = -1
        self._waiting = fd < 0
        self._pending = b""
        self._closing = False
        if fd >= 0:
            self.connect(fd)
        self.on_room: Callable[[], None] = lambda: None

    @property
    def full(self) -> bool:
        return len(self._pending) >= _CHUNK

    def connect(self, fd: int) -> None:
        """Where the input goes from now on."""
        os.set_blocking(fd, False)
        self._fd, self._waiting = fd, False
        if self._pending or self._closing:
            self._flush()

    def write(self, data: bytes) -> None:
        """Pass bytes on; after the process closed its end they are dropped, as a pipe would."""
        if (self._fd >= 0 or self._waiting) and not self._closing:
            self._pending += data
            self._flush()

    def close(self) -> None:
        """End of input, once everything written before has been taken."""
        self._closing = True
        self._flush()

    def abandon(self) -> None:
        """The process has ended: drop everything."""
        self._pending = b""
        self.close()

    def _flush(self) -> None:
        if self._fd < 0:
            return
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._fd, self._pending) :]
        except BlockingIOError:
            self._loop.watch(self._fd, OUT, self._on_ready)
            return
        except OSError:  # nobody reads any more
            self._pending = b""
            self._closing = True
        self._loop.forget(self._fd)
        if self._closing:
            os.close(self._fd)
            self._fd = -1

    def _on_ready(self, events: int) -> None:
        if events & HUP and not events & OUT:
            self._pending, self._closing = b"", True
        was_full = self.full
        self._flush()
        if was_full and not self.full:
            self.on_room()


class Client:
    """One attached connection: frames (or a terminal's raw bytes) out, standard input in."""

    def __init__(
        self, loop: Loop, connection: socket.socket, output: Output, stdin: Input | None, streams: set[int]
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._fd = connection.fileno()
        self._output = output
        self._stdin = stdin
        self._streams = streams
        self._queue: deque[bytes | memoryview] = deque()
        self.backlog = 0
        self._finishing = False
        self._reading = True
        self.on_stdin_end: Callable[[], None] = lambda: None
        self.on_gone: Callable[[], None] = lambda: None
        output.clients.add(self)
        if stdin is not None:
            stdin.on_room = output.listen_again
        self.update()

    def send(self, stream: int, data: bytes) -> None:
        """Queue a chunk of output for this client if it asked for that stream."""
        if stream not in self._streams:
            return
        if not self._output.tty:
            self._push(_HEADER.pack(stream, len(data)))
        self._push(data)
        if len(self._queue) <= 2:
            self._flush()

    def greet(self, line: bytes) -> None:
        """Queue the protocol's answer that precedes the stream."""
        self._push(line)
        self._flush()

    def feed(self, data: bytes) -> None:
        """Input that came together with the attach request."""
        if data and self._stdin is not None:
            self._stdin.write(data)

    def finish(self) -> None:
        """No more output will come: close once the client has everything."""
        self._finishing = True
        self._flush()

    def update(self) -> None:
        """Watch for what is possible now."""
        if self._fd < 0:
            return
        events = OUT if self._queue else 0
        if self._reading and (self._stdin is None or not self._stdin.full):
            events |= IN
        self._loop.watch(self._fd, events, self._on_ready)

    def _push(self, data: bytes) -> None:
        self._queue.append(data)
        self.backlog += len(data)

    def _on_ready(self, events: int) -> None:
        if events & IN:
            self._receive()
        if self._fd >= 0 and events & HUP:  # closed on both sides: take the input that is left, drop the output
            while self._reading and self._fd >= 0:
                self._receive()
            self._drop()
        if self._fd >= 0 and events & OUT:
            self._flush()

    def _receive(self) -> None:
        try:
            data = self._connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._drop()
            return
        if data:
            self.feed(data)
        else:
            self._reading = False
            if self._stdin is not None:
                self.on_stdin_end()
        self.update()

    def _flush(self) -> None:
        if self._fd < 0:
            return
        try:
            while self._queue:
                buffers = [self._queue[index] for index in range(min(len(self._queue), 32))]
                self._took(self._connection.sendmsg(buffers))
        except BlockingIOError:
            pass
        except OSError:
            self._drop()
            return
        if self._finishing and not self._queue:
            self._drop()
        else:
            self.update()
        if self.backlog <= _LOW_WATER:
            self._output.resume()

    def _took(self, count: int) -> None:
        self.backlog -= count
        while count:
            first = self._queue[0]
            if count < len(first):
                self._queue[0] = memoryview(first)[count:]
                return
            count -= len(first)
            self._queue.popleft()

    def _drop(self) -> None:
        if self._fd < 0:
            return
        self._loop.forget(self._fd)
        self._fd = -1
        self._connection.close()
        self._queue.clear()
        self.backlog = 0
        self._output.clients.discard(self)
        self._output.resume()
        if self._reading and self._stdin is not None:
            self._reading = False
            self.on_stdin_end()
        self.on_gone()
