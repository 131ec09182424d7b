"""Reading from the disk, and remembering what was asked of it."""

from __future__ import annotations

import os
import sys

from buildtool.errors import InvalidInput

STDIN = "-"


class FileSystem:
    """Texts on the disk; `-` is standard input, read once.

    `opened` are the files that were read or were to be, `looked` those whose existence was asked for.
    """

    def __init__(self) -> None:
        self._stdin: str | None = None
        self.opened: set[str] = set()
        self.looked: set[str] = set()

    def read(self, path: str) -> str:
        """The file's text. Raises OSError, and InvalidInput when it is not UTF-8."""
        self.opened.add(path)
        if path == STDIN:
            if self._stdin is None:
                self._stdin = _decode(sys.stdin.buffer.read(), "<stdin>")
            return self._stdin
        with open(path, "rb") as file:
            return _decode(file.read(), path)

    def data(self, path: str) -> bytes | None:
        """The file's bytes, None when it cannot be read."""
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        self.looked.add(path)
        return os.path.isfile(path)


def _decode(data: bytes, name: str) -> str:
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{name}:{line}: the file is not UTF-8 text") from None
