"""Running attached: what `run`, `start -a` and `attach` do alike, in the order that loses no output.

Attach before start, wait before start; then copy until the streams end, then take the exit code from the wait.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

from buildtool.cli.session import Session, SignalPasser, Signals, wait_for_exit
from buildtool.cli.terminal import DEFAULT_DETACH_KEYS, RawMode, is_terminal, parse_detach_keys, size
from buildtool.client import EngineError
from buildtool.errors import BuildtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.client import Client, RawStream, Response


def refuse_without_terminal(tty: bool, stdin: bool) -> bool:
    """False, after saying so, when a terminal's input is asked for and STDIN is none."""
    if tty and stdin and not is_terminal(0):
        print("the input device is not a TTY", file=sys.stderr)
        return False
    return True


def console_size() -> tuple[int, int]:
    """Rows and columns of this terminal, (0, 0) when there is none."""
    return size()


def detach_keys(text: str) -> bytes:
    """The detach keys that a flag names, Docker's own when it names none."""
    return parse_detach_keys(text or DEFAULT_DETACH_KEYS)


class Attached:
    """One container, attached to. Call `attach`, `begin_wait`, then `run`."""

    def __init__(self, client: Client, identifier: str, *, tty: bool, keys: bytes) -> None:
        self._client = client
        self._path = f"/containers/{identifier}"
        self._tty = tty
        self._keys = keys
        self._stream: RawStream | None = None
        self._stdin = False
        self._wait: Response | None = None

    def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        """Open the container's streams."""
        query = {"stream": True, "stdin": stdin, "stdout": stdout, "stderr": stderr}
        self._stdin = stdin
        self._stream = self._client.hijack(f"{self._path}/attach", query)

    def begin_wait(self, condition: str = "") -> None:
        """Ask for the exit code, to be told when it is known."""
        query = {"condition": condition or None}
        self._wait = self._client.call("POST", f"{self._path}/wait", query, dedicated=True)

    def close(self) -> None:
        """Let go of the container's streams."""
        if self._stream is not None:
            self._stream.close()
        if self._wait is not None:
            self._wait.connection.close()

    def run(self, *, start: bool, pass_signals: bool) -> int:
        """Start the container if `start`, copy its streams, and return its exit code; 0 when the user detached."""
        passer = SignalPasser(self._kill, self._resize if self._tty else None)
        with ExitStack() as stack:
            signals = None
            if pass_signals or self._tty:
                signals = stack.enter_context(Signals(passing=pass_signals, resizing=self._tty))
            if start:
                self._client.call("POST", f"{self._path}/start").read()
            if self._tty and is_terminal(1):
                self._resize()
            if self._stream is not None:
                if self._tty and self._stdin:
                    stack.enter_context(RawMode(0))
                session = Session(
                    self._stream,
                    tty=self._tty,
                    stdin=0 if self._stdin else -1,
                    detach_keys=self._keys,
                    on_signal=passer,
                    signals=signals,
                )
                if not self._copy(session):
                    return 0
            return self._exit_code(signals, passer)

    def _copy(self, session: Session) -> bool:
        """Copy the streams; False when the user detached. Says so when whoever read our output is gone."""
        try:
            ended = session.run()
        except BrokenPipeError:
            name = self._path.rpartition("/")[2][:12]
            print(f"buildtool: nobody reads the output any more; container {name} goes on", file=sys.stderr)
            raise
        if not ended:
            self.close()
        return ended

    def _exit_code(self, signals: Signals | None, passer: SignalPasser) -> int:
        assert self._wait is not None
        answer = wait_for_exit(self._wait, signals, passer)
        self.close()
        problem = (answer.get("Error") or {}).get("Message")
        if problem:
            raise BuildtoolError(f"waiting for the container failed: {problem}")
        return int(answer.get("StatusCode", 0))

    def _kill(self, name: str) -> None:
        self._client.call("POST", f"{self._path}/kill", {"signal": name}).read()

    def _resize(self) -> None:
        rows, columns = size()
        if not rows or not columns:
            return
        try:
            self._client.call("POST", f"{self._path}/resize", {"h": rows, "w": columns}).read()
        except EngineError:
            pass  # it has ended already: there is nothing to resize, and its exit code is on the way
