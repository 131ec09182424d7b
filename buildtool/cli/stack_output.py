"""The containers' lines on the terminal: a padded, coloured name before each."""

from __future__ import annotations

import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call

_COLOURS = ("36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1")


class LogPrinter:
    """Prints lines; safe to call from several threads."""

    def __init__(self, names: list[str], *, colour: bool, prefix: bool) -> None:
        self._lock = threading.Lock()
        self._names = list(dict.fromkeys(names))
        self._width = max([len(name) for name in names], default=0)
        self._colour = colour
        self._prefix = prefix

    def line(self, name: str, text: str, stream: str) -> None:
        """One line of a container."""
        out = sys.stderr if stream == "stderr" else sys.stdout
        with self._lock:
            out.write(f"{self._before(name)}{text}\n")
            out.flush()

    def note(self, name: str, text: str) -> None:
        """Something about a container, not by it."""
        with self._lock:
            sys.stdout.write(f"{self._painted(name, name)} {text}\n")
            sys.stdout.flush()

    def _before(self, name: str) -> str:
        if not self._prefix:
            return ""
        if name not in self._names:
            self._names.append(name)
            self._width = max(self._width, len(name))
        return self._painted(name, f"{name.ljust(self._width)}  | ")

    def _painted(self, name: str, text: str) -> str:
        if not self._colour:
            return text
        number = self._names.index(name) if name in self._names else 0
        return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{text}\x1b[0m"


def make_printer(call: Call, names: list[str]) -> LogPrinter:
    """As the flags, NO_COLOR and the terminal say."""
    ansi = call.text("ansi") or os.environ.get("COMPOSE_ANSI", "auto")
    colour = ansi == "always" or (sys.stdout.isatty() and ansi != "never" and not os.environ.get("NO_COLOR"))
    return LogPrinter(names, colour=colour and not call.switch("no-color"), prefix=not call.switch("no-log-prefix"))
