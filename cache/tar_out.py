# ruff: noqa: PTH115
"""Deterministic tar out: the same tree gives the same bytes on any machine.

Each directory before its contents, names sorted by their bytes, whiteouts of a directory first; ustar headers with
PAX records only where ustar cannot say it; numeric owners, no names; times in whole seconds, those newer than the
epoch set to it; hard links as links to the name that comes first; no access times, no host-specific attributes.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from buildtool.errors import Corrupt, InvalidInput

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_END = bytes(1024)
_MAX_OCTAL_ID = 0o7777777
_MAX_OCTAL_SIZE = 0o77777777777
_OPAQUE_XATTRS = ("trusted.overlay.opaque", "user.overlay.opaque")
_KINDS = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}


@dataclass(slots=True)
class _State:
    epoch: int | None
    layer: bool
    links: dict[tuple[int, int], bytes]
    skip: Callable[[str], bool] | None = None


def tar_tree(
    root: Path, epoch: int | None = None, *, layer: bool = True, skip: Callable[[str], bool] | None = None
) -> Iterator[bytes]:
    """The archive of a directory tree, in chunks of about 1 MiB.

    With `layer` it is a layer: overlay's whiteouts and opaque directories become .wh. files, and a file that has such
    a name is refused with InvalidInput. Sockets are left out. The root itself is only mentioned when it is not plain
    0755 root:root. The tree must not change meanwhile (Corrupt when a file shrinks). Paths (relative) that `skip`
    says are left out with all below them.
    """
    buffer: list[bytes] = []
    buffered = 0
    pieces = _pieces(os.fsencode(root), _State(epoch, layer, {}, skip))
    while True:
        try:
            piece = next(pieces, None)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise InvalidInput(f"a path in {root} is longer than the kernel takes (4096 bytes)") from error
        if piece is None:
            break
        buffer.append(piece)
        buffered += len(piece)
        if buffered >= _CHUNK:
            yield b"".join(buffer) if len(buffer) > 1 else piece
            buffer, buffered = [], 0
    buffer.append(_END)
    yield b"".join(buffer)


def _pieces(root: bytes, state: _State) -> Iterator[bytes]:
    status = os.lstat(root)
    xattrs = _xattrs(root, state)
    if (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) != (0o755, 0, 0) or xattrs[0]:
        yield header(b"./", b"5", status, _mtime(status, state.epoch), xattrs=xattrs[0])
    pending: list[tuple[bytes, bytes, os.DirEntry[bytes] | None, bool]] = [(root, b"", None, xattrs[1])]
    while pending:
        path, name, entry, opaque = pending.pop()
        if entry is not None:
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                yield from _leaf(path, name, status, state)
                continue
            kept, opaque = _xattrs(path, state)
            yield header(name + b"/", b"5", status, _mtime(status, state.epoch), xattrs=kept)
            prefix = name + b"/"
        else:
            prefix = b""
        children = []
        whiteouts = []
        with os.scandir(path) as listing:
            for child in listing:
                if state.skip is not None and state.skip(os.fsdecode(prefix + child.name)):
                    continue
                if state.layer and child.name.startswith(b".wh."):
                    raise InvalidInput(
                        f"{os.fsdecode(prefix + child.name)!r} cannot be in a layer: OCI reserves names in .wh.…",
                        hint="remove the file in the step that makes it",
                    )
                if state.layer and _is_whiteout(child):
                    whiteouts.append(child.name)
                else:
                    children.append(child)
        if opaque and state.layer:
            yield _whiteout(prefix + b".wh..wh..opq", state)
        for whiteout in sorted(whiteouts):
            yield _whiteout(prefix + b".wh." + whiteout, state)
        children.sort(key=_name, reverse=True)
        pending.extend((child.path, prefix + child.name, child, False) for child in children)


def _name(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name


def _is_whiteout(entry: os.DirEntry[bytes]) -> bool:
    if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False) or entry.is_symlink():
        return False
    status = entry.stat(follow_symlinks=False)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _leaf(path: bytes, name: bytes, status: os.stat_result, state: _State) -> Iterator[bytes]:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return  # a socket
    mtime = _mtime(status, state.epoch)
    if status.st_nlink > 1:
        key = (status.st_dev, status.st_ino)
        first = state.links.setdefault(key, name)
        if first is not name:
            yield header(name, b"1", status, mtime, link=first)
            return
    if kind == b"0":
        yield from _file(path, name, status, mtime, state)
        return
    link = os.readlink(path) if kind == b"2" else b""
    yield header(name, kind, status, mtime, link=link, xattrs=_xattrs(path, state)[0])


def _file(path: bytes, name: bytes, status: os.stat_result, mtime: int, state: _State) -> Iterator[bytes]:
    size = status.st_size
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield header(name, b"0", status, mtime, size=size, xattrs=_xattrs(fd, state)[0])
        if not size:
            return
        if size > _CHUNK and status.st_blocks * 512 < size:
            yield from _sparse_content(fd, size, name)
        else:
            left = size
            while left:
                data = os.read(fd, min(left, _CHUNK))
                if not data:
                    raise Corrupt(f"{os.fsdecode(path)} became shorter while it was read")
                if left == size and state.epoch is not None and name.endswith(b".pyc"):
                    data = _clamp_pyc(data, state.epoch)
                left -= len(data)
                yield data
    finally:
        os.close(fd)
    if fill := -size % 512:
        yield _ZEROS[:fill]


def _sparse_content(fd: int, size: int, name: bytes) -> Iterator[bytes]:
    """The bytes of a file with holes; the holes are not read."""
    position = 0
    while position < size:
        try:
            start = min(os.lseek(fd, position, os.SEEK_DATA), size)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            start = size
        for offset in range(position, start, _CHUNK):
            yield _ZEROS[: min(_CHUNK, start - offset)]
        if start >= size:
            return
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        position = start
        while position < end:
            data = os.pread(fd, min(_CHUNK, end - position), position)
            if not data:
                raise Corrupt(f"{os.fsdecode(name)} became shorter while it was read")
            position += len(data)
            yield data


def _clamp_pyc(data: bytes, epoch: int) -> bytes:
    """A .pyc that names its source's time must name the clamped one, or Python compiles again on every start.

    Source: PEP 552; a zero flags word means that a 32-bit mtime follows.
    """
    if len(data) < 16 or data[4:8] != b"\0\0\0\0" or int.from_bytes(data[8:12], "little") <= epoch:
        return data
    return data[:8] + (max(0, epoch) & 0xFFFFFFFF).to_bytes(4, "little") + data[12:]


def _mtime(status: os.stat_result, epoch: int | None) -> int:
    mtime = status.st_mtime_ns // 1_000_000_000
    return mtime if epoch is None or mtime <= epoch else epoch


def _xattrs(path: bytes | int, state: _State) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The attributes that belong to the file (sorted), and whether the directory is opaque."""
    try:
        names = os.listxattr(path) if isinstance(path, int) else os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return [], False
        raise
    if not names:
        return [], False
    opaque = any(name in _OPAQUE_XATTRS and _xattr(path, name) == b"y" for name in names)
    kept = sorted(os.fsencode(name) for name in names if _portable(name))
    return [(name, _xattr(path, os.fsdecode(name))) for name in kept], opaque


def _xattr(path: bytes | int, name: str) -> bytes:
    return os.getxattr(path, name) if isinstance(path, int) else os.getxattr(path, name, follow_symlinks=False)


def _portable(name: str) -> bool:
    """Labels of this host (SELinux, IMA …) and overlay's bookkeeping stay here."""
    if name.startswith("user."):
        return not name.startswith("user.overlay.")
    return name in ("security.capability", "system.posix_acl_access", "system.posix_acl_default")


def _whiteout(name: bytes, state: _State) -> bytes:
    return _header(name, b"0", 0, 0, 0, 0, max(0, state.epoch or 0), b"", 0, 0, [])


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
    return _header(name, kind, mode, status.st_uid, status.st_gid, size, mtime, link, major, minor, xattrs or [])


def _header(
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
