# ruff: noqa: PTH118
"""What one entry of an archive becomes: its name made safe, its attributes and its bytes put on disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from buildtool.cache.tar_fields import TarEntry
from buildtool.cache.tar_source import ByteSource
from buildtool.errors import InvalidInput

CHUNK = 1 << 20
_ZEROS = bytes(CHUNK)


def clean(name: bytes) -> bytes:
    """The name as components joined by "/", b"" for the root. Raises InvalidInput when it leads out."""
    if name[:2] == b"./":
        name = name[2:]
    if b"//" not in name and b"./" not in name and name[:1] not in b"/." and name[-1:] != b".":
        return name[:-1] if name[-1:] == b"/" else name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise InvalidInput(f"entry {show(name)}: its path leads out of the archive")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def show(name: bytes) -> str:
    """A name for a message: quoted, printable, not endless."""
    text = name.decode(errors="backslashreplace")
    return repr(text if len(text) <= 200 else text[:200] + "…")


def directories_below(path: bytes) -> list[bytes]:
    """Every directory in a tree of ours."""
    return [os.path.join(top, name) for top, names, _ in os.walk(path) for name in names]


def set_xattrs(path: bytes | int, xattrs: dict[bytes, bytes]) -> None:
    """Set what an archive says; what this file system or user cannot have is left out, as other tools do."""
    for key, value in xattrs.items():
        if key.startswith((b"trusted.overlay.", b"user.overlay.")):
            continue  # would redirect or hide other files
        try:
            if isinstance(path, int):
                os.setxattr(path, key, value)
            else:
                os.setxattr(path, key, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.ERANGE):
                raise


def copy_xattrs(source: bytes, target: bytes) -> None:
    """All attributes but overlay's own."""
    for key in os.listxattr(source, follow_symlinks=False):
        if not key.startswith(("trusted.overlay.", "user.overlay.")):
            try:
                os.setxattr(target, key, os.getxattr(source, key, follow_symlinks=False))
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte."""
    written = os.write(fd, data)
    if written != len(data):
        view = memoryview(data)[written:]
        while view:
            view = view[os.write(fd, view) :]


def write_pieces(fd: int, pieces: Iterator[bytes | memoryview], size: int) -> None:
    """Write a large file; whole chunks of zeros become holes."""
    hole = False
    for piece in pieces:
        hole = isinstance(piece, bytes) and len(piece) == CHUNK and piece == _ZEROS
        if hole:
            os.lseek(fd, CHUNK, os.SEEK_CUR)
        else:
            write_all(fd, piece)
    if hole:
        os.ftruncate(fd, size)


def write_sparse(fd: int, entry: TarEntry, source: ByteSource) -> None:
    """Write the pieces of a sparse file at their places."""
    os.ftruncate(fd, entry.size)
    for offset, length in entry.data or ():
        os.lseek(fd, offset, os.SEEK_SET)
        for piece in source.pieces(length):
            write_all(fd, piece)
