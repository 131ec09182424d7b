"""What the server can give away, as its handlers see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class StoredManifest:
    """A manifest: the bytes as they were pushed."""

    digest: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class StoredBlob:
    """A blob: a file, or bytes that `make` gives anew each time (there are no ranges of those)."""

    size: int
    path: Path | None
    make: Callable[[], Iterator[bytes]] | None = None

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
        """Sorted, after `last`, no more than `limit`."""

    def repositories(self, last: str, limit: int) -> list[str]:
        """Sorted, after `last`, no more than `limit`."""

    def referrers(self, name: str, digest: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject is this digest."""
