"""Signals by name and number, as Docker takes them: `KILL`, `SIGKILL`, `9`, `RTMIN+3`."""

from __future__ import annotations

import re
import signal

from buildtool.errors import InvalidInput

_REALTIME = re.compile(r"RT(MIN|MAX)(?:([+-])(\d{1,2}))?")


def parse_signal(text: str) -> int:
    """The signal's number. Raises InvalidInput ("invalid signal: X")."""
    if text.isdecimal():
        number = int(text)
        if 0 < number <= signal.SIGRTMAX:
            return number
        raise InvalidInput(f"invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    match = _REALTIME.fullmatch(name)
    if match is not None:
        base = signal.SIGRTMIN if match[1] == "MIN" else signal.SIGRTMAX
        number = int(base) + int(f"{match[2] or '+'}{match[3] or 0}")
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    try:
        return int(signal.Signals["SIG" + name])
    except KeyError:
        raise InvalidInput(f"invalid signal: {text}") from None
