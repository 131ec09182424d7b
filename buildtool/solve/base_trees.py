"""The trees of base images and of what was fetched: brought in, or unpacked, at the first need.

A RUN needs all of an image's layers. COPY --from takes files out of an image, and what is said of a file by the
topmost layers in which it is found is said of it by all: layers are fetched from the top until every source is found,
and a directory needs them all. The same for a file that RUN --mount=type=bind shows.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from buildtool.aio import offload
from buildtool.cache import SnapshotId, Store
from buildtool.errors import InvalidInput
from buildtool.graph import Remote, Source, Step, StepId
from buildtool.images import Image, Images
from buildtool.oci import Platform
from buildtool.solve.events import Tell
from buildtool.solve.file_steps import tree_of
from buildtool.solve.files import FileSource, TreeFiles
from buildtool.solve.fingerprints import Child
from buildtool.solve.prepare import Prepared
from buildtool.solve.request import BuildRequest
from buildtool.solve.threads import to_end

T = TypeVar("T")


class BaseRegistry(Protocol):
    """Where base images come from. `tell` is given lines about what happens."""

    async def resolve(self, reference: str, platform: Platform, request: BuildRequest, tell: Tell) -> None:
        """Make the image known here under this reference; its layers may stay where they are."""

    async def complete(self, image: Image, request: BuildRequest, tell: Tell) -> None:
        """Bring and unpack the layers that the image lacks."""

    async def layer(self, image: Image, index: int, prepared: Prepared, tell: Tell) -> SnapshotId:
        """Bring one layer, to look into it; the build's lease holds it.

        Raises InvalidInput when it cannot be unpacked without the layers below it.
        """


class _LayersNeeded(Exception):
    """What is asked cannot be told by the layers that are here."""

    def __init__(self, *, whole: bool) -> None:
        super().__init__("more layers are needed")
        self.whole = whole


class _TopFiles(TreeFiles):
    """The files in the topmost layers of an image, as far as they are those of all of it."""

    def children(self, path: str) -> list[Child]:
        raise _LayersNeeded(whole=True)

    def tree_digest(self, path: str) -> str:
        raise _LayersNeeded(whole=True)

    def find(self, path: str) -> Child:
        try:
            return super().find(path)
        except FileNotFoundError:
            raise _LayersNeeded(whole=False) from None

    def resolve(self, path: str) -> str:
        try:
            return super().resolve(path)
        except FileNotFoundError:
            raise _LayersNeeded(whole=False) from None


class BaseTrees:
    """Those of one build."""

    def __init__(
        self, store: Store, images: Images, prepared: Prepared, registry: BaseRegistry | None, tell: Tell
    ) -> None:
        self._store = store
        self._images = images
        self._prepared = prepared
        self._registry = registry
        self._tell = tell
        self._chains: dict[str, asyncio.Task[list[SnapshotId]]] = {}
        self._tops: dict[tuple[str, int], asyncio.Task[SnapshotId]] = {}

    async def chain(self, source: Step) -> list[SnapshotId]:
        """All snapshots of a base, bottom first. Raises what fetching and unpacking them raises."""
        if isinstance(source, Remote):
            return [self._prepared.fetched[source].snapshot]
        assert isinstance(source, Source)
        if not source.chain_id:
            return []
        task = self._chains.get(source.chain_id)
        if task is None:
            image = self._prepared.base_images[source.chain_id]
            task = self._chains[source.chain_id] = asyncio.create_task(self._whole(image))
        return await asyncio.shield(task)

    async def _whole(self, image: Image) -> list[SnapshotId]:
        if self._registry is not None and await offload(self._images.lacks, image):
            await self._registry.complete(image, self._prepared.request, self._tell)
        return await to_end(self._unpack, image.id)

    def _unpack(self, image_id: str) -> list[SnapshotId]:
        snapshots = self._images.snapshots(self._images.get(image_id))
        for snapshot in snapshots:
            self._prepared.lease.snapshot(snapshot)
        return snapshots

    async def elsewhere(self, step: StepId) -> Source | None:
        """The step's image, when it is one whose layers are not here yet."""
        source = self._prepared.node(step).step if self._registry is not None else None
        if not isinstance(source, Source) or not source.chain_id or source.chain_id in self._chains:
            return None
        lacking = await offload(self._images.lacks, self._prepared.base_images[source.chain_id])
        return source if lacking else None

    async def shown(self, source: Source, path: str) -> list[SnapshotId]:
        """Of an image the topmost layers that tell of one file (of a directory: all), bottom first."""

        async def find(files: FileSource) -> None:
            await to_end(_find_file, files, path)

        return (await self._look(source, find, whole=path == "."))[1]

    async def look(self, source: Source, look: Callable[[FileSource], Awaitable[T]], *, whole: bool) -> T:
        """`look` at the files of an image, with no more layers than it needs (`whole`: it needs all)."""
        return (await self._look(source, look, whole=whole))[0]

    async def _look(
        self, source: Source, look: Callable[[FileSource], Awaitable[T]], *, whole: bool
    ) -> tuple[T, list[SnapshotId]]:
        image = self._prepared.base_images[source.chain_id]
        top: list[SnapshotId] = []
        while not whole and len(top) < len(image.layers):
            try:
                top.append(await self._layer(image, len(image.layers) - 1 - len(top)))
            except InvalidInput:  # it takes something from those below
                break
            try:
                return await look(_TopFiles(tree_of(self._store, top[::-1]))), top[::-1]
            except _LayersNeeded as needed:
                whole = needed.whole
        chain = await self.chain(source)
        return await look(TreeFiles(tree_of(self._store, chain))), chain

    async def _layer(self, image: Image, index: int) -> SnapshotId:
        task = self._tops.get((image.id, index))
        if task is None:
            assert self._registry is not None
            work = self._registry.layer(image, index, self._prepared, self._tell)
            task = self._tops[image.id, index] = asyncio.ensure_future(work)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for what goes on."""
        for task in (tasks := [*self._chains.values(), *self._tops.values()]):
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)


def _find_file(files: FileSource, path: str) -> None:
    """See whether `files` tell all about a path. That it is not there, the mount tells."""
    try:
        found = files.find(files.resolve(path))
        if stat.S_ISDIR(found[1].st_mode):
            files.children(path)
    except OSError:
        return
