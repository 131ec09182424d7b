# ruff: noqa: PTH102, PTH101, PTH123
"""Copies selected files into a snapshot draft: few system calls a file, everything relative to directory
descriptors.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from buildtool.errors import Conflict
from buildtool.solve.ownership import Owner
from buildtool.solve.placement import Ancestor, Placement, xattrs_of
from buildtool.solve.selection import Entry, Selection

_SMALL = 1 << 18
_NOBODYS = (-1, -1)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Stopped(Exception):
    """The build was cancelled while files were being copied."""


@dataclass(frozen=True, slots=True)
class Previous:
    """An earlier result of the same instruction: the directory its files went to, and what each of them was.

    Files that are the same in both are linked, not copied: snapshots never change.
    """

    directory: Path
    lines: dict[str, str]


@dataclass
class Writer:
    """Writes into the snapshot draft at `root`.

    `owner` and `chmod` are what --chown and --chmod say. Files from the context all get the time of the copy: not
    the clock's granularity but the same nanosecond, so that no make rule finds one of them older than another.
    Files that are one file (hard links) among those of one copy are one file in its result, too.
    `cancelled` makes the copy end with Stopped.
    """

    root: Path
    squash_ids: bool
    owner: Owner | None = None
    chmod: Callable[[int], int] | None = None
    previous: Previous | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._umask = _umask()
        self._ids = (os.geteuid(), os.getegid())
        self._now = time.time_ns()
        self._links: dict[tuple[int, int], str] = {}
        self._base = ""
        self._owned = False

    def copy(self, placement: Placement, selection: Selection) -> None:
        """Copy everything. Raises Conflict when a file is not any more what was hashed, OSError, Stopped."""
        self._owned = selection.owned
        self._base = f"{self.root}{placement.base.rstrip('/')}/"
        self.make_directories(placement.ancestors)
        fd = os.open(self._base, _DIRECTORY)
        hosts = _Hosts()
        try:
            for entry in selection.roots if placement.rename is None else selection.roots[-1:]:
                if not entry.is_directory:
                    self._file(entry, placement.rename or entry.name, fd, hosts, None, "")
                elif entry.name:
                    self._directory(entry, fd, None, "")
                else:
                    before = None if self.previous is None else _open_or_none(str(self.previous.directory), None)
                    self._contents(entry, fd, before, "")
        finally:
            hosts.close()
            os.close(fd)

    def make_directories(self, ancestors: tuple[Ancestor, ...]) -> None:
        """Make the way to the destination: as it is in the tree below, or new with mode 0755."""
        path = str(self.root)
        if any(ancestor.mode is not None and ancestor.mode & stat.S_ISGID for ancestor in ancestors):
            self._ids = _NOBODYS  # the kernel gives what is made in there another group
        for ancestor in ancestors:
            path = f"{path}/{ancestor.name}"
            try:
                os.mkdir(path)
            except FileExistsError:
                continue
            owner = ancestor.owner if ancestor.mode is not None else self.owner
            if owner is None and self._ids == _NOBODYS:
                owner = (0, 0)
            if owner is not None and not self.squash_ids and owner != self._ids:
                os.chown(path, *owner)
            os.chmod(path, 0o755 if ancestor.mode is None else ancestor.mode)
            for name, value in ancestor.xattrs:
                os.setxattr(path, name, value)

    def _directory(self, entry: Entry, parent: int, before: int | None, path: str) -> None:
        if self.cancelled.is_set():
            raise Stopped
        try:
            os.mkdir(entry.name, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(entry.name, dir_fd=parent, follow_symlinks=False).st_mode):
                self._forget(entry.name, path)
                os.unlink(entry.name, dir_fd=parent)
                os.mkdir(entry.name, dir_fd=parent)
        fd = os.open(entry.name, _DIRECTORY, dir_fd=parent)
        try:
            below = None if before is None else _open_or_none(entry.name, before)
            self._contents(entry, fd, below, path + entry.name + "/")
            self._finish(fd, entry)
        finally:
            os.close(fd)

    def _contents(self, entry: Entry, fd: int, before: int | None, path: str) -> None:
        hosts = _Hosts()
        try:
            for child in entry.children:
                if not child.is_directory:
                    self._file(child, child.name, fd, hosts, before, path)
                else:
                    self._directory(child, fd, before, path)
        finally:
            hosts.close()
            if before is not None:
                os.close(before)

    def _finish(self, fd: int, entry: Entry) -> None:
        """Give a directory its attributes, once its contents are there."""
        status = entry.status
        owner = self._owner_of(status)
        if owner is not None:
            os.fchown(fd, *owner)
        os.fchmod(fd, self._mode_of(status))
        if self._owned and entry.host:
            self._copy_xattrs(f"{entry.host}/{entry.source_name}", fd)
        os.utime(fd, ns=self._times(status))

    def _file(self, entry: Entry, name: str, fd: int, hosts: _Hosts, before: int | None, path: str) -> None:
        kind = stat.S_IFMT(entry.status.st_mode)
        if kind == stat.S_IFREG and entry.status.st_nlink > 1 and self._link_first(entry, name, fd, path):
            return
        if before is not None and self._link_previous(entry, name, fd, before, path):
            return
        try:
            if kind == stat.S_IFREG:
                self._regular(entry, name, fd, hosts)
            else:
                self._special(entry, name, fd)
        except FileExistsError:
            self._forget(name, path)
            os.unlink(name, dir_fd=fd)
            self._file(entry, name, fd, hosts, before, path)

    def _link_first(self, entry: Entry, name: str, fd: int, path: str) -> bool:
        """Make it a link to the file of the same copy that it is one file with; False when it is the first itself."""
        own = f"{self._base}{path}{name}"
        first = self._links.setdefault((entry.status.st_dev, entry.status.st_ino), own)
        if first == own:
            return False
        try:
            os.link(first, name, dst_dir_fd=fd, follow_symlinks=False)
        except FileExistsError:
            self._forget(name, path)
            os.unlink(name, dir_fd=fd)
            return self._link_first(entry, name, fd, path)
        return True

    def _forget(self, name: str, path: str) -> None:
        """Something else comes in the place of a file: no later one is a link to it."""
        gone = f"{self._base}{path}{name}"
        self._links = {inode: first for inode, first in self._links.items() if first != gone}

    def _link_previous(self, entry: Entry, name: str, fd: int, before: int, path: str) -> bool:
        assert self.previous is not None
        if self.previous.lines.get(path + name) != f"{entry.status.st_mode:o} {entry.digest}":
            return False
        try:
            os.link(name, name, src_dir_fd=before, dst_dir_fd=fd, follow_symlinks=False)
        except FileExistsError:
            os.unlink(name, dir_fd=fd)
            return self._link_previous(entry, name, fd, before, path)
        except OSError:
            return False  # gone, or too many links: copy it
        return True

    def _regular(self, entry: Entry, name: str, fd: int, hosts: _Hosts) -> None:
        status = entry.status
        mode = self._mode_of(status)
        target = os.open(name, _CREATE, mode & 0o777, dir_fd=fd)
        try:
            if entry.content is not None:
                _write(target, entry.content)
            else:
                self._copy_data(entry, target, hosts)
            owner = self._owner_of(status)
            if owner is not None:
                os.fchown(target, *owner)
            if owner is not None or mode & self._umask or mode > 0o777:
                os.fchmod(target, mode)
            os.utime(target, ns=self._times(status))
        finally:
            os.close(target)

    def _copy_data(self, entry: Entry, target: int, hosts: _Hosts) -> None:
        source = os.open(entry.source_name, _READ, dir_fd=hosts.get(entry.host))
        try:
            size = entry.status.st_size
            if size <= _SMALL:
                _write(target, os.read(source, size + 1))
            else:
                _copy_big(source, target, entry.status)
            if not self._owned:
                now = os.fstat(source)
                if not _unchanged(now, entry.status):
                    raise Conflict(
                        f"{entry.host}/{entry.source_name} changed while the build was copying it",
                        hint="build again when nothing writes to the context",
                    )
            else:
                self._copy_xattrs(source, target)
        finally:
            os.close(source)

    def _special(self, entry: Entry, name: str, fd: int) -> None:
        status = entry.status
        if stat.S_ISLNK(status.st_mode):
            os.symlink(entry.digest, name, dir_fd=fd)
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, int(entry.digest), dir_fd=fd)
            os.chmod(name, self._mode_of(status), dir_fd=fd)
        owner = self._owner_of(status)
        if owner is not None:
            os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)
        os.utime(name, ns=self._times(status), dir_fd=fd, follow_symlinks=False)

    def _mode_of(self, status: os.stat_result) -> int:
        mode = status.st_mode
        return stat.S_IMODE(mode) if self.chmod is None else self.chmod(mode)

    def _owner_of(self, status: os.stat_result) -> Owner | None:
        """The owner to set, None when what the kernel gives is right."""
        if self.squash_ids:
            return None
        if self.owner is not None:
            owner = self.owner
        elif self._owned:
            owner = (status.st_uid, status.st_gid)
        else:
            owner = (0, 0)
        return None if owner == self._ids else owner

    def _times(self, status: os.stat_result) -> tuple[int, int]:
        return (status.st_mtime_ns, status.st_mtime_ns) if self._owned else (self._now, self._now)

    def _copy_xattrs(self, source: int | str, target: int) -> None:
        for name, value in xattrs_of(source) if isinstance(source, str) else _xattrs_of_fd(source):
            try:
                os.setxattr(target, name, value)
            except PermissionError:
                if not self.squash_ids:
                    raise


class _Hosts:
    """The host directories that the files of one directory come from, opened once each."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def get(self, directory: str) -> int:
        fd = self._fds.get(directory)
        if fd is None:
            fd = self._fds[directory] = os.open(directory, _DIRECTORY & ~os.O_NOFOLLOW)
        return fd

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


