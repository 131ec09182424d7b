"""A process that the shim forked: its descriptors, its start handshake, its end."""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from buildtool.runtime.init import set_size
from buildtool.runtime.loop import IN, Loop
from buildtool.runtime.process import OTHER, StartError
from buildtool.runtime.streams import Input, Log, Output

Spec = dict[str, Any]
Done = Callable[[StartError | None], None]


class Stdio:
    """Standard streams for a child: pipes, or nothing yet when a terminal will be made inside the container."""

    def __init__(self, *, tty: bool, stdin: bool) -> None:
        self.tty = tty
        self.has_stdin = stdin
        self.inner: tuple[int, int, int] | None = None
        self.outer: tuple[int, int, int] | None = None
        if tty:
            return
        if stdin:
            stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
        else:
            stdin_read, stdin_write = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1
        stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
        stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
        self.inner = (stdin_read, stdout_write, stderr_write)
        self.outer = (stdin_write, stdout_read, stderr_read)

    def close_inner(self) -> None:
        for fd in self.inner or ():
            os.close(fd)


class Child:
    """The init process or an exec: forked, ready, started, over (dead), finished (its output is taken)."""

    def __init__(
        self, loop: Loop, name: str, pid: int, channel: socket.socket, stdio: Stdio, log: Log | None
    ) -> None:
        self.id = name
        self.pid = pid
        self.tty = stdio.tty
        self.created: list[str] = []
        self.started = False
        self.over = False
        self.finished = False
        self.creator: object = None
        self.output = Output(loop, tty=stdio.tty, log=log)
        self.input: Input | None = None
        self.on_exit: Callable[[], None] = lambda: None
        self.on_pid: Callable[[], None] = lambda: None
        self._loop = loop
        self._channel = channel
        self._stdio = stdio
        self._master = -1
        self._wait_status = 0
        self._exited_at = 0.0
        self._done: Done | None = None
        self._ready = False
        if stdio.outer is not None:
            stdin, stdout, stderr = stdio.outer
            self.output.add(stdout, 1)
            self.output.add(stderr, 2)
            if stdin >= 0:
                self.input = Input(loop, stdin)

    @classmethod
    def fork(
        cls, loop: Loop, name: str, become: Callable[[socket.socket], None], stdio: Stdio, log: Log | None
    ) -> Child:
        """Fork a child that runs `become(channel)`, which either execs or raises StartError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            child_main(become, theirs)
        theirs.close()
        stdio.close_inner()
        return cls(loop, name, pid, ours, stdio, log)

    def wait_ready(self, client: socket.socket) -> None:
        """Block until the child waits for its start. Raises StartError (the child is reaped then).

        When `client` hangs up meanwhile, nobody wants the child any more: it is killed.
        """
        waiting = select.poll()
        waiting.register(client, 0)
        waiting.register(self._channel, select.POLLIN)
        while not self._ready:
            error: StartError | None = None
            if (client.fileno(), select.POLLHUP) in waiting.poll():
                os.kill(self.pid, signal.SIGKILL)
                error = StartError(OTHER, "the creation was cancelled")
            else:
                error = self._receive()
            if error is not None:
                os.waitpid(self.pid, 0)
                raise error

    def when_ready(self, done: Done) -> None:
        """Call `done` once the child waits for its start, or with what went wrong."""
        self._done = done
        self._loop.watch(self._channel.fileno(), IN, self._on_channel)

    def start(self, done: Done) -> None:
        """Let the child execute its program; `done` hears when it has, or why not."""
        if self.started or not self._ready or self.over:
            raise StartError("state", "the process has been started before")
        self._done = done
        self._channel.send(b"start")
        self.started = True
        self._loop.watch(self._channel.fileno(), IN, self._on_channel)

    def signal(self, number: int) -> None:
        if self.over:
            raise StartError("gone", "the process has ended")
        os.kill(self.pid, number)

    def resize(self, height: int, width: int) -> None:
        if self._master < 0:
            raise StartError("state", "the process has no terminal")
        set_size(self._master, height, width)

    def ended(self, status: int) -> None:
        """waitpid returned this status for it."""
        self._wait_status = status
        self._exited_at = time.time()
        self.over = True
        self._settle()
        self.on_exit()

    def drain(self, done: Callable[[], None], grace: float) -> None:
        """Take the output that is left, for at most `grace` seconds when something still holds the streams."""
        called = False

        def once() -> None:
            nonlocal called
            if not called:
                called = True
                self.output.on_end = lambda: None
                self.finish_streams()
                done()

        self.output.drain()
        if self.output.ended:
            once()
        else:
            self.output.on_end = once
            self._loop.later(grace, once)

    def finish_streams(self) -> None:
        self.finished = True
        if self.input is not None:
            self.input.abandon()
        self.output.finish()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def status(self) -> Spec:
        """How it ended, as written to exit.json."""
        if os.WIFSIGNALED(self._wait_status):
            number = os.WTERMSIG(self._wait_status)
            return {"code": 128 + number, "signal": number, "exited_at": self._exited_at}
        return {"code": os.WEXITSTATUS(self._wait_status), "signal": None, "exited_at": self._exited_at}

    def _on_channel(self, _events: int) -> None:
        error = self._receive()
        if error is None and not self._ready:
            return
        done, self._done = self._done, None
        self._loop.forget(self._channel.fileno())
        if self.started or error is not None:
            self._channel.close()
        if done is not None:
            done(error)

    def _settle(self) -> None:
        """It died: whoever waits for its start must hear."""
        if self._done is not None:
            self._on_channel(IN)

    def _receive(self) -> StartError | None:
        """One message of the child; its end of file after the start means that the program runs."""
        data, ancillary, _flags, _address = self._channel.recvmsg(1024 * 1024, socket.CMSG_SPACE(4))
        if not data:
            if self.started:
                return None
            return StartError(OTHER, "the container's init process died while it was set up")
        message = json.loads(data)
        for _level, _kind, payload in ancillary:
            fds = array.array("i", payload)
            self._take_master(fds[0])
        if "error" in message:
            return StartError(message["kind"], message["error"])
        self.created += message.get("created") or []
        self._ready = self._ready or bool(message.get("ready"))
        if "pid" in message:  # it was the driver of another runtime until now
            self.pid = message["pid"]
            self.on_pid()
        return None

    def _take_master(self, master: int) -> None:
        os.set_inheritable(master, False)
        self._master = master
        self.output.add(os.dup(master), 1)
        if self.input is not None:
            self.input.connect(os.dup(master))
        elif self._stdio.has_stdin:
            self.input = Input(self._loop, os.dup(master))


def child_main(become: Callable[[socket.socket], None], channel: socket.socket) -> NoReturn:
    """The whole life of a child that is to execute something: tells on the channel why it does not."""
    try:
        become(channel)
    except BaseException as error:  # noqa: BLE001 - whatever it is, this process must neither go on as the shim nor die silent
        tell_failure(channel, error)
    finally:
        os._exit(127)


def tell_failure(channel: socket.socket, error: BaseException) -> None:
    """Say on the channel why nothing is executed; a process that nobody hears any more ends."""
    if isinstance(error, StartError):
        kind, text = error.kind, str(error)
    elif isinstance(error, OSError):
        what = f"{error.filename}: " if error.filename else ""
        kind, text = OTHER, f"{what}{(error.strerror or str(error)).lower()}"
    else:
        kind = OTHER
        text = "error during container init: " + "".join(traceback.format_exception(error, limit=4)).strip()
    try:
        channel.send(json.dumps({"error": text, "kind": kind}).encode())
    except OSError:
        os.kill(os.getpid(), signal.SIGKILL)
