"""Headers of tar entries: ustar, with PAX records only where ustar cannot say it; numeric owners, no names.

Source: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Interchange Format"; SCHILY.xattr as star and GNU tar.
"""

from __future__ import annotations

import os
import zlib

_MAX_OCTAL_ID = 0o7777777
_MAX_OCTAL_SIZE = 0o77777777777


def owner_of(status: os.stat_result) -> tuple[int, int]:
    """The ids that a layer has for a file of the store.

    A plain user's store without a user namespace has files of one owner, who is the root of every image: as where one
    id is mapped into a namespace.
    """
    return (status.st_uid, status.st_gid) if os.geteuid() == 0 else (0, 0)


def header(
    name: bytes,
    kind: bytes,
    status: os.stat_result,
    mtime: int,
    *,
    size: int = 0,
    link: bytes = b"",
    xattrs: list[tuple[bytes, bytes]] | None = None,
) -> bytes:
    """The header blocks of one entry with the mode, owner and device numbers of `status`."""
    major = minor = 0
    if kind in (b"3", b"4"):
        major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    mode = status.st_mode & 0o7777
    return entry_header(name, kind, mode, *owner_of(status), size, mtime, link, major, minor, xattrs or [])


def entry_header(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    major: int,
    minor: int,
    xattrs: list[tuple[bytes, bytes]],
) -> bytes:
    """The header blocks of one entry, every field given."""
    prefix = b""
    records: list[tuple[bytes, bytes]] = []
    if len(name) > 100 or not name.isascii():
        prefix, short = _split(name) if name.isascii() else (b"", b"")
        if not short:
            records.append((b"path", name))
            short = _plain(name)
        name = short
    if len(link) > 100 or not link.isascii():
        records.append((b"linkpath", link))
        link = _plain(link)
    for key, value, limit in (
        (b"uid", uid, _MAX_OCTAL_ID),
        (b"gid", gid, _MAX_OCTAL_ID),
        (b"size", size, _MAX_OCTAL_SIZE),
    ):
        if value > limit:
            records.append((key, b"%d" % value))
    if not 0 <= mtime <= _MAX_OCTAL_SIZE:
        records.append((b"mtime", b"%d" % mtime))
        mtime = 0
    records.extend((b"SCHILY.xattr." + key, value) for key, value in xattrs)
    block = _block(
        name,
        kind,
        mode,
        uid if uid <= _MAX_OCTAL_ID else 0,
        gid if gid <= _MAX_OCTAL_ID else 0,
        size if size <= _MAX_OCTAL_SIZE else 0,
        mtime,
        link,
        major,
        minor,
        prefix,
    )
    return _pax(name, records) + block if records else block


def _block(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    major: int,
    minor: int,
    prefix: bytes,
) -> bytes:
    start = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    end = b"%b%bustar\00000%b%07o\0%07o\0%b" % (
        kind,
        link.ljust(100, b"\0"),
        bytes(64),
        major,
        minor,
        prefix.ljust(167, b"\0"),
    )
    # Adler-32's low half is 1 + the sum of the bytes modulo 65521: two parts of at most 256 bytes cannot reach that.
    total = (zlib.adler32(start) & 0xFFFF) + (zlib.adler32(end[:256]) & 0xFFFF) + (zlib.adler32(end[256:]) & 0xFFFF)
    return b"%b%06o\0 %b" % (start, total - 3 + 256, end)


def _pax(name: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    """A PAX header with these records, sorted by key."""
    body = b"".join(_record(key, value) for key, value in sorted(records))
    directory, _, base = name.rstrip(b"/").rpartition(b"/")
    own = (directory + b"/" if directory else b"") + b"PaxHeaders.0/" + base
    return _block(own[:100], b"x", 0o644, 0, 0, len(body), 0, b"", 0, 0, b"") + body + bytes(-len(body) % 512)


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value\\n`, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if rest + len(str(length)) != length:
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _plain(name: bytes) -> bytes:
    """What a reader without PAX shows: ASCII, at most 100 bytes."""
    return bytes(byte for byte in name if byte < 128)[:100]


def _split(name: bytes) -> tuple[bytes, bytes]:
    """ustar's prefix and name of a long path, or nothing where no slash lies right."""
    if len(name) > 256:
        return b"", b""
    slash = name.rfind(b"/", 0, min(156, len(name) - 1))
    if slash <= 0 or len(name) - slash - 1 > 100:
        return b"", b""
    return name[:slash], name[slash + 1 :]
