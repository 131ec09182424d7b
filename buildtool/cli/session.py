"""An attached session: the terminal (or pipes) on one side, a container's streams on the other, and signals."""

from __future__ import annotations

import os
import select
import signal
import sys

from buildtool.cli.terminal import DetachFilter
from buildtool.client import Demultiplexer, EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any

    from buildtool.client import RawStream, Response

_READ = 1 << 16
# Not those about this process itself: its terminal (TSTP, TTIN, TTOU), its faults, its pipes and children.
_PASSED_ON = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGTERM,
    signal.SIGCONT,
    signal.SIGIO,
    signal.SIGPWR,
)
_TERMINATING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Catches signals while it is entered and hands them out through `fileno` and `take`.

    With `passing` all that a process may get are caught, otherwise only the window's change of size.
    """

    def __init__(self, *, passing: bool, resizing: bool) -> None:
        self._numbers = [signal.SIGWINCH] if resizing else []
        if passing:
            self._numbers += [number for number in _PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN]
        self._before: list[tuple[int, object]] = []
        self._caught: list[int] = []
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup = -1

    def __enter__(self) -> Signals:
        for number in self._numbers:
            self._before.append((number, signal.signal(number, self._catch)))
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before:
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        os.close(self._reader)
        os.close(self._writer)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._caught.append(number)

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._reader

    def take(self) -> list[int]:
        """The signals that came since the last call."""
        try:
            os.read(self._reader, 512)
        except BlockingIOError:
            pass
        caught, self._caught = self._caught, []
        return caught


class Session:
    """Copies until the container's streams end or the detach keys are pressed.

    `on_signal` gets each caught signal's number. `stdin` is -1 when input is not attached.
    """

    def __init__(
        self,
        stream: RawStream,
        *,
        tty: bool,
        stdin: int = -1,
        detach_keys: bytes = b"",
        on_signal: Callable[[int], None] | None = None,
        signals: Signals | None = None,
    ) -> None:
        self._stream = stream
        self._demultiplexer = None if tty else Demultiplexer()
        self._stdin = stdin
        self._filter = DetachFilter(detach_keys if tty else b"")
        self._on_signal = on_signal
        self._signals = signals
        self._unsent = b""
        self._input_ended = stdin < 0
        self._watched: dict[int, int] = {}
        self._poll = select.poll()

    def run(self) -> bool:
        """Copy; True when the streams ended, False when the user detached."""
        while True:
            self._watch()
            ready = dict(self._poll.poll(0 if self._stream.pending else None))
            if self._signals is not None and self._signals.fileno() in ready:
                self._pass_signals()
            events = ready.get(self._stream.fileno(), 0)
            if events & select.POLLOUT:
                self._send_more()
            if self._stream.pending or events & ~select.POLLOUT:
                data = self._stream.receive()
                if not data:
                    return True
                self._show(data)
            if self._stdin in ready and not self._unsent and not self._read_input():
                return False

    def _watch(self) -> None:
        """Tell poll what is wanted now: no more input is read while the last of it waits to be sent."""
        wanted = {self._stream.fileno(): select.POLLIN | (select.POLLOUT if self._unsent else 0)}
        if not self._input_ended and not self._unsent:
            wanted[self._stdin] = select.POLLIN
        if self._signals is not None:
            wanted[self._signals.fileno()] = select.POLLIN
        if wanted == self._watched:
            return
        for fd in self._watched.keys() - wanted.keys():
            self._poll.unregister(fd)
        for fd, events in wanted.items():
            self._poll.register(fd, events)
        self._watched = wanted

    def _pass_signals(self) -> None:
        assert self._signals is not None
        for number in self._signals.take():
            if self._on_signal is not None:
                self._on_signal(number)

    def _show(self, data: bytes) -> None:
        if self._demultiplexer is None:
            _write(1, data)
            return
        for stream, payload in self._demultiplexer.feed(data):
            _write(2 if stream >= 2 else 1, payload)

    def _read_input(self) -> bool:
        """Take what was typed; False when the detach keys were in it."""
        try:
            data = os.read(self._stdin, _READ)
        except OSError:
            data = b""
        if not data:
            self._input_ended = True
            self._stream.end_input()
            return True
        self._unsent, detached = self._filter.feed(data)
        self._send_more()
        return not detached

    def _send_more(self) -> None:
        if not self._unsent:
            return
        sent = self._stream.send_some(self._unsent)
        if sent < 0:
            self._unsent, self._input_ended = b"", True
        else:
            self._unsent = self._unsent[sent:]


def wait_for_exit(response: Response, signals: Signals | None, on_signal: Callable[[int], None]) -> dict[str, Any]:
    """The answer of a `wait` call, with signals passed on until it comes."""
    while signals is not None and not response.connection.pending:
        connection, caught = response.connection.sock, signals
        readable, _, _ = select.select([connection.fileno(), caught.fileno()], [], [])
        for number in caught.take():
            on_signal(number)
        if connection.fileno() in readable:
            break
    answer: dict[str, Any] = response.json() or {}
    return answer


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])


class SignalPasser:
    """Passes signals on to a container with `kill`; the third request to end makes this process end instead."""

    def __init__(self, send: Callable[[str], object], resize: Callable[[], None] | None = None) -> None:
        self._send = send
        self._resize = resize
        self._terminations = 0

    def __call__(self, number: int) -> None:
        if number == signal.SIGWINCH:
            if self._resize is not None:
                self._resize()
            return
        if number in _TERMINATING:
            self._terminations += 1
            if self._terminations >= 3:
                print("got 3 SIGTERM/SIGINTs, forcefully exiting", file=sys.stderr)
                raise SystemExit(1)
        try:
            self._send(signal.Signals(number).name.removeprefix("SIG"))
        except EngineError:
            pass  # the process has just ended: its exit code tells more than this would
