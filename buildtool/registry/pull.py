"""Layers in: from where they are to snapshots in the store.

Layers are fetched side by side and unpacked bottom up, each while it still comes in; every byte is hashed on its way
(the compressed blob against its digest, its content against the config's diff_id). Nothing becomes an image before
all is there; a lease holds what is half-way.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, cast

from buildtool.aio import KeyedLocks, offload
from buildtool.cache import Lease, SnapshotId, Store, decompress
from buildtool.errors import Corrupt
from buildtool.images import Image, Images, LayerSource
from buildtool.oci import Descriptor, Digest, Reference, media_types
from buildtool.registry.downloads import Abandoned, GrowingBlob, download
from buildtool.registry.progress import Emit, Progress, short
from buildtool.registry.repository import Repository
from buildtool.registry.selection import Selected
from buildtool.registry.work import in_thread, settled, together

_STREAMS = 6
_INTERVAL = 0.1


@dataclass
class _Layer:
    """One layer on its way in. `known`: an image here has it, in whatever compression."""

    wanted: LayerSource
    descriptor: Descriptor
    progress: Progress
    known: LayerSource | None = None
    growing: GrowingBlob = field(default_factory=GrowingBlob)


Download = Callable[[LayerSource, Progress, GrowingBlob], Awaitable[None]]
"""Fetches a layer's blob into the store."""


def from_repository(repository: Repository, store: Store) -> Download:
    """Every layer is in this repository."""

    async def fetch(layer: LayerSource, progress: Progress, growing: GrowingBlob) -> None:
        assert layer.blob is not None
        await download(repository, store.blobs, layer.blob, progress, growing)

    return fetch


