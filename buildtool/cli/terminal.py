"""The terminal: raw mode, size, and the keys that detach."""

from __future__ import annotations

import os
import termios
import tty

from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_CONTROL_MARKS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def is_terminal(fd: int) -> bool:
    """Whether this descriptor is open and a terminal."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


def size() -> tuple[int, int]:
    """Rows and columns of the terminal, (0, 0) when there is none."""
    for fd in (1, 0, 2):
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            continue
        return rows, columns
    return 0, 0


class RawMode:
    """Within it every key goes to the container as it is; afterwards the terminal is as before, whatever happened."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[object] | None = None

    def __enter__(self) -> None:
        if is_terminal(self._fd):
            self._before = termios.tcgetattr(self._fd)
            tty.setraw(self._fd, termios.TCSANOW)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` or `ctrl-a,d` as the bytes that the terminal sends. Raises InvalidInput with Docker's words."""
    out = bytearray()
    for key in text.split(","):
        letter = key.removeprefix("ctrl-")
        if len(key) == 1 and ord(key) < 128:
            out.append(ord(key))
        elif letter != key and len(letter) == 1 and "a" <= letter.lower() <= "z":
            out.append(ord(letter.lower()) - ord("a") + 1)
        elif letter != key and letter in _CONTROL_MARKS:
            out.append(_CONTROL_MARKS[letter])
        else:
            raise InvalidInput(f"invalid detach keys ({text}) specified: Unknown character: '{key}'")
    return bytes(out)


class DetachFilter:
    """Watches typed bytes for the detach keys; what may be their beginning is held back until it is decided."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """The bytes to pass on, and whether the keys were pressed (what follows them is dropped)."""
        if not self._keys:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    return bytes(out), True
                continue
            out += self._keys[: self._seen]
            self._seen = 0
            if byte == self._keys[0]:
                self._seen = 1
                if len(self._keys) == 1:
                    return bytes(out), True
            else:
                out.append(byte)
        return bytes(out), False
