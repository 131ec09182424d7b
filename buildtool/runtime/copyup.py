"""The mount option `tmpcopyup` of other runtimes: a tmpfs begins with what the directory below it holds.

Both trees are walked by descriptors, and symbolic links are copied, never followed.
"""

from __future__ import annotations

import os
import stat

_CHUNK = 1 << 20
_NOFOLLOW = os.O_CLOEXEC | os.O_NOFOLLOW


def copy_tree(source: int, target: int) -> None:
    """Copy everything in the directory `source` into the directory `target` (both open); devices are left out."""
    _attributes(os.fstat(source), target)
    with os.scandir(source) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        _copy(source, target, name)


def _copy(source: int, target: int, name: str) -> None:
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    elif stat.S_ISDIR(status.st_mode):
        os.mkdir(name, 0o700, dir_fd=target)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW, dir_fd=source)
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW, dir_fd=target)
        copy_tree(below, made)
        os.close(below)
        os.close(made)
    elif stat.S_ISREG(status.st_mode):
        old = os.open(name, os.O_RDONLY | _NOFOLLOW, dir_fd=source)
        new = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600, dir_fd=target)
        while data := os.read(old, _CHUNK):
            os.write(new, data)
        _attributes(status, new)
        os.close(old)
        os.close(new)


def _attributes(status: os.stat_result, target: int) -> None:
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
