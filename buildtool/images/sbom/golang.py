"""Go modules: what the Go linker wrote into a program (`go version -m`).

Source: Go's debug/buildinfo (the layout of .go.buildinfo) and runtime/debug (the text of the module table).
"""

from __future__ import annotations

from collections.abc import Iterator

from buildtool.errors import Corrupt
from buildtool.images.sbom.bill import Package
from buildtool.images.sbom.elf import Elf

_MAGIC = b"\xff Go buildinf:"
_INLINE = 2
_FRAME = 16
"""The module table stands between two marks of 16 bytes."""


def packages(elf: Elf, path: str) -> Iterator[Package]:
    """The main module (unless its version is unknown), those it was built from, and Go's standard library."""
    section = elf.section(".go.buildinfo")
    if section is None:
        return
    data = elf.content(section)
    start = data.find(_MAGIC)
    if start < 0 or len(data) < start + 32:
        return
    version, table = _strings(elf, data[start:])
    if version.startswith("go"):
        yield Package("golang", "stdlib", version.split()[0].removeprefix("go"), path, licenses=("BSD-3-Clause",))
    yield from _modules(table, path)


def _strings(elf: Elf, data: bytes) -> tuple[str, str]:
    """The version of Go and the module table. Raises Corrupt."""
    if data[15] & _INLINE:
        version, rest = _inline(data[32:])
        table, _ = _inline(rest)
    else:
        width = data[14]
        version = _pointed(elf, elf.pointer(data[16 : 16 + width]), width)
        table = _pointed(elf, elf.pointer(data[16 + width : 16 + 2 * width]), width)
    framed = len(table) >= 2 * _FRAME + 1 and table[-_FRAME - 1 : -_FRAME] == b"\n"
    return version.decode(errors="replace"), (table[_FRAME:-_FRAME] if framed else b"").decode(errors="replace")


def _inline(data: bytes) -> tuple[bytes, bytes]:
    size = shift = used = 0
    for byte in data[:10]:
        size |= (byte & 0x7F) << shift
        shift += 7
        used += 1
        if byte < 0x80:
            break
    if used + size > len(data):
        raise Corrupt("Go's build information is cut off")
    return data[used : used + size], data[used + size :]


def _pointed(elf: Elf, address: int, width: int) -> bytes:
    header = elf.at_address(address, 2 * width)
    return elf.at_address(elf.pointer(header), elf.pointer(header[width:]))


def _modules(table: str, path: str) -> Iterator[Package]:
    found: list[tuple[str, str]] = []
    for line in table.splitlines():
        kind, *fields = line.split("\t")
        if kind in ("mod", "dep") and len(fields) >= 2:
            found.append((fields[0], fields[1]))
        elif kind == "=>" and len(fields) >= 2 and found:
            found[-1] = (fields[0], fields[1])  # the replacement is what was built
    for name, version in found:
        if version and version != "(devel)":
            namespace, _, short = name.rpartition("/")
            yield Package("golang", short, version, path, namespace=namespace)
