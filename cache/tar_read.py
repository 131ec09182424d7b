"""Reading tar archives as a stream: v7, ustar, GNU and PAX, with GNU's and PAX's sparse files.

Written for hostile input: every size is bounded before it is believed, and a fault is an InvalidInput that names the
entry or the offset. Sources: POSIX pax(1), GNU tar manual "Standard Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import base64
import binascii
import functools
import urllib.parse
import zlib
from collections.abc import Iterator

from buildtool.cache.tar_fields import SECOND, TarEntry, decimal, header_time, identity, number, pax_time, size_of
from buildtool.cache.tar_source import BLOCK, ByteSource, padding
from buildtool.cache.tar_sparse import read_gnu_sparse, read_pax_sparse
from buildtool.errors import InvalidInput

_MAX_EXTENSION = 1 << 20  # one PAX header or long name; the same limit as Go's archive/tar
_ZERO_BLOCK = bytes(BLOCK)
_REGULAR = (b"0", b"\0", b"7", b"S")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")


def read_entries(source: ByteSource) -> Iterator[TarEntry]:
    """The entries of an archive. The caller consumes each entry's `stored` bytes and their padding before the next.

    Ends at the end-of-archive block or at the end of the stream; what follows is left unread.
    """
    pax: dict[bytes, bytes] = {}
    holes: list[bytes] = []
    long_name = long_link = None
    while not source.at_end():
        header = source.take(BLOCK)
        if header == _ZERO_BLOCK:
            return
        _verify(header, source.consumed - BLOCK)
        kind = header[156:157]
        if kind in (b"x", b"X"):
            pax, holes = _parse_pax(_extension(source, header))
            continue
        if kind == b"g":  # comments of git archive and the like; Docker ignores them too
            _parse_pax(_extension(source, header))
            continue
        if kind == b"L":
            long_name = _extension(source, header).split(b"\0", 1)[0]
            continue
        if kind == b"K":
            long_link = _extension(source, header).split(b"\0", 1)[0]
            continue
        if kind == b"V":
            _extension(source, header)
            continue
        entry = _entry(header, kind)
        if long_name is not None:
            entry.name = long_name
        if long_link is not None:
            entry.link = long_link
        if pax:
            _apply_pax(entry, pax)
        if kind == b"S":
            read_gnu_sparse(entry, header, source)
        elif b"GNU.sparse.major" in pax or b"GNU.sparse.map" in pax or holes:
            read_pax_sparse(entry, pax, holes, source)
        if b"\0" in entry.name or b"\0" in entry.link:
            raise InvalidInput(f"entry {entry.name!r}: a NUL byte in the name")
        pax, holes, long_name, long_link = {}, [], None, None
        yield entry
    if pax or long_name is not None or long_link is not None:
        raise InvalidInput(
            f"the archive is truncated at byte {source.consumed}: an extended header without its entry"
        )


def _verify(header: bytes, offset: int) -> None:
    field_ = header[148:156]
    recorded = number(field_, "checksum")
    # Adler-32's low half is 1 + the sum of the bytes modulo 65521, which 256 bytes cannot reach.
    actual = (zlib.adler32(header[:256]) & 0xFFFF) + (zlib.adler32(header[256:]) & 0xFFFF) - 2 - sum(field_) + 8 * 32
    if recorded == actual:
        return
    signed = actual - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
    if recorded != signed:
        raise InvalidInput(f"not a tar header at byte {offset}: bad checksum")


def _extension(source: ByteSource, header: bytes) -> bytes:
    size = size_of(header)
    if size > _MAX_EXTENSION:
        raise InvalidInput(
            f"an extended header of {size} bytes at byte {source.consumed} (the limit is {_MAX_EXTENSION})"
        )
    data = source.take(size)
    source.skip(padding(size))
    return data


def _entry(header: bytes, kind: bytes) -> TarEntry:
    name = header[:100].split(b"\0", 1)[0]
    if header[345] and header[257:263] == b"ustar\0":
        end = 476 if header[508:512] == b"tar\0" else 500  # star keeps two times behind a shorter prefix
        name = header[345:end].split(b"\0", 1)[0] + b"/" + name
    size = 0 if kind in _WITHOUT_DATA else size_of(header)
    mode, uid, gid = _attributes(header[100:124])
    link = header[157:257].split(b"\0", 1)[0] if header[157] else b""
    plain = b"0" if kind in _REGULAR else kind
    mtime_ns = header_time(header[136:148]) * SECOND
    entry = TarEntry(name, plain, mode, uid, gid, size, mtime_ns, link, stored=size)
    if kind in (b"3", b"4"):
        entry.major = number(header[329:337], "device number")
        entry.minor = number(header[337:345], "device number")
    if kind == b"\0" and name.endswith(b"/"):  # before POSIX, a directory was a file with a slash
        entry.kind, entry.size, entry.stored = b"5", 0, 0
    return entry


@functools.lru_cache(maxsize=2048)  # they repeat
def _attributes(fields: bytes) -> tuple[int, int, int]:
    """Mode, user and group."""
    mode, uid, gid = (number(fields[i : i + 8], "mode or owner") for i in (0, 8, 16))
    return mode & 0o7777, identity(uid), identity(gid)


def _parse_pax(data: bytes) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The records, and the values of sparse format 0.0's repeated keys in order."""
    records: dict[bytes, bytes] = {}
    for line in data.split(b"\n")[:-1]:  # quick, and right unless a value has a line break
        length, _, record = line.partition(b" ")
        key, equals, value = record.partition(b"=")
        if not length.isdigit() or len(length) > 8 or int(length) != len(line) + 1 or not equals or not key:
            return _parse_pax_exactly(data)
        if key in records or key == b"GNU.sparse.offset":
            return _parse_pax_exactly(data)
        records[key] = value
    return (records, []) if data[-1:] == b"\n" else _parse_pax_exactly(data)


def _parse_pax_exactly(data: bytes) -> tuple[dict[bytes, bytes], list[bytes]]:
    records: dict[bytes, bytes] = {}
    holes: list[bytes] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 21)
        length = data[position:space]
        if space < 0 or not length.isdigit():
            if not data[position:].strip(b"\0"):
                break
            raise InvalidInput("a malformed PAX header")
        end = position + int(length)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space or data[end - 1 : end] != b"\n" or not equals or not key:
            raise InvalidInput("a malformed PAX header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            holes.append(value)
        records[key] = value
        position = end
    return records, holes


def _apply_pax(entry: TarEntry, pax: dict[bytes, bytes]) -> None:
    for key, value in pax.items():
        if key == b"path":
            entry.name = value or entry.name
        elif key == b"linkpath":
            entry.link = value or entry.link
        elif key == b"size":
            if entry.kind not in _WITHOUT_DATA:
                entry.size = entry.stored = decimal(value, "size")
        elif key == b"uid":
            entry.uid = identity(decimal(value, "uid"))
        elif key == b"gid":
            entry.gid = identity(decimal(value, "gid"))
        elif key == b"mtime":
            entry.mtime_ns = pax_time(value)
        elif key.startswith(b"SCHILY.xattr."):
            entry.xattrs[key[13:]] = value
        elif key.startswith(b"LIBARCHIVE.xattr."):
            try:
                name = urllib.parse.unquote_to_bytes(key[17:])
                entry.xattrs.setdefault(name, base64.b64decode(value + b"=" * (-len(value) % 4), validate=True))
            except (binascii.Error, ValueError):
                raise InvalidInput(f"entry {entry.name!r}: a malformed {key.decode(errors='replace')}") from None
    if b"GNU.sparse.name" in pax:
        entry.name = pax[b"GNU.sparse.name"]
