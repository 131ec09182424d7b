"""Docker's JSON progress streams (pull, load, import, the classic build) as text."""

from __future__ import annotations

import sys

from buildtool.client import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from buildtool.client import Response


def show_json_stream(response: Response, out: TextIO, *, quiet: bool = False) -> list[Any]:
    """Print what a progress stream says and return its `aux` objects.

    On a terminal the lines of concurrent downloads are redrawn in place. Raises EngineError for an error in the
    stream.
    """
    aux: list[Any] = []
    display = Display(out)
    for message in response.objects():
        problem = message.get("error") or (message.get("errorDetail") or {}).get("message")
        if problem:
            display.finish()
            raise EngineError(500, problem, message)
        if "aux" in message:
            aux.append(message["aux"])
        elif not quiet:
            display.show(message)
    display.finish()
    return aux


class Display:
    """Prints messages one below the other; those with an id keep their own line when it is a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._redraws = out.isatty()
        self._rows: dict[str, int] = {}

    def show(self, message: dict[str, Any]) -> None:
        """One message of the stream."""
        if "stream" in message:
            self._out.write(message["stream"])
            self._out.flush()
            self._rows.clear()
            return
        status, identifier = message.get("status", ""), message.get("id", "")
        if self._redraws and identifier:
            self._redraw(identifier, f"{identifier}: {status} {message.get('progress', '')}".rstrip())
            return
        line = f"{identifier}: {status}" if identifier else status
        if message.get("progress"):
            return  # Docker shows bars on terminals only
        self._out.write(f"{line}\n")
        self._out.flush()

    def _redraw(self, identifier: str, line: str) -> None:
        row = self._rows.get(identifier)
        if row is None:
            self._rows[identifier] = len(self._rows)
            self._out.write(f"{line}\n")
        else:
            up = len(self._rows) - row
            self._out.write(f"\x1b[{up}A\x1b[2K\r{line}\x1b[{up}B\r")
        self._out.flush()

    def finish(self) -> None:
        """Everything said is on its way."""
        self._out.flush()
        if self._out is not sys.stdout:
            sys.stdout.flush()