def _xattrs_of_fd(fd: int) -> list[tuple[str, bytes]]:
    names = [name for name in os.listxattr(fd) if not name.startswith(("trusted.overlay.", "user.overlay."))]
    return [(name, os.getxattr(fd, name)) for name in names if name != "security.selinux"]


def _open_or_none(name: str, parent: int | None) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError:
        return None


def _unchanged(now: os.stat_result, then: os.stat_result) -> bool:
    return (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (
        then.st_ino,
        then.st_size,
        then.st_mtime_ns,
        then.st_ctime_ns,
    )


def _write(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def _copy_big(source: int, target: int, status: os.stat_result) -> None:
    """Copy with reflinks where the file system has them, and keep holes."""
    size = status.st_size
    position = 0
    sparse = status.st_blocks * 512 < size
    while position < size:
        end = size
        if sparse:
            try:
                position = os.lseek(source, position, os.SEEK_DATA)
            except OSError:
                break  # ENXIO: a hole up to the end
            end = os.lseek(source, position, os.SEEK_HOLE)
        position = _copy_range(source, target, position, end)
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, position: int, end: int) -> int:
    while position < end:
        try:
            count = os.copy_file_range(source, target, min(end - position, 1 << 30), position, position)
        except OSError:
            os.lseek(target, position, os.SEEK_SET)
            count = os.sendfile(target, source, position, min(end - position, 1 << 30))
        if count == 0:
            return end
        position += count
    return position


def _umask() -> int:
    """The process's umask, read without changing it (other threads create files)."""
    with open("/proc/self/status") as status:
        return next((int(line.split()[1], 8) for line in status if line.startswith("Umask:")), 0o022)
