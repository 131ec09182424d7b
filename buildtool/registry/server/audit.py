"""The audit log: who did what to which repository, one JSON object a line, without any secret."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec


class Audit:
    """Appends to a file; `reopen` after it was moved away."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._fd = -1
        self.reopen()

    def reopen(self) -> None:
        """Open the file of this name anew."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, **fields: object) -> None:
        """One line; fields that are empty are left out."""
        stamp = time.time()
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp)) + f".{int(stamp * 1000) % 1000:03d}Z"
        document = {"time": when, **{name: value for name, value in fields.items() if value not in ("", None)}}
        os.write(self._fd, msgspec.json.encode(document) + b"\n")
