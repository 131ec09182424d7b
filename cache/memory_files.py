"""A directory whose files are in memory only, for what must never be written to a disk."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

from buildtool.oci import sha256

_TMPFS_MAGIC = 0x01021994
_SHM = Path("/dev/shm")


def in_memory(directory: Path) -> Path:
    """`directory` when its file system is one in memory, else a directory of the same meaning that is.

    Where this machine has none, `directory` itself.
    """
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    if _is_tmpfs(directory) or not (_is_tmpfs(_SHM) and os.access(_SHM, os.W_OK)):
        return directory
    path = _twin(directory)
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    except OSError:
        return directory
    if status.st_uid != os.geteuid() or status.st_mode != 0o40700:
        return directory  # /dev/shm is everybody's: somebody else was there first
    return path


def let_go(directory: Path) -> None:
    """Remove a directory that `in_memory` gave, when it is a twin and empty."""
    if directory.parent == _SHM:
        with contextlib.suppress(OSError):
            directory.rmdir()


def remembered(directory: Path) -> list[Path]:
    """`directory` and its twin in memory, those of them that exist."""
    return [path for path in (directory, _twin(directory)) if path.is_dir() and not path.is_symlink()]


def _twin(directory: Path) -> Path:
    return _SHM / f"buildtool-{sha256(str(directory).encode())[7:39]}"


def _is_tmpfs(path: Path) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(256)
    if libc.statfs(str(path).encode(), buffer) != 0:
        return False
    return ctypes.c_long.from_buffer(buffer).value == _TMPFS_MAGIC
