# ruff: noqa: PTH101, PTH102, PTH108, PTH115
"""Where the entries of an archive go: names to host paths without symlinks, and what is on the way there.

Every parent directory is resolved here, component by component, with symlinks confined to the target: the kernel is
only given paths without symlinks, so the archive's links never decide where something is written.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time

from buildtool.cache.below import Below
from buildtool.cache.disk import remove_tree
from buildtool.cache.overlay import opaque_xattr
from buildtool.cache.tar_entries import copy_xattrs, directories_below, show
from buildtool.cache.tar_fields import TarEntry
from buildtool.cache.trees import Tree
from buildtool.cache.whiteouts import is_whiteout
from buildtool.errors import InvalidInput

_MAX_LINKS = 40


class Places:
    """Those of one archive below `root`; for the other arguments see Unpacker.

    `known` are host paths by the names of directories in the archive. `attributes` are mode and mtime_ns of the
    directories by their host paths, for `finish`. `implicit` are directories that look as in the layers below,
    `invented` tells whether one had to be made up, `copied_up` whether a file was taken from there.
    """

    def __init__(
        self,
        root: bytes,
        *,
        layer: bool,
        squash_ids: bool,
        parents: Tree | None,
        below: Below | None,
        owner: tuple[int, int] | None,
    ) -> None:
        self.root = root
        self.known: dict[bytes, bytes] = {b"": root}
        self.attributes: dict[bytes, tuple[int, int]] = {}
        self.implicit: set[bytes] = set()
        self.copied_up = False
        self.invented = False
        self.opaque = opaque_xattr()
        self._layer = layer
        self._squash = squash_ids
        self._parents = below.tree if below is not None else parents
        self._onto = below
        self._owner = owner

    def directory(self, name: bytes, entry: TarEntry) -> bytes:
        """The host path of a directory of the archive, symlinks confined, missing parts made."""
        path = self._walk(name, create=True)
        if path is None:
            raise InvalidInput(f"entry {show(entry.name)}: a component of its path is not a directory")
        self.known[name] = path
        return path

    def existing(self, name: bytes) -> bytes | None:
        """The host path of an entry unpacked before (the last component not followed), or None."""
        parent_name, _, base = name.rpartition(b"/")
        if not base:
            return self.root
        parent = self.known.get(parent_name) or self._walk(parent_name, create=False)
        if parent is None:
            return None
        path = parent + b"/" + base
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
        return None if self._layer and is_whiteout(status) else path

    def _walk(self, name: bytes, *, create: bool) -> bytes | None:
        pending = name.split(b"/")[::-1]
        current: list[bytes] = []
        links = 0
        while pending:
            part = pending.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if current:
                    current.pop()
                continue
            path = b"/".join([self.root, *current, part])
            target = None
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                target = self._link_below(b"/".join([*current, part]))
                if target is None:
                    if not create:
                        return None
                    self._make_implicit(path, b"/".join([*current, part]), opaque=False)
                    current.append(part)
                    continue
            if target is not None or stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(path) if target is None else target
                if target.startswith(b"/"):
                    current = []
                pending.extend(target.split(b"/")[::-1])
                continue
            if create and self._layer and is_whiteout(status):
                os.unlink(path)
                self._make_implicit(path, b"/".join([*current, part]), opaque=True)
            elif not stat.S_ISDIR(status.st_mode):
                return None
            current.append(part)
        return b"/".join([self.root, *current])

    def _make_implicit(self, path: bytes, name: bytes, *, opaque: bool) -> None:
        """A directory that the archive did not mention: as it is in the layers below, else root's with 0755."""
        status = self._below(name)
        now = None if self._onto is None else time.time_ns()  # the tree's own directory: it is changed now
        os.mkdir(path, 0o700)
        if opaque:
            os.setxattr(path, self.opaque, b"y")
        if status is None:
            self.invented = True
            if self._owner is not None and not self._squash:
                os.chown(path, *self._owner)
            self.attributes[path] = (0o755, now or 0)
            return
        if not self._squash:
            os.chown(path, status.st_uid, status.st_gid)
        self.attributes[path] = (stat.S_IMODE(status.st_mode), now or status.st_mtime_ns)
        self.implicit.add(path)
        if self._parents is not None:
            copy_xattrs(os.fsencode(self._parents.real(os.fsdecode(name))), path)

    def _link_below(self, name: bytes) -> bytes | None:
        """Where a symlink leads that only the tree below has."""
        fact = None if self._onto is None else self._onto.ask(os.fsdecode(name))
        return os.fsencode(fact[1]) if fact is not None and fact[0] == "link" else None

    def _below(self, name: bytes) -> os.stat_result | None:
        if self._parents is None:
            return None
        try:
            status = self._parents.lstat(self._parents.resolve(os.fsdecode(name), strict=True))
        except OSError:
            return None
        return status if stat.S_ISDIR(status.st_mode) else None

    def copy_up(self, name: bytes, entry: TarEntry) -> bytes:
        """A hard link's target that only the layers below have comes into this layer, as the kernel would do it."""
        try:
            source = None if self._parents is None else os.fsencode(self._parents.real(os.fsdecode(name)))
        except OSError:
            source = None
        if source is None or not stat.S_ISREG(os.lstat(source).st_mode):
            raise InvalidInput(
                f"entry {show(entry.name)}: a hard link to {show(entry.link)}, which is no file before it"
            )
        parent_name, _, base = name.rpartition(b"/")
        path = (self.known.get(parent_name) or self.directory(parent_name, entry)) + b"/" + base
        if self.existing(name) is None and os.path.lexists(path):
            raise InvalidInput(
                f"entry {show(entry.name)}: a hard link to {show(entry.link)}, which this layer deletes"
            )
        if self._onto is not None:
            self._onto.ask(os.fsdecode(name), content=True)
        shutil.copyfile(source, path, follow_symlinks=False)
        status = os.lstat(source)
        if not self._squash:
            os.chown(path, status.st_uid, status.st_gid)
        os.chmod(path, stat.S_IMODE(status.st_mode))
        copy_xattrs(source, path)
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
        self.copied_up = True
        return path

    def remove(self, path: bytes) -> None:
        """Make room for an entry that replaces an earlier one."""
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            for directory in [path, *directories_below(path)]:
                self.attributes.pop(directory, None)
                self.implicit.discard(directory)
            remove_tree(os.fsdecode(path))
        else:
            os.unlink(path)
        if stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
            self.known.clear()
            self.known[b""] = self.root

    def finish(self) -> None:
        """Modes and times of directories, once nothing is written into them any more."""
        for path, (mode, mtime_ns) in reversed(self.attributes.items()):
            os.chmod(path, mode)
            os.utime(path, ns=(mtime_ns, mtime_ns))
