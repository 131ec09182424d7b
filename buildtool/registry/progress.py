"""Docker's progress objects for pulls and pushes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Emit = Callable[[dict[str, Any]], None]
"""Called on the event loop with one object of the stream."""

_INTERVAL = 0.1
_BAR = 50
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def status(emit: Emit, text: str, identity: str = "") -> None:
    """A line without numbers."""
    emit({"status": text, "progressDetail": {}, "id": identity} if identity else {"status": text})


class Progress:
    """How far one layer is; tells at most ten times a second."""

    def __init__(self, emit: Emit, identity: str) -> None:
        self.identity = identity
        self._emit = emit
        self._last = 0.0

    def say(self, text: str) -> None:
        """A new state of the layer."""
        self._last = 0.0
        status(self._emit, text, self.identity)

    def update(self, text: str, current: int, total: int) -> None:
        """Bytes done of bytes there are (0: unknown)."""
        now = time.monotonic()
        if now - self._last < _INTERVAL:
            return
        self._last = now
        detail: dict[str, int] = {"current": current}
        if total > 0:
            detail["total"] = total
        self._emit({"status": text, "progressDetail": detail, "progress": bar(current, total), "id": self.identity})


def bar(current: int, total: int) -> str:
    """Docker's bar: `[=====>     ]  1.2MB/3.4MB`."""
    if total <= 0 or current > total:
        return human(current)
    done = min(_BAR, _BAR * current // total)
    arrow = "=" * max(0, done - 1) + (">" if done else "")
    if done == _BAR:
        arrow = "=" * _BAR + ">"
    return f"[{arrow:<{_BAR}}]  {human(current)}/{human(total)}"


def human(size: int) -> str:
    """Four significant digits and a decimal unit, as Docker prints sizes."""
    value = float(size)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.4g}{unit}"
        value /= 1000
    raise AssertionError("unreachable")


def short(digest: str) -> str:
    """The twelve digits a layer is known by in progress lines."""
    return digest.partition(":")[2][:12]
