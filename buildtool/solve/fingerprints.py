# ruff: noqa: PTH104, PTH108, PTH115
"""The index of a context's file digests: what has the same status as last time needs no reading.

A file is known by (dev, inode, size, mtime_ns, ctime_ns, mode). As in git's index, a status taken within the clock's
granularity of the file's last change proves nothing (it could change again without a visible trace): such a file is
written without its status and hashed once more the next time.

The unit is a directory: when none of its files changed, one comparison tells, and the text that goes into the digest
of the directory is there already.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from buildtool.cache.tar_headers import owner_of
from buildtool.errors import Conflict
from buildtool.oci import sha256

_GRANULARITY = 20_000_000  # ns: file times come from the timer tick, at worst 10 ms
_READ = 1 << 20
_VERSION = 2
_KEEP_UNSEEN = 1_000
_STATUS = struct.Struct("<QQqqqQ")
_NO_STATUS = bytes(_STATUS.size)
_DIGEST = 32
_MORE_FIELDS = tuple(name for name in dir(os.stat_result) if name.startswith("st_"))

Child: TypeAlias = tuple[str, os.stat_result, str]
"""Name, status (of the entry itself), and the host directory it is in."""


class Directory(msgspec.Struct, array_like=True):
    """The files of one directory (all but its directories), sorted by name.

    `names` are joined by NUL, `statuses` packed, `digests` raw (zeros for what has no content). `section` is what
    stands for them in the directory's digest: `line_of` each, joined by newlines.
    """

    names: bytes
    statuses: bytes
    digests: bytes
    section: bytes

    def known(self) -> dict[bytes, tuple[bytes, bytes]]:
        """Name → status and digest."""
        names = self.names.split(b"\0") if self.names else []
        size = _STATUS.size
        return {
            name: (self.statuses[i * size : (i + 1) * size], self.digests[i * _DIGEST : (i + 1) * _DIGEST])
            for i, name in enumerate(names)
        }


class _Document(msgspec.Struct, array_like=True):
    version: int
    root: str
    directories: dict[bytes, Directory]


def line_of(name: str, status: os.stat_result, digest: str, *, owned: bool = False) -> str:
    """How an entry stands in the digest of its directory: name, mode, owner where it counts, content."""
    owner = " {}:{}".format(*owner_of(status)) if owned else ""
    return f"{name}\0{status.st_mode:o}{owner} {digest}"


def directory_digest(files: bytes, directories: Sequence[str]) -> str:
    """The digest (hex) of a directory's contents: the section of its files, and a line for each directory in it."""
    below = "\n".join(directories).encode(errors="surrogateescape")
    return hashlib.sha256(b"%d\n%s\n%s" % (len(files), files, below)).hexdigest()


class FileIndex:
    """The digests of one context, kept in a file below `directory` named by `key`. Used by one build at a time."""

    def __init__(
        self,
        directory: Path,
        key: str,
        root: Path,
        seen_as: Callable[[os.stat_result], os.stat_result] = lambda status: status,
    ) -> None:
        """`seen_as`: how those who call `look` change a status (the mode); an index with another has another key."""
        self._seen_as = seen_as
        self.path = directory / sha256(key.encode())[7:39]
        self._root = str(root)
        self._began = time.time_ns() - _GRANULARITY
        self._known: dict[bytes, Directory] | None = None
        self._fresh: dict[bytes, Directory] = {}
        self._changed = False
        self.hashed = 0

    def look(self, path: str, files: Sequence[Child]) -> Directory:
        """The digests of a directory's files, those that are not known by their status hashed now.

        Raises Conflict when one changes meanwhile.
        """
        if self._known is None:
            self._known = self._load()
        key = path.encode(errors="surrogateescape")
        pack = _STATUS.pack
        names = "\0".join([child[0] for child in files]).encode(errors="surrogateescape")
        packed = [pack(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_mode) for _, s, _ in files]
        statuses = b"".join(packed)
        known = self._known.get(key)
        if known is None or known.statuses != statuses or known.names != names:
            known = self._renew(known, files, packed, names)
            self._changed = True
        self._fresh[key] = known
        return known

    def _renew(
        self, known: Directory | None, files: Sequence[Child], packed: Sequence[bytes], names: bytes
    ) -> Directory:
        before = known.known() if known is not None else {}
        statuses: list[bytes] = []
        digests: list[bytes] = []
        lines: list[str] = []
        for child, status in zip(files, packed, strict=True):
            name, found, host = child
            digest = bytes(_DIGEST)
            shown = special_digest(child) if not stat.S_ISREG(found.st_mode) else ""
            if not shown:
                old = before.get(name.encode(errors="surrogateescape"))
                digest = old[1] if old is not None and old[0] == status else self._hash(f"{host}/{name}", status)
                shown = digest.hex()
            young = max(found.st_mtime_ns, found.st_ctime_ns) >= self._began
            statuses.append(_NO_STATUS if young else status)
            digests.append(digest)
            lines.append(line_of(name, found, shown))
        section = "\n".join(lines).encode(errors="surrogateescape")
        return Directory(names, b"".join(statuses), b"".join(digests), section)

    def _hash(self, path: str, status: bytes) -> bytes:
        digest, after = hash_file(path)
        after = self._seen_as(after)
        packed = _STATUS.pack(
            after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_mode
        )
        if packed != status:
            hint = "build again when nothing writes to the context"
            raise Conflict(f"{path} changed while the build was reading it", hint=hint)
        self.hashed += 1
        return bytes.fromhex(digest)

    def save(self) -> None:
        """Write the index if it learnt something. A failure to write costs only the next build time."""
        if not self._changed:
            return
        known = self._known or {}
        directories = dict(self._fresh)
        if len(known) <= 2 * len(self._fresh) + _KEEP_UNSEEN:
            directories = known | directories
        temporary = None
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            fd, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".index")
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.msgpack.encode(_Document(_VERSION, self._root, directories)))
            os.rename(temporary, self.path)
        except OSError:
            if temporary is not None:
                os.unlink(temporary)

    def _load(self) -> dict[bytes, Directory]:
        try:
            document = msgspec.msgpack.decode(self.path.read_bytes(), type=_Document)
        except (FileNotFoundError, msgspec.DecodeError):
            return {}
        return document.directories if (document.version, document.root) == (_VERSION, self._root) else {}


def special_digest(child: Child) -> str:
    """What stands for the content of anything but a regular file: a symlink's target, a device's number."""
    if stat.S_ISLNK(child[1].st_mode):
        return os.readlink(f"{child[2]}/{child[0]}")
    return str(child[1].st_rdev)


def with_git_mode(status: os.stat_result) -> os.stat_result:
    """The status with the mode that git would check it out with under the usual umask: 0644 or 0755."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFLNK:
        return status
    mode = 0o755 if kind == stat.S_IFDIR or status.st_mode & stat.S_IXUSR else 0o644
    if stat.S_IMODE(status.st_mode) == mode:
        return status
    return os.stat_result((kind | mode, *status[1:]), {name: getattr(status, name) for name in _MORE_FIELDS})


def hash_file(path: str) -> tuple[str, os.stat_result]:
    """The SHA-256 (hex) of a regular file and its status after reading. Follows no symlink, waits on no FIFO."""
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
