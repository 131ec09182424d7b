# ruff: noqa: PTH104, PTH108
"""The index of a context's file digests: what has the same status as last time needs no reading.

A file is known by (dev, inode, size, mtime_ns, ctime_ns, mode). As in git's index, a status taken within the
clock's granularity of the file's last change proves nothing (it could change again without a visible trace): such
entries are written as racy and hashed once more the next time.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import tempfile
import time
from pathlib import Path
from typing import TypeAlias

import msgspec

from buildtool.errors import Conflict
from buildtool.oci import sha256

_GRANULARITY = 20_000_000  # ns: file times come from the timer tick, at worst 10 ms
_READ = 1 << 20
_VERSION = 1

_KEEP_UNSEEN = 10_000

_STATUS = struct.Struct("<QQqqqQ")
_TIMES = struct.Struct("<24xqq")

Child: TypeAlias = tuple[str, os.stat_result, str]
"""Name, status (of the entry itself), and the host directory it is in."""


class _Document(msgspec.Struct, array_like=True):
    """The file: path → status (packed) and digest, one bytes object an entry, which costs the least to load."""

    version: int
    root: str
    files: dict[str, bytes]


class FileIndex:
    """The digests of one context, kept in a file below `directory` named by `key`. Used by one build at a time."""

    def __init__(self, directory: Path, key: str, root: Path) -> None:
        self.path = directory / sha256(key.encode())[7:39]
        self._root = str(root)
        self._began = time.time_ns() - _GRANULARITY
        self._known: dict[str, bytes] | None = None
        self._fresh: dict[str, bytes] = {}
        self._changed = False
        self.hashed = 0

    def digest(self, path: str, child: Child) -> str:
        """The SHA-256 (hex) of a regular file with this status. Raises Conflict when it changes all the time."""
        if self._known is None:
            self._known = self._load()
        known = self._fresh.get(path) or self._known.get(path)
        if known is not None and known.startswith(_status(child[1])):
            self._fresh[path] = known
            return known[_STATUS.size :].hex()
        return self._hash(path, child)

    def _hash(self, path: str, child: Child) -> str:
        digest, status = hash_file(f"{child[2]}/{child[0]}")
        packed = _status(status)
        if packed != _status(child[1]):
            hint = "build again when nothing writes to the context"
            raise Conflict(f"{path} changed while the build was reading it", hint=hint)
        self._changed = True
        self.hashed += 1
        self._fresh[path] = packed + bytes.fromhex(digest)
        return digest

    def save(self) -> None:
        """Write the index if it learnt something. A failure to write costs only the next build time."""
        if not self._changed:
            return
        known = self._known or {}
        files = {path: entry for path, entry in self._fresh.items() if max(_TIMES.unpack_from(entry)) < self._began}
        if len(known) <= 2 * len(self._fresh) + _KEEP_UNSEEN:
            files.update((path, entry) for path, entry in known.items() if path not in self._fresh)
        temporary = None
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            fd, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".index")
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.msgpack.encode(_Document(_VERSION, self._root, files)))
            os.rename(temporary, self.path)
        except OSError:
            if temporary is not None:
                os.unlink(temporary)

    def _load(self) -> dict[str, bytes]:
        try:
            document = msgspec.msgpack.decode(self.path.read_bytes(), type=_Document)
        except (FileNotFoundError, msgspec.DecodeError):
            return {}
        return document.files if document.version == _VERSION and document.root == self._root else {}


def _status(s: os.stat_result) -> bytes:
    return _STATUS.pack(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_mode)


def hash_file(path: str) -> tuple[str, os.stat_result]:
    """The SHA-256 (hex) of a regular file and its status after reading. Never follows a symlink or waits on a
    FIFO.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        hasher = hashlib.sha256()
        while data := os.read(fd, _READ):
            hasher.update(data)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Conflict(f"{path} is no regular file any more")
        return hasher.hexdigest(), status
    finally:
        os.close(fd)
