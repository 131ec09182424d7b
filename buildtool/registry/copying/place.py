"""What a copy needs of a place that has images, and of one that gets them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from buildtool.oci import Descriptor, Digest
from buildtool.registry.repository import Fetched

Report = Callable[[int], None]
"""Called with the number of bytes done so far."""


class Place(Protocol):
    """A repository of some kind: blobs by digest, manifests by digest or name. All content is verified on its way in.

    Methods raise NotFound (Missing), Corrupt, StoreFull and what registries refuse with.
    """

    multi: bool
    """Whether it can hold an index with several platforms."""
    foreign: bool
    """Whether foreign layers are kept in it (registries only name them)."""

    async def names(self) -> list[str]:
        """Every name (tag) there is."""

    async def manifest(self, name: str) -> Fetched:
        """By digest or name; "" is the only image there is."""

    def blob(self, descriptor: Descriptor, report: Report) -> AbstractAsyncContextManager[Path]:
        """The blob as a file, for as long as the context is open; its bytes are verified."""

    async def referrers(self, subject: Digest) -> list[Descriptor]:
        """Manifests whose subject this is."""

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether it need not be sent."""

    async def take_over(self, descriptor: Descriptor, source: Place) -> bool:
        """Get the blob from the source without its bytes passing through here, where both can do that."""

    async def put_blob(self, descriptor: Descriptor, path: Path, report: Report) -> None:
        """Store the file's bytes under the descriptor's digest."""

    async def put_manifest(self, name: str, fetched: Fetched) -> None:
        """Store a manifest; `name` is "" for one that only its digest names."""

    async def finish(self) -> None:
        """Everything was put: make it visible."""

    async def close(self) -> None:
        """Let go of it; what was not finished leaves nothing behind."""
