# ruff: noqa: PTH104, PTH106, PTH108, PTH123
"""What the store needs of the file system: barriers, removal of trees, and the full disk as an error of ours."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sqlite3
import stat
import struct
from pathlib import Path
from types import TracebackType

from buildtool.errors import StoreFull

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SQLITE_FULL = 13
_SQLITE_IOERR = 10
_FLATTEN_DEPTH = 48
_GET_FLAGS = 0x80000000 | struct.calcsize("l") << 16 | ord("f") << 8 | 1  # FS_IOC_GETFLAGS; the kernel moves an int
_SET_FLAGS = 0x40000000 | struct.calcsize("l") << 16 | ord("f") << 8 | 2
_TOP_DIRECTORY = 0x00020000  # FS_TOPDIR_FL


class FullDisk:
    """Context manager: ENOSPC and EDQUOT (also SQLite's) inside it become StoreFull naming `path`."""

    __slots__ = ("path",)

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and is_disk_full(error, self.path):
            raise StoreFull(
                f"no space left on the file system of {self.path}",
                hint="free some space (buildtool system prune), or move the data root with BUILDTOOL_ROOT",
            ) from error


def is_disk_full(error: BaseException, path: str | Path) -> bool:
    """Whether this error means that the file system of `path` (or the quota on it) is full."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return code == _SQLITE_FULL or (code == _SQLITE_IOERR and _nothing_free(path))
    return False


def _nothing_free(path: str | Path) -> bool:
    """SQLite reports a write that found no room in its shared-memory file as a plain I/O error."""
    try:
        return os.statvfs(path).f_bavail < 16
    except OSError:
        return False


def fsync_directory(path: str | Path) -> None:
    """Make the names in this directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a small file: temporary name, fsync, rename. Complete or unchanged, never partial."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with FullDisk(path):
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.rename(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        fsync_directory(path.parent)


class Reserve:
    """A file that only holds space, so that a full disk can still be cleaned: removing takes some room too."""

    SIZE = 1 << 20

    def __init__(self, root: Path) -> None:
        self._path = root / "reserve"

    def fill(self) -> None:
        """Take the space if it is not taken and there is some to spare."""
        if self._path.exists():
            return
        status = os.statvfs(self._path.parent)
        if status.f_bavail * status.f_frsize < 3 * self.SIZE:
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self.SIZE)
        except OSError:
            self._path.unlink()
        finally:
            os.close(fd)

    def spend(self) -> bool:
        """Give the space back; False when there was none."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True


def sync_filesystem(path: Path) -> None:
    """syncfs(2): everything written so far to the file system of `path` is durable when this returns."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(fd)


def spread_directories(path: Path) -> None:
    """Ask the file system to lay each directory made here far from the others (ext2 to ext4: `chattr +T`).

    Without it new trees land in the block group of those removed just before, and ext4 looks at every inode that was
    free for less than a minute again for each new one. Nothing happens on file systems that know no such thing.
    Source: chattr(1), ext4's recently_deleted().
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (flags,) = struct.unpack("i4x", fcntl.ioctl(fd, _GET_FLAGS, bytes(8)))
        if not flags & _TOP_DIRECTORY:
            fcntl.ioctl(fd, _SET_FLAGS, struct.pack("i4x", flags | _TOP_DIRECTORY))
    except OSError:  # advice only: XFS, Btrfs and tmpfs do not know it, or the file system is read-only
        return
    finally:
        os.close(fd)


def boot_id() -> str:
    """Identifies the running boot of this machine's kernel; empty where /proc does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def mounts_below(path: Path) -> list[str]:
    """The mount points at or below `path` in this mount namespace."""
    top = os.path.realpath(path)
    found = []
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            point = os.fsdecode(line.split(b" ", 5)[4].decode("unicode_escape").encode("latin-1"))
            if point == top or point.startswith(top + "/"):
                found.append(point)
    return found


def tree_usage(path: str | Path) -> int:
    """Bytes a directory tree takes on disk; a hard-linked file counts once, vanished entries do not count."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = [os.fsencode(path)]
    while pending:
        directory = pending.pop()
        try:
            total += os.lstat(directory).st_blocks * 512
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink > 1:
                        key = (status.st_dev, status.st_ino)
                        if key in seen:
                            continue
                        seen.add(key)
                    total += status.st_blocks * 512
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
                raise
    return total


def remove_tree(path: str | Path) -> None:
    """Remove a directory tree of any depth; symlinks are removed, never followed. A missing tree is no error.

    Works on directory descriptors, so a process that still writes inside cannot lead it out of the tree. Branches
    deeper than 48 levels are moved up and removed from there: neither recursion nor open descriptors grow with the
    depth.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(path)
        return
    for attempt in range(5):  # a dying process may still be adding files
        fd = _open_directory(path, None)
        try:
            while _empty(fd, fd, 0):
                continue
            os.rmdir(path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == 4:
                raise
        finally:
            os.close(fd)


def _open_directory(name: str | Path, parent: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, flags, dir_fd=parent)


def _empty(fd: int, top: int, depth: int) -> bool:
    """Remove what the open directory holds; True when branches were moved up to `top` and wait there."""
    with os.scandir(fd) as listing:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
    moved = False
    for name, is_directory in entries:
        try:
            moved |= _remove_entry(name, is_directory, fd, top, depth)
        except PermissionError:
            os.fchmod(fd, 0o700)
            moved |= _remove_entry(name, is_directory, fd, top, depth)
    return moved


def _remove_entry(name: str, is_directory: bool, fd: int, top: int, depth: int) -> bool:
    try:
        if not is_directory:
            os.unlink(name, dir_fd=fd)
            return False
        if depth >= _FLATTEN_DEPTH:
            os.rename(name, f".remove-{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top)
            return True
        child = _open_directory(name, fd)
        try:
            moved = _empty(child, top, depth + 1)
        finally:
            os.close(child)
        os.rmdir(name, dir_fd=fd)
    except FileNotFoundError:
        return False
    return moved
