"""An image archive coming in as a stream: its members, each hashed once and kept where a blob can be made of it.

Nothing is extracted under the archive's own names, so no name in it can lead anywhere. Small members stay in memory,
large ones are written where the blob store takes new blobs; all are gone when the archive is closed, but for those
that were committed.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import BinaryIO

from buildtool.cache.blobs import BlobStore, Ingest
from buildtool.cache.compression import decompress
from buildtool.errors import InvalidInput
from buildtool.oci import Digest, sha256

CHUNK = 1 << 20
_MEMORY = 64 << 20
_DOCUMENT = 16 << 20
_LINKS = 16
_ENTRIES = 200_000


class Member:
    """A regular file of the archive."""

    def __init__(self, name: str, digest: Digest, size: int, content: bytes | Ingest) -> None:
        self.name = name
        self.digest = digest
        self.size = size
        self._content = content

    def open(self) -> BinaryIO:
        """Its bytes, from the start."""
        return io.BytesIO(self._content) if isinstance(self._content, bytes) else self._content.path.open("rb")

    def document(self) -> bytes:
        """All its bytes; raises InvalidInput when it is far too large to be a JSON document."""
        if self.size > _DOCUMENT:
            raise InvalidInput(f"{self.name} in the archive has {self.size} bytes: too large for a document")
        with self.open() as file:
            return file.read()

    def commit(self, blobs: BlobStore) -> Digest:
        """Make a blob of it."""
        if isinstance(self._content, bytes):
            return blobs.put(self._content)
        return self.digest if blobs.has(self.digest) else self._content.commit()


class Archive:
    """A context manager; the whole stream is read when it is made."""

    def __init__(self, stream: BinaryIO, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._members: dict[str, Member] = {}
        self._links: dict[str, str] = {}
        self._in_memory = 0
        self._stack = ExitStack()
        try:
            self._read(stream)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def find(self, name: str) -> Member | None:
        """The member of this name, links in the archive followed. Raises InvalidInput for links in circles."""
        path = _inside(name)
        for _ in range(_LINKS):
            target = self._links.get(path)
            if target is None:
                return self._members.get(path)
            path = target
        raise InvalidInput(f"too many links at {name!r} in the archive")

    def document(self, name: str) -> bytes | None:
        """The bytes of a small member, None when there is none of this name."""
        member = self.find(name)
        return None if member is None else member.document()

    def members(self) -> list[Member]:
        """Every regular file."""
        return list(self._members.values())

    def __len__(self) -> int:
        return len(self._members) + len(self._links)

    def _read(self, stream: BinaryIO) -> None:
        source = ChunkReader(decompress(stream, "auto"))
        try:
            with tarfile.open(fileobj=source, mode="r|", bufsize=CHUNK) as tar:
                for entry in tar:
                    self._take(tar, entry)
                    tar.members.clear()  # type: ignore[attr-defined]
        except (tarfile.TarError, EOFError, UnicodeError, ValueError, OverflowError) as error:
            raise InvalidInput(f"the archive is damaged or no tar: {error}") from None
        for _ in source.chunks:  # what follows the end of the tar: nothing, or padding
            pass

    def _take(self, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        name = _inside(entry.name)
        if entry.isdir():
            return
        if len(self) >= _ENTRIES:
            raise InvalidInput(f"the archive has more than {_ENTRIES} entries: it is no image archive")
        self._members.pop(name, None)
        self._links.pop(name, None)
        if entry.issym():
            self._links[name] = _inside(posixpath.join(posixpath.dirname(name), entry.linkname))
        elif entry.islnk():
            self._links[name] = _inside(entry.linkname)
        elif entry.isreg() and not entry.issparse():
            content = tar.extractfile(entry)
            if content is not None:
                self._members[name] = self._keep(name, content, entry.size)

    def _keep(self, name: str, content: io.BufferedIOBase | object, size: int) -> Member:
        file: BinaryIO = content  # type: ignore[assignment]
        if size <= CHUNK and self._in_memory + size <= _MEMORY:
            data = file.read(size)
            if len(data) != size:
                raise InvalidInput(f"the archive ends within {name}")
            self._in_memory += size
            return Member(name, sha256(data), size, data)
        ingest = self._stack.enter_context(self._blobs.ingest(size=size))
        while chunk := file.read(CHUNK):
            ingest.write(chunk)
        if ingest.written != size:
            raise InvalidInput(f"the archive ends within {name}")
        return Member(name, ingest.digest(), size, ingest)


class ChunkReader(io.RawIOBase):
    """A file to read, made of chunks. `count` is the number of bytes read so far."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self.chunks = chunks
        self.count = 0
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        parts: list[bytes | memoryview] = []
        missing = size
        while missing:
            if not self._rest:
                self._rest = memoryview(next(self.chunks, b""))
                if not self._rest:
                    break
            part = self._rest[:missing]
            self._rest = self._rest[len(part) :]
            missing -= len(part)
            parts.append(part)
        self.count += size - missing
        return b"".join(parts)

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _inside(name: str) -> str:
    """The name without `./`, `//` and a leading `/`. Raises InvalidInput when it leads out of the archive."""
    path = posixpath.normpath(name.lstrip("/")) if name.strip("/") else "."
    if path == ".." or path.startswith("../") or "\0" in path:
        raise InvalidInput(f"the entry {name!r} leads out of the archive")
    return path
