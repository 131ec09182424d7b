"""Marks of deleted names in a layer's directory: overlay's, or our own where the file system refuses that.

Overlay marks a name by a character device 0:0. On an overlay itself (the root file system of a container) nobody may
make one: there a socket with a mode that no program gives one stands for it. An overlay cannot be the upper layer
of another, so what has such marks is never mounted; sockets are not part of any layer, so they mean nothing else.
Source: Linux, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"; fs/overlayfs/dir.c.
"""

from __future__ import annotations

import os
import stat

_SOCKET_MODE = 0o7000
_SOCKET = stat.S_IFSOCK | _SOCKET_MODE


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is the mark of a deleted name."""
    mode = status.st_mode
    return (stat.S_ISCHR(mode) and status.st_rdev == 0) or mode == _SOCKET


def make_whiteout(path: str | bytes) -> None:
    """Mark a name as deleted. Raises FileExistsError when something has it."""
    try:
        os.mknod(path, stat.S_IFCHR, 0)
    except PermissionError:
        os.mknod(path, stat.S_IFSOCK | 0o600)
        os.chmod(path, _SOCKET_MODE)  # noqa: PTH101 - mknod obeys the umask
