"""What a place where a cache is kept has to offer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from buildtool.oci import Descriptor, Digest

Loaded = tuple[bytes, str, list[Descriptor]]
"""A document, its media type (BUNDLE, or that of an image's config), and the blobs that its manifest names."""


class CacheBackend(Protocol):
    """Documents by name and blobs by digest. All methods raise BuildtoolError when the place fails."""

    name: str
    """For messages."""
    source: str
    """Where its blobs are, as LayerSource.sources has it."""

    def named(self, suffix: str) -> CacheBackend:
        """The same place with a bundle of its own."""

    async def load(self) -> list[Loaded]:
        """The bundle, or the configs of images that have records in them; empty when nothing is there."""

    async def find(self, key: str) -> bytes | None:
        """The record under a key, None when there is none."""

    async def has_blob(self, digest: Digest) -> bool:
        """Whether a blob is there."""

    async def put_blob(self, blob: Descriptor, path: Path) -> None:
        """Bring a blob there."""

    async def put_record(self, keys: Sequence[str], data: bytes, blob: Descriptor) -> None:
        """Put a record under its keys; it needs the blob, which is there."""

    async def put_bundle(self, data: bytes, media_type: str, blobs: Sequence[Descriptor]) -> None:
        """Put a bundle in the place of the last one; it needs the blobs, which are there."""
