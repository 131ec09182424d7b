"""The sections and the addresses of an ELF file, as far as build information in programs needs them.

Source: elf(5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from buildtool.errors import Corrupt

_LIMIT = 64 << 20
_LOAD = 1


def looks_like_elf(begin: bytes) -> bool:
    """Whether a file that begins so is one."""
    return begin[:4] == b"\x7fELF"


@dataclass(frozen=True, slots=True)
class Section:
    """One section: where it lies in the file, and at which address in memory."""

    name: str
    offset: int
    size: int
    address: int


class Elf:
    """An ELF file that is open for reading. Raises Corrupt when its headers lead out of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(0, 2)
        self._size = file.tell()
        ident = self._at(0, 16)
        if not looks_like_elf(ident) or ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise Corrupt("not an ELF file")
        self.wide = ident[4] == 2
        self.order = "<" if ident[5] == 1 else ">"
        layout = "HHIQQQIHHHHHH" if self.wide else "HHIIIIIHHHHHH"
        header = self._unpack(layout, 16)
        self._segments = (header[4], header[8], header[9])
        self._sections = (header[5], header[10], header[11], header[12])

    def _at(self, offset: int, size: int) -> bytes:
        if offset < 0 or size < 0 or offset + size > self._size or size > _LIMIT:
            raise Corrupt("an ELF file that ends before what its headers tell of")
        self._file.seek(offset)
        return self._file.read(size)

    def _unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        form = self.order + layout
        found: tuple[int, ...] = struct.unpack(form, self._at(offset, struct.calcsize(form)))
        return found

    def sections(self) -> Iterator[Section]:
        """All sections, in the order of the file's table."""
        offset, entry, count, names = self._sections
        if not offset or not count:
            return
        rows = [
            self._unpack("IIQQQQIIQQ" if self.wide else "IIIIIIIIII", offset + entry * number)
            for number in range(count)
        ]
        if names >= len(rows):
            raise Corrupt("an ELF file without names of its sections")
        table = self._at(rows[names][4], rows[names][5])
        for row in rows:
            name = table[row[0] : table.find(b"\0", row[0])].decode("ascii", "replace")
            yield Section(name, row[4], row[5], row[3])

    def section(self, name: str) -> Section | None:
        """The section of this name."""
        return next((section for section in self.sections() if section.name == name), None)

    def content(self, section: Section) -> bytes:
        """A section's bytes. Raises Corrupt."""
        return self._at(section.offset, section.size)

    def at_address(self, address: int, size: int) -> bytes:
        """What of the file stands at an address in memory. Raises Corrupt when nothing does."""
        offset, entry, count = self._segments
        for number in range(count):
            if self.wide:
                kind, _, start, virtual, _, length, *_ = self._unpack("IIQQQQQQ", offset + entry * number)
            else:
                kind, start, virtual, _, length, *_ = self._unpack("IIIIIIII", offset + entry * number)
            if kind == _LOAD and virtual <= address and address + size <= virtual + length:
                return self._at(start + address - virtual, size)
        raise Corrupt(f"nothing of the file stands at the address {address:#x}")

    def pointer(self, data: bytes) -> int:
        """A pointer of the file's width and byte order."""
        return int.from_bytes(data[: 8 if self.wide else 4], "little" if self.order == "<" else "big")
