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
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import msgspec

from buildtool.errors import Conflict
from buildtool.oci import sha256

_GRANULARITY = 20_000_000  # ns: file times come from the timer tick, at worst 10 ms
_READ = 1 << 20
_VERSION = 1

_KEEP_UNSEEN = 10_000

Status: TypeAlias = tuple[int, int, int, int, int, int]
Known: TypeAlias = tuple[int, int, int, int, int, int, str]
"""dev, inode, size, mtime_ns, ctime_ns, mode; and the digest."""

Child: TypeAlias = tuple[str, os.stat_result, str]
"""Name, status (of the entry itself), and the host directory it is in."""


class _Document(msgspec.Struct, array_like=True):
    """The file: path → status and digest."""

    version: int
    root: str
    files: dict[str, Known]


class FileIndex:
    """The digests of one context, kept in a file below `directory` named by `key`. Used by one build at a time."""

    def __init__(self, directory: Path, key: str, root: Path) -> None:
        self.path = directory / sha256(key.encode())[7:39]
        self._root = str(root)
        self._began = time.time_ns() - _GRANULARITY
        self._known: dict[str, Known] | None = None
        self._fresh: dict[str, Known] = {}
        self._changed = False
        self.hashed = 0

    def digest(self, path: str, child: Child) -> str:
        """The SHA-256 (hex) of a regular file with this status. Raises Conflict when it changes all the time."""
        status = child[1]
        if self._known is None:
            self._known = self._load()
        known = self._fresh.get(path) or self._known.get(path)
        if known is not None and _same(known, status):
            self._fresh[path] = known
            return known[6]
        return self._hash(path, child)

    def prefetch(self, files: Sequence[tuple[str, Child]]) -> None:
        """Hash what is not known of these files, with all processors when there is much to read."""
        if self._known is None:
            self._known = self._load()
        known = self._known
        unknown = []
        for path, child in files:
            entry = known.get(path)
            if entry is None or not _same(entry, child[1]):
                unknown.append((path, child))
        big = [item for item in unknown if item[1][1].st_size >= _READ]
        workers = os.cpu_count() or 1
        if len(big) > 1 and workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(lambda item: self._hash(*item), big))

    def _hash(self, path: str, child: Child) -> str:
        digest, status = hash_file(f"{child[2]}/{child[0]}")
        if not _equal(status, child[1]):
            raise Conflict(
                f"{path} changed while the build was reading it", hint="build again when nothing writes to it"
            )
        self._changed = True
        self.hashed += 1
        self._fresh[path] = (*_status(status), digest)
        return digest

    def save(self) -> None:
        """Write the index if it learnt something. A failure to write costs only the next build time."""
        if not self._changed:
            return
        known = self._known or {}
        files = {path: entry for path, entry in self._fresh.items() if max(entry[3], entry[4]) < self._began}
        if len(known) <= 2 * len(self._fresh) + _KEEP_UNSEEN:
            files.update((path, entry) for path, entry in known.items() if path not in self._fresh)
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".index")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.msgpack.encode(_Document(_VERSION, self._root, files)))
            os.rename(temporary, self.path)
        except OSError:
            os.unlink(temporary)

    def _load(self) -> dict[str, Known]:
        try:
            document = msgspec.msgpack.decode(self.path.read_bytes(), type=_Document)
        except (FileNotFoundError, msgspec.DecodeError):
            return {}
        return document.files if document.version == _VERSION and document.root == self._root else {}


def _status(s: os.stat_result) -> Status:
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_mode


def _same(known: Known, s: os.stat_result) -> bool:
    return (
        known[4] == s.st_ctime_ns
        and known[3] == s.st_mtime_ns
        and known[2] == s.st_size
        and known[1] == s.st_ino
        and known[5] == s.st_mode
        and known[0] == s.st_dev
    )


def _equal(a: os.stat_result, b: os.stat_result) -> bool:
    return _status(a) == _status(b)


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