class Puller:
    """Brings the layers of one image in."""

    def __init__(self, images: Images, fetch: Download, flights: KeyedLocks, emit: Emit) -> None:
        self._images = images
        self._store: Store = images.store
        self._download = fetch
        self._flights = flights
        self._emit = emit
        self._slots = asyncio.Semaphore(_STREAMS)

    async def pull(self, selected: Selected, reference: Reference) -> Image:
        """Fetch, unpack and register; `reference` gets to point at the image unless it has a digest.

        Raises Corrupt, InvalidInput, StoreFull, RegistryUnreachable, RegistryRefused; then the images are as before.
        """
        with self._store.leases.hold(f"pull {reference}") as lease:
            sources = await self._bring(wanted_layers(selected), lease)
            return await settled(self._register, selected, sources, reference)

    async def complete(self, image: Image) -> None:
        """Bring in what an image of the store lacks. Raises as `pull`; then the images are as before."""
        with self._store.leases.hold(f"complete {image.id}") as lease:
            sources = await self._bring(image.layers, lease)
            await settled(self._keep, sources)
            await settled(self._images.table.learn, sources, durable=True)

    async def layer(self, wanted: LayerSource, lease: Lease) -> LayerSource:
        """Bring in one layer without those below it: see `alone` of LayerStore.unpack. The lease holds it."""
        (layer,) = await settled(self._plan, [wanted], lease)
        try:
            _, source = await together((self._fetch_all([layer]), self._unpack(layer, layer.growing, None)))
        finally:
            layer.growing.close()
        assert isinstance(source, LayerSource) and source.snapshot is not None
        await settled(lease.snapshot, source.snapshot)
        await settled(self._keep, [source])
        return source

    def here(self, wanted: Sequence[LayerSource], lease: Lease) -> list[LayerSource]:
        """The layers, those that are unpacked here already with their snapshots. Blocking."""
        found: list[LayerSource] = []
        snapshots: list[SnapshotId] = []
        for layer in self._plan(wanted, lease):
            known = layer.known
            if known is None or known.snapshot is None or not self._fits(known.snapshot, tuple(snapshots)):
                break  # those above may take something from it
            snapshots.append(known.snapshot)
            found.append(replace(known, sources=layer.wanted.sources))
        return [*found, *wanted[len(found) :]]

    async def _bring(self, wanted: Sequence[LayerSource], lease: Lease) -> list[LayerSource]:
        layers = await settled(self._plan, wanted, lease)
        sources: list[LayerSource] = []
        try:
            await together((self._fetch_all(layers), self._unpack_all(layers, lease, sources)))
        finally:
            for layer in layers:
                layer.growing.close()
        return sources

    def _plan(self, wanted: Sequence[LayerSource], lease: Lease) -> list[_Layer]:
        """What is here already. Leased first, then looked for: gc cannot come between."""
        records: dict[Digest, list[LayerSource]] = {source.diff_id: [source] for source in wanted}
        for record in self._images.table.records():
            for source in record.layers:
                if source.diff_id in records:
                    records[source.diff_id].append(source)
        planned = []
        for source in wanted:
            descriptor = source.blob or Descriptor(media_types.LAYER, source.diff_id, source.size)
            layer = _Layer(source, descriptor, Progress(self._emit, short(descriptor.digest)))
            lease.blob(descriptor.digest)
            layer.known = next((one for one in records[source.diff_id] if self._usable(one, lease)), None)
            planned.append(layer)
        return planned

    def _usable(self, source: LayerSource, lease: Lease) -> bool:
        if source.blob is not None:
            lease.blob(source.blob.digest)
            return self._store.blobs.has(source.blob.digest)
        assert source.snapshot is not None
        lease.snapshot(source.snapshot)
        return self._store.snapshots.has(source.snapshot) and not self._store.snapshots.get(source.snapshot).base

    async def _fetch_all(self, layers: Sequence[_Layer]) -> None:
        missing: dict[Digest, _Layer] = {}
        for layer in layers:
            if layer.known is not None:
                layer.progress.say("Already exists")
            elif layer.descriptor.digest not in missing:
                missing[layer.descriptor.digest] = layer
                layer.progress.say("Pulling fs layer")
        await together(self._fetch(layer) for layer in missing.values())

    async def _fetch(self, layer: _Layer) -> None:
        digest = layer.descriptor.digest
        try:
            async with self._slots, self._flights(digest):
                if not await offload(self._store.blobs.has, digest):
                    await self._download(layer.wanted, layer.progress, layer.growing)
        except BaseException as error:
            layer.growing.end(error)
            raise
        layer.growing.end()
        layer.progress.say("Download complete")

    async def _unpack_all(self, layers: Sequence[_Layer], lease: Lease, sources: list[LayerSource]) -> None:
        """Bottom up: a layer may take attributes of directories from those below it."""
        snapshots: list[SnapshotId] = []
        first: dict[Digest, GrowingBlob] = {}
        for layer in layers:
            growing = first.setdefault(layer.descriptor.digest, layer.growing)
            source = await self._unpack(layer, growing, tuple(snapshots))
            assert source.snapshot is not None
            await settled(lease.snapshot, source.snapshot)
            sources.append(source)
            snapshots.append(source.snapshot)

    async def _unpack(
        self, layer: _Layer, growing: GrowingBlob, parents: tuple[SnapshotId, ...] | None
    ) -> LayerSource:
        known = layer.known
        if known is not None and known.snapshot is not None and await offload(self._fits, known.snapshot, parents):
            return known
        if known is None:
            await growing.started()
        file: BinaryIO
        if known is None and growing.begun:
            blob, file = layer.descriptor, growing.file()
        else:
            blob = layer.descriptor if known is None or known.blob is None else known.blob
            file = await settled(self._store.blobs.open, blob.digest)
        job = _Unpacking(self._store, file, replace(layer.wanted, blob=blob), parents)
        ticker = asyncio.ensure_future(_tick(layer.progress, job))
        try:
            source = await in_thread(job.run, "unpack", stop=job.stop)
        except Abandoned as error:  # the download failed: tell that, whichever of the two is heard first
            raise (error.__cause__ or error) from None
        finally:
            ticker.cancel()
        layer.progress.say("Pull complete")
        return source

    def _fits(self, snapshot: SnapshotId, parents: tuple[SnapshotId, ...] | None) -> bool:
        """Whether the snapshot is there and may lie on these."""
        if not self._store.snapshots.has(snapshot):
            return False
        base = self._store.snapshots.get(snapshot).base
        return parents is None or base in ("", self._store.layers.base(parents))

    def _register(self, selected: Selected, sources: list[LayerSource], reference: Reference) -> Image:
        self._keep(sources)
        return register(self._images, selected, sources, reference)

    def _keep(self, sources: list[LayerSource]) -> None:
        self._store.snapshots.sync()
        for source in sources:
            if source.blob is not None:
                self._store.layers.remember_blob(source.diff_id, source.blob)


