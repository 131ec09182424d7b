"""A build request whose contexts come with it: one tar, or several of them one after the other. Blocking.

Several are framed, as a tar does not tell where it ends for sure and may be compressed: each comes in pieces of a
big-endian 32-bit length and so many bytes, a length of 0 ends it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from buildtool.daemon.context import unpack
from buildtool.errors import InvalidInput

TAR = "application/vnd.buildtool.build+tar"
TARS = "application/vnd.buildtool.build+tars"
_LARGEST_PIECE = 64 << 20


def unpack_all(source: BinaryIO, targets: Iterable[Path]) -> None:
    """Unpack one framed tar after the other into these empty directories. Raises InvalidInput as `unpack` does."""
    for target in targets:
        part = _Part(source)
        unpack(cast(BinaryIO, io.BufferedReader(part)), target)
        part.skip()


class _Part(io.RawIOBase):
    """One framed tar as a file."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__()
        self._source = source
        self._left = 0
        self._ended = False

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer with what is left of the piece."""
        if self._ended or not self._begun():
            return 0
        count = self._source.readinto(buffer[: self._left])  # type: ignore[attr-defined]
        if not count:
            raise InvalidInput("the request's body ends in the middle of a context")
        self._left -= count
        return int(count)

    def skip(self) -> None:
        """Go to the end of the tar."""
        while self.read(1 << 16):
            pass

    def _begun(self) -> bool:
        if not self._left:
            head = self._source.read(4)
            if len(head) < 4:
                raise InvalidInput("the request's body ends before all contexts have come")
            self._left = int.from_bytes(head, "big")
            if self._left > _LARGEST_PIECE:
                raise InvalidInput(f"the request's body has a piece of {self._left} bytes: it is no framed context")
            self._ended = not self._left
        return not self._ended
