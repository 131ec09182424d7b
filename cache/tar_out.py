"""Deterministic tar out: the same tree gives the same bytes on any machine.

Each directory before its contents, names sorted by their bytes, whiteouts of a directory first; ustar headers with
PAX records only where ustar cannot say it; numeric owners, no names; times in whole seconds, those newer than the
epoch set to it; hard links as links to the name that comes first; no access times, no host-specific attributes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from buildtool.cache.tar_headers import entry_header, header, owner_of
from buildtool.cache.whiteouts import is_whiteout
from buildtool.errors import Corrupt, InvalidInput

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_END = bytes(1024)
_MAX_PATH = 4095
_MAX_OPEN = 64
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = _READ | os.O_DIRECTORY
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


@dataclass(slots=True)
class _Directory:
    """A directory on the way down. `fd` is None where too many would be open: then paths are used."""

    path: bytes
    prefix: bytes
    fd: int | None
    children: list[tuple[bytes, os.stat_result]]

    def at(self, name: bytes) -> bytes:
        """What to call an entry beside `dir_fd=self.fd`: with a descriptor the kernel looks up one name only."""
        return name if self.fd is not None else b"%b/%b" % (self.path, name)


def _pieces(root: bytes, state: _State) -> Iterator[bytes]:
    frames: list[_Directory] = []
    try:
        yield from _enter(root, b"", _open(root, None, _DIRECTORY), None, frames, state)
        while frames:
            directory = frames[-1]
            if not directory.children:
                if directory.fd is not None:
                    os.close(directory.fd)
                    directory.fd = None
                frames.pop()
                continue
            name, status = directory.children.pop()
            if stat.S_ISDIR(status.st_mode):
                fd = _open(directory.at(name), directory.fd, _DIRECTORY)
                yield from _enter(
                    b"%b/%b" % (directory.path, name), directory.prefix + name, fd, status, frames, state
                )
            else:
                yield from _leaf(directory, name, status, state)
    finally:
        for directory in frames:
            if directory.fd is not None:
                os.close(directory.fd)


def _enter(
    path: bytes, name: bytes, fd: int, status: os.stat_result | None, frames: list[_Directory], state: _State
) -> Iterator[bytes]:
    """A directory's header and whiteouts; what else it has is put on the stack. Without a status it is the root."""
    prefix = name + b"/" if name else b""
    directory = _Directory(path, prefix, fd, [])
    frames.append(directory)
    if len(path) > _MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    kept, opaque = _xattrs(fd, state)
    if status is not None:
        yield header(prefix, b"5", status, _mtime(status, state.epoch), xattrs=kept)
    else:
        status = os.fstat(fd)
        if (stat.S_IMODE(status.st_mode), *owner_of(status)) != (0o755, 0, 0) or kept:
            yield header(b"./", b"5", status, _mtime(status, state.epoch), xattrs=kept)
    whiteouts = []
    with os.scandir(fd) as listing:
        for child in listing:
            base = os.fsencode(child.name)
            if state.skip is not None and state.skip(os.fsdecode(prefix + base)):
                continue
            if state.layer and base.startswith(b".wh."):
                raise InvalidInput(
                    f"{os.fsdecode(prefix + base)!r} cannot be in a layer: OCI reserves names in .wh.…",
                    hint="remove the file in the step that makes it",
                )
            status = child.stat(follow_symlinks=False)
            if state.layer and is_whiteout(status):
                whiteouts.append(base)
            else:
                directory.children.append((base, status))
    if len(frames) > _MAX_OPEN:
        os.close(fd)
        directory.fd = None
    if opaque and state.layer:
        yield _whiteout(prefix + b".wh..wh..opq", state)
    for whiteout in sorted(whiteouts):
        yield _whiteout(prefix + b".wh." + whiteout, state)
    directory.children.sort(key=_name, reverse=True)


def _name(child: tuple[bytes, os.stat_result]) -> bytes:
    return child[0]


def _open(name: bytes, directory: int | None, flags: int) -> int:
    """Open without a trace: reading a new file would write its access time."""
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=directory)
    except PermissionError:  # not ours
        return os.open(name, flags, dir_fd=directory)


def _leaf(directory: _Directory, base: bytes, status: os.stat_result, state: _State) -> Iterator[bytes]:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return  # a socket
    name = directory.prefix + base
    mtime = _mtime(status, state.epoch)
    if status.st_nlink > 1:
        key = (status.st_dev, status.st_ino)
        first = state.links.setdefault(key, name)
        if first is not name:
            yield header(name, b"1", status, mtime, link=first)
            return
    if kind == b"0":
        yield from _file(directory, base, status, mtime, state)
    elif kind == b"2":  # has none of the attributes that go into an archive
        yield header(name, kind, status, mtime, link=os.readlink(directory.at(base), dir_fd=directory.fd))
    else:
        xattrs, _ = _xattrs(b"%b/%b" % (directory.path, base), state)
        yield header(name, kind, status, mtime, xattrs=xattrs)


def _file(directory: _Directory, base: bytes, status: os.stat_result, mtime: int, state: _State) -> Iterator[bytes]:
    size, name = status.st_size, directory.prefix + base
    fd = _open(directory.at(base), directory.fd, _READ)
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
                    raise Corrupt(
                        f"{os.fsdecode(directory.path)}/{os.fsdecode(base)} became shorter while it was read"
                    )
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
    return entry_header(name, b"0", 0, 0, 0, 0, max(0, state.epoch or 0), b"", 0, 0, [])
