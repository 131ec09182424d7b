"""Where two streams of bytes differ. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

_RANGES = 8
_NEAR = 16
_SAMPLE = 16
_BLOCK = 1 << 20
_LOOK = 4096


class ByteRange(msgspec.Struct, frozen=True):
    """Bytes `start` up to (not with) `end` differ; `before` and `now` are their beginnings, in hex."""

    start: int
    end: int
    before: str
    now: str


def differing_ranges(
    before: Iterable[bytes | memoryview], now: Iterable[bytes | memoryview], most: int = _RANGES
) -> list[ByteRange]:
    """The first ranges that differ; those closer than 16 bytes are one.

    Where one stream ends earlier, the rest of the other is a range.
    """
    found: list[tuple[int, int, bytes, bytes]] = []
    position = 0
    for one, other in _blocks(before, now):
        if one != other:
            for start, end in _in_blocks(one, other):
                _add(found, position + start, position + end, one[start:end], other[start:end])
            if len(found) > most:
                break
        position += max(len(one), len(other))
    return [ByteRange(start, end, a[:_SAMPLE].hex(), b[:_SAMPLE].hex()) for start, end, a, b in found[:most]]


def _add(found: list[tuple[int, int, bytes, bytes]], start: int, end: int, one: bytes, other: bytes) -> None:
    if found and start - found[-1][1] < _NEAR:
        first, last, a, b = found[-1]
        # a sample goes on only where nothing lies between
        a, b = (a + one, b + other) if start == last and len(a) < _SAMPLE else (a, b)
        found[-1] = (first, end, a, b)
        return
    found.append((start, end, one, other))


def _in_blocks(one: bytes, other: bytes) -> Iterator[tuple[int, int]]:
    for begin in range(0, max(len(one), len(other)), _LOOK):
        a, b = one[begin : begin + _LOOK], other[begin : begin + _LOOK]
        if a != b:
            yield from ((begin + start, begin + end) for start, end in _in_block(a, b))


def _in_block(one: bytes, other: bytes) -> Iterator[tuple[int, int]]:
    start: int | None = None
    length = max(len(one), len(other))
    for index in range(length):
        differs = index >= len(one) or index >= len(other) or one[index] != other[index]
        if differs and start is None:
            start = index
        elif not differs and start is not None:
            yield start, index
            start = None
    if start is not None:
        yield start, length


def _blocks(before: Iterable[bytes | memoryview], now: Iterable[bytes | memoryview]) -> Iterator[tuple[bytes, bytes]]:
    """Both streams in equal blocks; the last ones may be shorter or empty."""
    one, other = _Cut(before), _Cut(now)
    while True:
        pair = one.take(), other.take()
        if not pair[0] and not pair[1]:
            return
        yield pair


class _Cut:
    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def take(self) -> bytes:
        parts, size = [self._rest], len(self._rest)
        while size < _BLOCK:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(bytes(chunk))
            size += len(chunk)
        whole = b"".join(parts)
        self._rest = whole[_BLOCK:]
        return whole[:_BLOCK]