def wanted_layers(selected: Selected, *sources: str) -> list[LayerSource]:
    """The layers of an image in a registry, which can be fetched from these sources."""
    pairs = zip(selected.manifest.layers, selected.config.rootfs.diff_ids, strict=True)
    return [LayerSource(diff_id, blob.size, blob=blob, sources=sources) for blob, diff_id in pairs]


def register(images: Images, selected: Selected, sources: list[LayerSource], reference: Reference) -> Image:
    """Make it an image of the store, under `reference` unless that has a digest. Blocking.

    What is here of the same index for other platforms keeps the name with it.
    """
    by_digest = Reference(reference.domain, reference.path, digest=selected.digest)
    with images.table.lock:
        known = images.members(str(by_digest)) if images.find(str(by_digest)) is not None else []
        image = images.add(
            selected.config_bytes,
            sources,
            references=[] if reference.digest else [reference],
            manifest=selected.fetched.data,
            local=False,
            durable=True,
        )
        others = [each for each in known if each.id != image.id]
        if others and selected.fetched.digest != selected.digest:
            images.join_index([by_digest, *([] if reference.digest else [reference])], [*others, image])
        else:
            images.record_digest(image.id, by_digest)
        return images.get(image.id)


class _Unpacking:
    """One layer from its blob (which may still be growing) to its snapshot, in a thread."""

    def __init__(
        self, store: Store, file: BinaryIO, layer: LayerSource, parents: Sequence[SnapshotId] | None
    ) -> None:
        assert layer.blob is not None
        self.size = layer.blob.size
        self.position = 0
        self._store = store
        self._file = file
        self._layer = layer
        self._parents = parents
        self._plain = 0
        self._stopped = False

    def stop(self) -> None:
        """Let the thread fail at its next read."""
        self._stopped = True

    def run(self) -> LayerSource:
        """Raises Corrupt, InvalidInput, StoreFull, and what the download failed with."""
        with self._file:
            snapshot = self._store.layers.unpack(
                cast(BinaryIO, _Chunks(self._content())),
                compression="",
                parents=self._parents or (),
                expected_diff_id=self._layer.diff_id,
                alone=self._parents is None,
            )
            if not self._plain:  # it was unpacked already: is the blob really that layer?
                self._verify()
        return replace(self._layer, size=self._plain, snapshot=snapshot)

    def _content(self) -> Iterator[bytes]:
        for chunk in decompress(cast(BinaryIO, self), "auto"):
            self._plain += len(chunk)
            yield chunk

    def _verify(self) -> None:
        hasher = hashlib.sha256()
        for chunk in self._content():
            hasher.update(chunk)
        if f"sha256:{hasher.hexdigest()}" != self._layer.diff_id:
            assert self._layer.blob is not None
            raise Corrupt(
                f"layer {self._layer.blob.digest}: its content has the diff_id sha256:{hasher.hexdigest()}, "
                f"the image says {self._layer.diff_id}"
            )

    def read(self, size: int = -1) -> bytes:
        """For `decompress`: the blob's bytes, counted."""
        if self._stopped:
            raise InterruptedError("the pull was given up")
        data = self._file.read(size)
        self.position += len(data)
        return data


class _Chunks:
    """An iterator of chunks as the file that `unpack` reads; a chunk may be longer than asked for."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, size: int = -1) -> bytes:
        return next(self._chunks, b"")


async def _tick(progress: Progress, job: _Unpacking) -> None:
    """Show how far the unpacking is."""
    while True:
        await asyncio.sleep(_INTERVAL)
        if job.position:
            progress.update("Extracting", min(job.position, job.size), job.size)
