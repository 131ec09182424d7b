"""Archives of files as they are: for copying out of a container and for export. No whiteouts."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from buildtool.cache.tar_headers import header
from buildtool.cache.trees import Tree

_CHUNK = 1 << 20
_END = bytes(1024)
_ZEROS = bytes(_CHUNK)
_KINDS = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}

Links = dict[tuple[int, int], bytes]


def tar_path(path: str, name: str) -> Iterator[bytes]:
    """The archive of a file or directory of the running root, entries named `name` and below it."""
    links: Links = {}
    pending = [(os.fsencode(path), os.fsencode(name))]
    while pending:
        source, entry_name = pending.pop()
        try:
            status = os.lstat(source)
            if stat.S_ISDIR(status.st_mode):
                children = sorted(os.listdir(source), reverse=True)
                prefix = entry_name.rstrip(b"/") + b"/" if entry_name != b"/" else b""
                pending.extend((source.rstrip(b"/") + b"/" + child, prefix + child) for child in children)
        except FileNotFoundError:
            continue  # it went away meanwhile
        yield from _entry(source, entry_name, status, links)
    yield _END


def tar_merged(tree: Tree, epoch: int | None = None) -> Iterator[bytes]:
    """The archive of a merged tree, names relative to its root; the root itself is left out.

    Times later than `epoch` are set to it.
    """
    links: Links = {}
    for path, status in tree.walk("/"):
        if path != "/":
            yield from _entry(os.fsencode(tree.real(path)), os.fsencode(path[1:]), status, links, epoch)
    yield _END


def _entry(
    source: bytes, name: bytes, status: os.stat_result, links: Links, epoch: int | None = None
) -> Iterator[bytes]:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return  # a socket
    mtime = status.st_mtime_ns // 1_000_000_000
    if epoch is not None:
        mtime = min(mtime, epoch)
    if kind == b"5":
        yield header(name.rstrip(b"/") + b"/", kind, status, mtime, xattrs=_xattrs(source))
        return
    if status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), name)
        if first is not name:
            yield header(name, b"1", status, mtime, link=first)
            return
    if kind == b"0":
        yield from _file(source, name, status, mtime)
        return
    link = os.readlink(source) if kind == b"2" else b""  # noqa: PTH115 - bytes
    yield header(name, kind, status, mtime, link=link, xattrs=_xattrs(source))


def _file(source: bytes, name: bytes, status: os.stat_result, mtime: int) -> Iterator[bytes]:
    """A regular file; one that shrinks while it is read is filled with zeros, one that grows is cut."""
    try:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        left = status.st_size
        yield header(name, b"0", status, mtime, size=left, xattrs=_xattrs(source))
        while left:
            data = os.read(fd, min(left, _CHUNK)) or _ZEROS[: min(left, _CHUNK)]
            left -= len(data)
            yield data
    finally:
        os.close(fd)
    if fill := -status.st_size % 512:
        yield _ZEROS[:fill]


def _xattrs(path: bytes) -> list[tuple[bytes, bytes]]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return sorted(
            (os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in names if _portable(name)
        )
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOENT, errno.ENODATA, errno.EPERM):
            return []
        raise


def _portable(name: str) -> bool:
    if name.startswith("user."):
        return not name.startswith("user.overlay.")
    return name in ("security.capability", "system.posix_acl_access", "system.posix_acl_default")
