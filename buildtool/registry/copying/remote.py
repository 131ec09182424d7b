"""A repository of a registry as a place of images."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from buildtool.cache import BlobStore
from buildtool.oci import Descriptor, Digest
from buildtool.registry.copying.place import Place, Report
from buildtool.registry.downloads import GrowingBlob, download
from buildtool.registry.progress import Progress
from buildtool.registry.referrers import referrers
from buildtool.registry.repository import Fetched, Repository
from buildtool.registry.uploads import upload


class RemotePlace:
    """Blobs pass through a folder of ours, one by one: broken transfers go on where they were, on either side."""

    multi = True
    foreign = False

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._blobs: BlobStore | None = None

    async def names(self) -> list[str]:
        return await self.repository.tags()

    async def manifest(self, name: str) -> Fetched:
        return await self.repository.wanted_manifest(name or "latest")

    @asynccontextmanager
    async def blob(self, descriptor: Descriptor, report: Report) -> AsyncIterator[Path]:
        blobs = self._spool()
        growing = GrowingBlob()
        try:
            await download(self.repository, blobs, descriptor, _Reporting(report), growing)
        finally:
            growing.close()
        path = blobs.path(descriptor.digest)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def referrers(self, subject: Digest) -> list[Descriptor]:
        return await referrers(self.repository, subject)

    async def has_blob(self, descriptor: Descriptor) -> bool:
        return await self.repository.has_blob(descriptor.digest)

    async def take_over(self, descriptor: Descriptor, source: Place) -> bool:
        if not isinstance(source, RemotePlace):
            return False
        ours, theirs = self.repository, source.repository
        if ours.connection.domain != theirs.connection.domain or ours.path == theirs.path:
            return False
        return await ours.mount(descriptor.digest, theirs.path) is None

    async def put_blob(self, descriptor: Descriptor, path: Path, report: Report) -> None:
        await upload(self.repository, path, descriptor.digest, report)

    async def put_manifest(self, name: str, fetched: Fetched) -> None:
        await self.repository.put_manifest(name or fetched.digest, fetched.data, fetched.media_type)

    async def finish(self) -> None:
        return None

    async def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def _spool(self) -> BlobStore:
        if self._blobs is None:
            self._folder = tempfile.TemporaryDirectory(prefix="buildtool-copy-")
            self._blobs = new_blob_store(Path(self._folder.name))
        return self._blobs


class _Reporting(Progress):
    """A download's progress, as a number."""

    def __init__(self, report: Report) -> None:
        super().__init__(lambda _: None, "")
        self._report = report

    def update(self, text: str, current: int, total: int) -> None:
        self._report(current)


def new_blob_store(root: Path) -> BlobStore:
    """An empty one, whose folder is the beginning of an OCI layout."""
    (root / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (root / "ingest").mkdir(exist_ok=True)
    return BlobStore(root)
