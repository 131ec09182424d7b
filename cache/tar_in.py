# ruff: noqa: PTH101, PTH102, PTH211
"""Safe tar in: unpack an archive into a directory without ever leaving it.

Names are cleaned as Docker cleans them (leading slashes dropped, "a/../b" is "b") and refused when they still lead
out; where they go, tar_places says. The target must be ours alone while we write.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from buildtool.cache.below import Below
from buildtool.cache.disk import FullDisk
from buildtool.cache.overlay import in_user_namespace
from buildtool.cache.tar_entries import (
    CHUNK,
    clean,
    set_xattrs,
    show,
    write_all,
    write_pieces,
    write_sparse,
)
from buildtool.cache.tar_fields import TarEntry
from buildtool.cache.tar_places import Places
from buildtool.cache.tar_read import read_entries
from buildtool.cache.tar_source import ByteSource, padding
from buildtool.cache.trees import Tree
from buildtool.cache.whiteouts import is_whiteout, make_whiteout
from buildtool.errors import InvalidInput

WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTRY_FAULTS = {errno.E2BIG, errno.EEXIST, errno.EFBIG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ELOOP}
_ENTRY_FAULTS |= {errno.EMLINK, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EOVERFLOW, errno.ERANGE}


def extract(chunks: Iterator[bytes], target: Path, *, squash_ids: bool = False) -> None:
    """Unpack a plain archive (no whiteouts, an unprivileged caller skips devices) into a directory: what ADD and cp
    do.

    Existing entries are replaced, directories merged. Raises InvalidInput on hostile or malformed archives,
    StoreFull.
    """
    Unpacker(target, layer=False, squash_ids=squash_ids).unpack(chunks)


class Unpacker:
    """Unpacks one archive into one directory.

    With `layer`, OCI whiteouts become overlay's (char device 0:0, opaque xattr). `parents` is the tree below the
    layer: a directory that the archive does not mention takes its attributes, a hard link to a file only there takes
    its content. `borrowed` tells afterwards whether anything was taken from it, `invented` whether a directory had to
    be made up that neither has. `below`, for what is no layer, is the tree that the archive is unpacked onto: its
    symlinks lead on where the archive goes through them without having them, as if it were all one directory.
    `owner` is whose everything becomes, whatever the archive says.
    """

    def __init__(
        self,
        target: Path,
        *,
        layer: bool = True,
        squash_ids: bool = False,
        parents: Tree | None = None,
        below: Below | None = None,
        owner: tuple[int, int] | None = None,
    ) -> None:
        self._root = os.fsencode(target)
        self._owner = owner
        self._layer = layer
        self._squash = squash_ids
        self._places = Places(
            self._root, layer=layer, squash_ids=squash_ids, parents=parents, below=below, owner=owner
        )
        self._attributes = self._places.attributes
        self._known = self._places.known
        self._user_namespace = in_user_namespace()
        self._opaque = self._places.opaque

    @property
    def borrowed(self) -> bool:
        """Whether the result depends on `parents`."""
        return self._places.copied_up or bool(self._places.implicit)

    @property
    def invented(self) -> bool:
        """Whether a directory had to be made up."""
        return self._places.invented

    def unpack(self, chunks: Iterator[bytes]) -> None:
        """Unpack everything, then read the stream to its end."""
        source = ByteSource(chunks)
        with FullDisk(Path(os.fsdecode(self._root))):
            for entry in read_entries(source):
                before = source.consumed
                try:
                    self._apply(entry, source)
                except OSError as error:
                    if error.errno in _ENTRY_FAULTS:
                        raise InvalidInput(f"entry {show(entry.name)}: {error.strerror}") from error
                    raise
                left = entry.stored - (source.consumed - before)
                source.skip(left + padding(entry.stored))
            self._places.finish()
        source.drain()

    def _apply(self, entry: TarEntry, source: ByteSource) -> None:
        name = clean(entry.name)
        parent_name, _, base = name.rpartition(b"/")
        if not base:
            self._apply_root(entry)
            return
        parent = self._known.get(parent_name) or self._places.directory(parent_name, entry)
        if self._layer and base.startswith(WHITEOUT):
            self._whiteout(parent, base, entry)
            return
        path = parent + b"/" + base
        kind = entry.kind
        if kind == b"0":
            self._file(path, entry, source)
        elif kind == b"5":
            self._make_directory(path, entry)
        elif kind == b"2":
            self._symlink(path, entry)
        elif kind == b"1":
            self._hard_link(path, entry)
        elif kind in (b"3", b"4", b"6"):
            self._node(path, entry)
        else:
            raise InvalidInput(f"entry {show(entry.name)}: unknown type {kind!r}")

    def _apply_root(self, entry: TarEntry) -> None:
        if entry.kind != b"5":
            raise InvalidInput(f"entry {show(entry.name)}: names the root, but is no directory")
        self._own(self._root, entry)
        set_xattrs(self._root, entry.xattrs)
        self._attributes[self._root] = (entry.mode, entry.mtime_ns)

    def _file(self, path: bytes, entry: TarEntry, source: ByteSource) -> None:
        try:
            fd = os.open(path, _CREATE, 0o600)
        except FileExistsError:
            self._places.remove(path)
            fd = os.open(path, _CREATE, 0o600)
        try:
            if entry.data is not None:
                write_sparse(fd, entry, source)
            elif 0 < entry.stored <= CHUNK:
                write_all(fd, source.take(entry.stored))
            elif entry.stored:
                write_pieces(fd, source.pieces(entry.stored), entry.size)
            if not self._squash:
                self._chown(fd, entry)
            os.fchmod(fd, entry.mode)
            if entry.xattrs:
                set_xattrs(fd, entry.xattrs)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _make_directory(self, path: bytes, entry: TarEntry) -> None:
        opaque = False
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                opaque = self._layer and is_whiteout(status)
                self._places.remove(path)
                os.mkdir(path, 0o700)
        if opaque:
            os.setxattr(path, self._opaque, b"y")
        self._places.implicit.discard(path)
        self._own(path, entry)
        if entry.xattrs:
            set_xattrs(path, entry.xattrs)
        self._attributes[path] = (entry.mode, entry.mtime_ns)

    def _symlink(self, path: bytes, entry: TarEntry) -> None:
        if not entry.link:
            raise InvalidInput(f"entry {show(entry.name)}: a symlink without target")
        try:
            os.symlink(entry.link, path)
        except FileExistsError:
            self._places.remove(path)
            os.symlink(entry.link, path)
        self._own(path, entry)
        set_xattrs(path, entry.xattrs)
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)

    def _hard_link(self, path: bytes, entry: TarEntry) -> None:
        target_name = clean(entry.link)
        target = self._places.existing(target_name)
        if target is None:
            target = self._places.copy_up(target_name, entry)
        if target == path:
            return
        if stat.S_ISDIR(os.lstat(target).st_mode):
            raise InvalidInput(f"entry {show(entry.name)}: a hard link to the directory {show(entry.link)}")
        try:
            os.link(target, path, follow_symlinks=False)
        except FileExistsError:
            self._places.remove(path)
            os.link(target, path, follow_symlinks=False)

    def _node(self, path: bytes, entry: TarEntry) -> None:
        formats = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}
        if entry.major >= 1 << 12 or entry.minor >= 1 << 20:
            raise InvalidInput(f"entry {show(entry.name)}: bad device number {entry.major}:{entry.minor}")
        device = 0 if entry.kind == b"6" else os.makedev(entry.major, entry.minor)
        mode = formats[entry.kind] | 0o600
        try:
            try:
                os.mknod(path, mode, device)
            except FileExistsError:
                self._places.remove(path)
                os.mknod(path, mode, device)
        except PermissionError:
            if self._user_namespace:  # devices cannot be made there; Docker leaves them out too
                return
            raise
        self._own(path, entry)
        os.chmod(path, entry.mode)
        set_xattrs(path, entry.xattrs)
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))

    def _whiteout(self, parent: bytes, base: bytes, entry: TarEntry) -> None:
        if base == _OPAQUE:
            os.setxattr(parent, self._opaque, b"y")
            return
        if base.startswith(_AUFS):  # bookkeeping of AUFS, no part of the tree
            return
        name = base[len(WHITEOUT) :]
        if name in (b"", b".", b".."):
            raise InvalidInput(f"entry {show(entry.name)}: a whiteout of {show(name)}")
        path = parent + b"/" + name
        try:
            make_whiteout(path)
        except FileExistsError:  # in this layer already: the whiteout is about those below only
            if stat.S_ISDIR(os.lstat(path).st_mode):
                os.setxattr(path, self._opaque, b"y")

    def _own(self, path: bytes, entry: TarEntry) -> None:
        if not self._squash:
            self._chown(path, entry)

    def _chown(self, path: bytes | int, entry: TarEntry) -> None:
        uid, gid = self._owner or (entry.uid, entry.gid)
        try:
            if isinstance(path, int):
                os.fchown(path, uid, gid)
            else:
                os.lchown(path, uid, gid)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise InvalidInput(
                f"entry {show(entry.name)}: owner {uid}:{gid} does not exist in this user namespace",
                hint="add a wider range for this user to /etc/subuid and /etc/subgid",
            ) from None
