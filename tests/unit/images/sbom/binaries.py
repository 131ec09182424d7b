"""ELF files and rpm databases, made of literals."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence


def elf(sections: Mapping[str, bytes], *, segment: tuple[int, bytes] | None = None) -> bytes:
    """A 64-bit little-endian ELF file with these sections; `segment` is loaded at an address."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    body, rows = b"", [struct.pack("<IIQQQQIIQQ", *([0] * 10))]
    start = 64 + 56
    for name, content in (*sections.items(), (".shstrtab", names)):
        place = names.index(b"\0" + name.encode() + b"\0") + 1
        rows.append(struct.pack("<IIQQQQIIQQ", place, 1, 0, 0, start + len(body), len(content), 0, 0, 1, 0))
        body += content
    address, data = segment or (0, b"")
    program = struct.pack("<IIQQQQQQ", 1, 6, start + len(body), address, address, len(data), len(data), 16)
    body += data
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, start + len(body), 0, 64, 56, 1, 64, len(rows), len(rows) - 1
    )
    return header + program + body + b"".join(rows)


def _varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def go_build_info(version: str, table: str) -> bytes:
    """The section that Go 1.18 and later write."""
    framed = bytes(range(16)) + table.encode() + bytes(range(16))
    head = b"\xff Go buildinf:\x08\x02".ljust(32, b"\0")
    return head + b"".join(_varint(len(text)) + text for text in (version.encode(), framed))


def rpm_header(values: Mapping[int, str | int]) -> bytes:
    """The header of a package, as rpm's databases hold it."""
    index, data = b"", b""
    for tag, value in values.items():
        if isinstance(value, int):
            data += bytes(-len(data) % 4)
            index += struct.pack(">IIII", tag, 4, len(data), 1)
            data += struct.pack(">I", value)
        else:
            index += struct.pack(">IIII", tag, 6, len(data), 1)
            data += value.encode() + b"\0"
    return struct.pack(">II", len(values), len(data)) + index + data


def ndb(blobs: Sequence[bytes]) -> bytes:
    """A Packages.db with these headers."""
    slots, body, place = b"", b"", 4096 // 16
    for number, blob in enumerate(blobs, 1):
        unit = struct.pack("<4sIII", b"BlbS", number, 1, len(blob)) + blob
        unit += bytes(-len(unit) % 16)
        slots += struct.pack("<4sIII", b"Slot", number, place, len(unit) // 16)
        body += unit
        place += len(unit) // 16
    return (struct.pack("<4sIII", b"RpmP", 0, 1, 1).ljust(32, b"\0") + slots).ljust(4096, b"\0") + body
