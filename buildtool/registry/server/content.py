"""What the server can give away, as its handlers see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from buildtool.cache import Ingest
from buildtool.registry.server.manifests import Parsed


@dataclass(frozen=True)
class StoredManifest:
    """A manifest: the bytes as they were pushed."""

    digest: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class StoredBlob:
    """A blob: a file, or bytes that `make` gives anew each time.

    `part` gives so many of them from a place on, where there are ranges; `url` makes an address where anybody who has
    it can fetch them for a while.
    """

    size: int
    path: Path | None
    make: Callable[[], Iterator[bytes]] | None = None
    url: Callable[[], str] | None = None
    part: Callable[[int, int], Iterator[bytes]] | None = None

    def read(self) -> bytes:
        """All bytes, of a document. Raises OSError."""
        if self.path is not None:
            return self.path.read_bytes()
        assert self.make is not None
        return b"".join(self.make())


class Content(Protocol):
    """Repositories to read from. Every method blocks; all are called off the event loop."""

    writable: bool

    def exists(self, name: str) -> bool:
        """Whether there is such a repository."""

    def manifest(self, name: str, reference: str) -> StoredManifest | None:
        """By tag or digest."""

    def manifest_digest(self, name: str, reference: str) -> str | None:
        """Its digest only."""

    def blob(self, name: str, digest: str) -> StoredBlob | None:
        """A blob of this repository."""

    def tags(self, name: str, last: str, limit: int) -> list[str]:
        """In the order of `tag_order`, after `last`, no more than `limit`."""

    def repositories(self, last: str, limit: int) -> list[str]:
        """Sorted, after `last`, no more than `limit`."""

    def referrers(self, name: str, digest: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject is this digest."""


class Writable(Content, Protocol):
    """Repositories to change, too."""

    def add_blob(self, name: str, ingest: Ingest, digest: str) -> int:
        """Make what was uploaded a blob of the repository; its size. Raises ApiError DIGEST_INVALID."""

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Take a blob over from another repository; False when that one does not have it."""

    def touch_blob(self, name: str, digest: str, older_than: float) -> None:
        """Somebody relies on the blob: garbage collection counts its age from now, if it is older than that."""

    def delete_blob(self, name: str, digest: str) -> bool:
        """Take a blob out of the repository; tells whether it was there."""

    def put_manifest(self, name: str, reference: str, data: bytes, parsed: Parsed) -> str:
        """Store a manifest under a tag or its digest; its digest. Raises ApiError for what it may not be."""

    def delete_manifest(self, name: str, reference: str) -> bool:
        """Delete a tag, or a manifest with every tag that points at it; tells whether it was there."""

    def collect(self, grace: float, untagged: float | None) -> tuple[int, int]:
        """Garbage collection: how many blobs went, and their bytes. Pushes may go on meanwhile."""
