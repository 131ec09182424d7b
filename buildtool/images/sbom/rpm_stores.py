"""The three files that rpm keeps its headers in: SQLite, ndb, and the Berkeley DB hash of old times.

Source: rpm's lib/backend (sqlite.c, ndb/rpmpkg.c); Oracle's "Berkeley DB Reference Guide" and db.h for the pages.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

from buildtool.cache.trees import Tree
from buildtool.errors import Corrupt

_NDB_PAGE, _NDB_SLOT, _NDB_UNIT = 4096, 16, 16
_HASH_MAGIC = 0x00061561
_HASH_PAGES, _OVERFLOW_PAGE = (2, 13), 7
_PAGE_HEADER = 26
_OFF_PAGE = 3
_MAX_BLOB = 64 << 20


def headers(tree: Tree, directory: str) -> Iterator[tuple[str, bytes]]:
    """Each header with the path of the file it lies in. Raises Corrupt."""
    for name, read in (("rpmdb.sqlite", _sqlite), ("Packages.db", _ndb), ("Packages", _hash)):
        path = f"{directory}/{name}"
        if tree.exists(path):
            for blob in read(tree.real(tree.resolve(path))):
                yield path, blob


def _sqlite(path: Path) -> Iterator[bytes]:
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
                yield bytes(blob)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise Corrupt(f"the rpm database cannot be read: {error}") from None


def _ndb(path: Path) -> Iterator[bytes]:
    """Slots (magic, index, place, length in units of 16 bytes) in the first pages, each naming a blob."""
    data = path.read_bytes()
    if data[:4] != b"RpmP":
        raise Corrupt("the rpm database is no ndb file")
    (pages,) = struct.unpack("<I", data[12:16])
    for offset in range(2 * _NDB_SLOT, min(pages * _NDB_PAGE, len(data)), _NDB_SLOT):
        magic, index, place, _ = struct.unpack("<4sIII", data[offset : offset + _NDB_SLOT])
        if magic != b"Slot" or not index:
            continue
        start = place * _NDB_UNIT
        head = data[start : start + 16]
        if len(head) < 16 or head[:4] != b"BlbS":
            raise Corrupt(f"the rpm database has no package at {start}")
        (length,) = struct.unpack("<I", head[12:16])
        yield data[start + 16 : start + 16 + length]


def _hash(path: Path) -> Iterator[bytes]:
    """The values of a Berkeley DB hash that lie on pages of their own: headers are never so small as to do else."""
    data = path.read_bytes()
    order = next((o for o in "<>" if len(data) > 72 and struct.unpack(f"{o}I", data[12:16])[0] == _HASH_MAGIC), "")
    if not order:
        raise Corrupt("the rpm database is no Berkeley DB hash")
    (size,) = struct.unpack(f"{order}I", data[20:24])
    if size < 512 or size & (size - 1):
        raise Corrupt(f"the rpm database has pages of {size} bytes")
    for start in range(size, len(data) - size + 1, size):
        page = data[start : start + size]
        (entries,) = struct.unpack(f"{order}H", page[20:22])
        if page[25] not in _HASH_PAGES or _PAGE_HEADER + 2 * entries > size:
            continue
        places = struct.unpack(f"{order}{entries}H", page[_PAGE_HEADER : _PAGE_HEADER + 2 * entries])
        for place in places[1::2]:  # keys and values take turns
            if place + 12 <= size and page[place] == _OFF_PAGE:
                number, length = struct.unpack(f"{order}II", page[place + 4 : place + 12])
                yield _overflow(data, order, size, number, length)


def _overflow(data: bytes, order: str, size: int, number: int, length: int) -> bytes:
    if length > _MAX_BLOB:
        raise Corrupt(f"the rpm database has a value of {length} bytes")
    parts: list[bytes] = []
    left = length
    while left > 0:
        page = data[number * size : (number + 1) * size]
        if not number or len(page) < size or page[25] != _OVERFLOW_PAGE:
            raise Corrupt(f"the rpm database has no page {number}")
        (number,) = struct.unpack(f"{order}I", page[16:20])
        parts.append(page[_PAGE_HEADER : _PAGE_HEADER + min(left, size - _PAGE_HEADER)])
        left -= len(parts[-1])
    return b"".join(parts)
