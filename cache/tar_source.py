"""The bytes of an archive, as they come in chunks."""

from __future__ import annotations

from collections.abc import Iterator

from buildtool.errors import InvalidInput

BLOCK = 512


class ByteSource:
    """Exact reads over an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._position = 0
        self.consumed = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes. Raises InvalidInput when the stream ends before."""
        start = self._position
        end = start + count
        if end <= len(self._buffer):
            self._position = end
            self.consumed += count
            return self._buffer[start:end]
        return b"".join(bytes(piece) for piece in self.pieces(count))

    def pieces(self, count: int) -> Iterator[bytes | memoryview]:
        """The next `count` bytes as they come, without copying."""
        while count:
            available = len(self._buffer) - self._position
            if not available:
                if not self._refill():
                    raise InvalidInput(f"the archive is truncated at byte {self.consumed}")
                continue
            length = min(available, count)
            start = self._position
            self._position += length
            self.consumed += length
            count -= length
            if length == len(self._buffer):
                yield self._buffer
            else:
                yield memoryview(self._buffer)[start : start + length]

    def skip(self, count: int) -> None:
        """Drop the next `count` bytes."""
        if self._position + count <= len(self._buffer):
            self._position += count
            self.consumed += count
            return
        for _ in self.pieces(count):
            pass

    def at_end(self) -> bool:
        """Whether nothing follows."""
        return self._position == len(self._buffer) and not self._refill()

    def drain(self) -> None:
        """Drop everything that follows."""
        self.consumed += len(self._buffer) - self._position
        self._buffer, self._position = b"", 0
        for chunk in self._chunks:
            self.consumed += len(chunk)

    def _refill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._buffer, self._position = chunk, 0
                return True
        self._buffer, self._position = b"", 0
        return False


def padding(size: int) -> int:
    """Bytes that fill the last block of `size` bytes of data."""
    return -size % BLOCK
