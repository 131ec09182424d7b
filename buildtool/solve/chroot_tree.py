# ruff: noqa: PTH101, PTH102, PTH115, PTH211
"""A step's tree as a plain copy, and its layer as what has changed in it: for where nothing can be mounted."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Collection
from pathlib import Path
from typing import TypeAlias

from buildtool.cache import Tree
from buildtool.cache.overlay import opaque_xattr
from buildtool.cache.whiteouts import make_whiteout

State: TypeAlias = dict[str, tuple[int, ...]]
"""What there is, by path: inode, times, mode, owner and size."""


def copy_tree(tree: Tree, root: str, start: str = "/") -> None:
    """Copy the tree (or what is at `start` of it) to `root`, a directory that is there or a file to be made.

    Modes, owners, times, links and extended attributes are kept; devices that may not be made are left out.
    """
    top = str(tree.real(start))
    status = os.lstat(top)
    links: dict[tuple[int, int], str] = {}
    if not stat.S_ISDIR(status.st_mode):
        _copy_entry(top, root, status, links)
        return
    with contextlib.suppress(FileExistsError):
        os.mkdir(root, 0o700)
    directories = [(root, status, top)]
    pending = [(start, root)]
    while pending:
        path, into = pending.pop()
        for name, status, directory in tree.children(path):
            source, target = f"{directory}/{name}", f"{into}/{name}"
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(target, 0o700)
                directories.append((target, status, source))
                pending.append((f"{path.rstrip('/')}/{name}", target))
            else:
                _copy_entry(source, target, status, links)
    for target, status, source in reversed(directories):
        copy_attributes(source, target, status)


def _copy_entry(source: str, target: str, status: os.stat_result, links: dict[tuple[int, int], str]) -> None:
    key = (status.st_dev, status.st_ino)
    if status.st_nlink > 1 and key in links:
        os.link(links[key], target, follow_symlinks=False)
    elif _copy_file(source, target, status):
        links[key] = target
        copy_attributes(source, target, status)


def _copy_file(source: str, target: str, status: os.stat_result) -> bool:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode):
        shutil.copyfile(source, target, follow_symlinks=False)
    else:
        try:
            os.mknod(target, status.st_mode, status.st_rdev)
        except PermissionError:
            return False
    return True


def copy_attributes(source: str, target: str, status: os.stat_result) -> None:
    """Owner, mode, extended attributes and times of one file or directory."""
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith(("trusted.overlay.", "user.overlay.")):
            with contextlib.suppress(PermissionError):
                os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def state_of(root: str) -> State:
    """Everything below a directory as it is now."""
    found: State = {}
    pending = [""]
    while pending:
        directory = pending.pop()
        with os.scandir(root + directory + "/") as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                path = f"{directory}/{entry.name}"
                found[path] = (
                    status.st_ino,
                    status.st_ctime_ns,
                    status.st_mtime_ns,
                    status.st_mode,
                    status.st_uid,
                    status.st_gid,
                    status.st_size,
                )
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
    return found


def take_changes(root: str, before: State, upper: Path, skip: Collection[str]) -> set[str]:
    """Copy what is new or changed since `before` into `upper`, and note there what is gone, as overlay does.

    Paths in `skip`, and all below them, do not count. Returns the paths of what is new or changed.
    """
    after = state_of(root)
    layer = _Layer(root, str(upper), before)
    changed = {path for path in after if before.get(path) != after[path] and not _skipped(path, skip)}
    for path in sorted(changed):
        layer.add(path, is_directory=stat.S_ISDIR(after[path][3]))
    for path in sorted(before):
        parent = path.rpartition("/")[0]
        if path not in after and not _skipped(path, skip) and (not parent or _is_directory(after.get(parent))):
            layer.remove(path)
    layer.finish()
    return changed


def _is_directory(state: tuple[int, ...] | None) -> bool:
    return state is not None and stat.S_ISDIR(state[3])


def _skipped(path: str, skip: Collection[str]) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in skip)


class _Layer:
    def __init__(self, root: str, upper: str, before: State) -> None:
        self._root = root
        self._upper = upper
        self._before = before
        self._made: dict[str, os.stat_result] = {}
        self._links: dict[tuple[int, int], str] = {}

    def add(self, path: str, *, is_directory: bool) -> None:
        if is_directory:
            self._directory(path)
            return
        self._directory(path.rpartition("/")[0])
        _copy_entry(self._root + path, self._upper + path, os.lstat(self._root + path), self._links)

    def remove(self, path: str) -> None:
        self._directory(path.rpartition("/")[0])
        make_whiteout(self._upper + path)

    def finish(self) -> None:
        """Give the directories their times, which changed when files were put in."""
        for path in sorted(self._made, reverse=True):
            status = self._made[path]
            os.utime(self._upper + path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _directory(self, path: str) -> None:
        if not path or path in self._made:
            return
        self._directory(path.rpartition("/")[0])
        status = os.lstat(self._root + path)
        os.mkdir(self._upper + path, 0o700)
        copy_attributes(self._root + path, self._upper + path, status)
        self._made[path] = status
        was = self._before.get(path)
        if was is not None and (not stat.S_ISDIR(was[3]) or was[0] != status.st_ino):
            try:
                os.setxattr(self._upper + path, opaque_xattr(), b"y")
            except OSError as error:
                if error.errno != errno.EPERM:
                    raise
