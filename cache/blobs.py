"""Blobs: immutable bytes named by their SHA-256, in blobs/sha256/<hex>.

A blob is written to ingest/, fsynced and renamed into place: it is complete or absent, after a kill or a power cut
too.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn

from buildtool.cache.disk import FullDisk, fsync_directory
from buildtool.errors import Corrupt, Forbidden, InvalidInput, NotFound
from buildtool.oci.digest import Digest, is_digest, sha256

CHUNK = 1 << 20


class BlobStore:
    """The blobs of one store. Thread-safe."""

    def __init__(self, root: Path, *, readonly: bool = False) -> None:
        self.directory = root / "blobs" / "sha256"
        self.ingest_directory = root / "ingest"
        self.readonly = readonly
        self.lock = (
            threading.Lock()
        )  # excludes gc's removal of a blob and the reuse of the same blob from one another
        self._prefix = f"{self.directory}/"
        self._names = itertools.count()
        self._active: set[str] = set()

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be. Raises InvalidInput for what is no digest."""
        return Path(self._path(digest))

    def _path(self, digest: Digest) -> str:
        if not is_digest(digest):
            raise InvalidInput(f"invalid digest {digest!r}", hint="a digest is sha256: followed by 64 hex digits")
        return self._prefix + digest[7:]

    def has(self, digest: Digest) -> bool:
        """Whether the blob is in the store. Lease it first when it must still be there later."""
        return os.access(self._path(digest), os.F_OK)

    def size(self, digest: Digest) -> int:
        """Bytes in the blob. Raises NotFound."""
        try:
            return os.stat(self._path(digest)).st_size  # noqa: PTH116
        except FileNotFoundError:
            _absent(digest)

    def open(self, digest: Digest) -> BinaryIO:
        """The blob, for reading. Raises NotFound."""
        try:
            return open(self._path(digest), "rb")  # noqa: PTH123
        except FileNotFoundError:
            _absent(digest)

    def read(self, digest: Digest) -> bytes:
        """All bytes of the blob (for documents, not for layers). Raises NotFound."""
        with self.open(digest) as file:
            return file.read()

    def put(self, data: bytes) -> Digest:
        """Store these bytes; costs one hash when they are there already."""
        digest = sha256(data)
        if not self._reuse(digest):
            with self.ingest(digest, len(data)) as ingest:
                ingest.write(data)
                ingest.commit()
        return digest

    def list(self) -> Iterator[Digest]:
        """Every blob, in no order."""
        for name in os.listdir(self.directory):
            digest = f"sha256:{name}"
            if is_digest(digest):
                yield Digest(digest)

    def ingest(self, expected: Digest | None = None, size: int | None = None) -> Ingest:
        """Begin to write a blob; a context manager that leaves nothing behind unless `commit` was called.

        With `expected` or `size` given, other bytes are refused with Corrupt.
        """
        if self.readonly:
            raise Forbidden(f"{self.directory} is open for reading only")
        return Ingest(self, expected, size)

    def active(self) -> set[str]:
        """Names in ingest/ that belong to writers of this process."""
        return set(self._active)

    def delete_unless_newer(self, digest: Digest, limit: float) -> int | None:
        """For gc, which holds `lock`: remove the blob unless it was written or reused since; its bytes on disk, or
        None.
        """
        path = self._path(digest)
        try:
            status = os.stat(path)  # noqa: PTH116
            if status.st_mtime >= limit:
                return None
            os.unlink(path)  # noqa: PTH108
        except FileNotFoundError:
            return None
        return status.st_blocks * 512

    def _reuse(self, digest: Digest) -> bool:
        """Whether the blob is there; if so it counts as new, and a gc that began earlier keeps it."""
        with self.lock:
            try:
                os.utime(self._path(digest))
            except FileNotFoundError:
                return False
            except PermissionError:
                return self.has(digest)
        return True


class Ingest:
    """One blob being written."""

    def __init__(self, blobs: BlobStore, expected: Digest | None, size: int | None) -> None:
        self._blobs = blobs
        self._expected = expected
        self._size = size
        self._hash = hashlib.sha256()
        self._name = f"{os.getpid()}-{next(blobs._names)}"
        self.path = blobs.ingest_directory / self._name
        self.written = 0
        blobs._active.add(self._name)  # before there is a file: gc takes what belongs to nobody
        try:
            with FullDisk(blobs.ingest_directory):
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except BaseException:
            blobs._active.discard(self._name)
            raise

    def write(self, data: bytes | memoryview) -> None:
        """Append. Raises Corrupt as soon as there are more bytes than announced, StoreFull when the disk is full."""
        self._hash.update(data)
        self.written += len(data)
        if self._size is not None and self.written > self._size:
            raise Corrupt(f"{self._subject()}: more than the announced {self._size} bytes")
        view = memoryview(data)
        with FullDisk(self._blobs.ingest_directory):
            while view:
                view = view[os.write(self._fd, view) :]

    def digest(self) -> Digest:
        """The digest of what was written so far."""
        return Digest("sha256:" + self._hash.hexdigest())

    def commit(self) -> Digest:
        """Verify, make durable, give it its name. Afterwards the blob is in the store, whatever happens."""
        digest = self.digest()
        if self._size is not None and self.written != self._size:
            raise Corrupt(f"{self._subject()}: {self.written} bytes instead of {self._size}")
        if self._expected is not None and digest != self._expected:
            raise Corrupt(f"{self._subject()}: the bytes have the digest {digest}")
        if not self._blobs._reuse(digest):
            with FullDisk(self._blobs.ingest_directory):
                os.fsync(self._fd)
                with self._blobs.lock:
                    os.rename(self.path, self._blobs._path(digest))  # noqa: PTH104
                fsync_directory(self._blobs.directory)
        self._close()
        return digest

    def _subject(self) -> str:
        return f"blob {self._expected}" if self._expected else "blob"

    def _close(self) -> None:
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        self.path.unlink(missing_ok=True)
        self._blobs._active.discard(self._name)

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()


def _absent(digest: Digest) -> NoReturn:
    raise NotFound(f"blob {digest} is not in the store") from None
