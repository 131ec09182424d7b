"""Sparse files in tar archives: where the pieces go that are stored. GNU's old form, PAX's 0.0, 0.1 and 1.0.

Source: GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

from buildtool.cache.tar_fields import TarEntry, decimal, number
from buildtool.cache.tar_source import BLOCK, ByteSource
from buildtool.errors import InvalidInput

_MAX_HOLES = 1 << 18


def read_gnu_sparse(entry: TarEntry, header: bytes, source: ByteSource) -> None:
    """The map in the header, and in the blocks behind it."""
    numbers = [number(header[i : i + 12], "sparse map") for i in range(386, 482, 12)]
    entry.size = number(header[483:495], "size")
    more = header[482]
    while more:
        block = source.take(BLOCK)
        numbers += [number(block[i : i + 12], "sparse map") for i in range(0, 504, 12)]
        more = block[504]
        _bounded(entry, len(numbers))
    _set_map(entry, numbers)


def read_pax_sparse(entry: TarEntry, pax: dict[bytes, bytes], holes: list[bytes], source: ByteSource) -> None:
    """The map in PAX records, or in front of the data. `holes` are the values of 0.0, whose keys repeat."""
    size = pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size", b""))
    if size:
        entry.size = decimal(size, "size")
    if b"GNU.sparse.major" in pax:
        numbers = _read_map(entry, source)
    elif b"GNU.sparse.map" in pax:
        text = pax[b"GNU.sparse.map"]
        numbers = [decimal(number, "sparse map") for number in text.split(b",")] if text else []
    else:
        numbers = [decimal(number, "sparse map") for number in holes]
    _set_map(entry, numbers)


def _read_map(entry: TarEntry, source: ByteSource) -> list[int]:
    """Format 1.0: the map stands in front of the data, one decimal a line, padded to a block."""
    numbers: list[int] = []
    rest = b""
    while not numbers or len(numbers) < 1 + 2 * numbers[0]:
        if entry.stored < BLOCK:
            raise InvalidInput(f"entry {entry.name!r}: a malformed sparse map")
        entry.stored -= BLOCK
        *lines, rest = (rest + source.take(BLOCK)).split(b"\n")
        for line in lines:
            if numbers and len(numbers) == 1 + 2 * numbers[0]:
                break
            numbers.append(decimal(line, "sparse map"))
        _bounded(entry, max(len(numbers), 2 * numbers[0] if numbers else 0))
        if len(rest) > 20 and len(numbers) < 1 + 2 * (numbers[0] if numbers else 1):
            raise InvalidInput(f"entry {entry.name!r}: a malformed sparse map")
    return numbers[1:]


def _bounded(entry: TarEntry, count: int) -> None:
    if count > 2 * _MAX_HOLES:
        raise InvalidInput(f"entry {entry.name!r}: more than {_MAX_HOLES} pieces in a sparse file")


def _set_map(entry: TarEntry, numbers: list[int]) -> None:
    _bounded(entry, len(numbers))
    pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
    entry.data = [(offset, length) for offset, length in pairs if length]
    position = 0
    for offset, length in entry.data:
        if offset < position or length < 0 or offset + length > entry.size:
            raise InvalidInput(f"entry {entry.name!r}: a malformed sparse map")
        position = offset + length
    if len(numbers) % 2 or sum(length for _, length in entry.data) != entry.stored:
        raise InvalidInput(f"entry {entry.name!r}: a sparse map that does not fit the data")
