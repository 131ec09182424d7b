"""Pull: from a repository in a registry to an image in the store.

Layers are fetched side by side and unpacked bottom up, each while it still comes in; every byte is hashed on its way
(the compressed blob against its digest, its content against the config's diff_id). Nothing becomes an image before
all is there; a lease holds what is half-way.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from buildtool.aio import offload
from buildtool.cache import Lease, SnapshotId, Store, decompress
from buildtool.errors import Corrupt
from buildtool.images import Image, Images, LayerSource
from buildtool.oci import Descriptor, Digest, Reference
from buildtool.registry.downloads import Abandoned, Flights, GrowingBlob, download
from buildtool.registry.progress import Emit, Progress, short
from buildtool.registry.repository import Repository
from buildtool.registry.selection import Selected
from buildtool.registry.work import in_thread, settled, together

_STREAMS = 6
_INTERVAL = 0.1


@dataclass
class _Layer:
    """One layer on its way in. `known`: an image here has it, in whatever compression."""

    descriptor: Descriptor
    diff_id: Digest
    progress: Progress
    known: LayerSource | None = None
    growing: GrowingBlob = field(default_factory=GrowingBlob)


class Puller:
    """Brings one selected image in."""

    def __init__(self, images: Images, repository: Repository, flights: Flights, emit: Emit) -> None:
        self._images = images
        self._store: Store = images.store
        self._repository = repository
        self._flights = flights
        self._emit = emit
        self._slots = asyncio.Semaphore(_STREAMS)

    async def pull(self, selected: Selected, reference: Reference) -> Image:
        """Fetch, unpack and register; `reference` gets to point at the image unless it has a digest.

        Raises Corrupt, InvalidInput, StoreFull, RegistryUnreachable, RegistryRefused; then the images are as before.
        """
        with self._store.leases.hold(f"pull {reference}") as lease:
            layers = await settled(self._plan, selected, lease)
            sources: list[LayerSource] = []
            try:
                await together((self._fetch_all(layers), self._unpack_all(layers, lease, sources)))
            finally:
                for layer in layers:
                    layer.growing.close()
            return await settled(self._register, selected, sources, reference)

    def _plan(self, selected: Selected, lease: Lease) -> list[_Layer]:
        """What is here already. Leased first, then looked for: gc cannot come between."""
        records = {layer.diff_id: layer for record in self._images.table.records() for layer in record.layers}
        planned = []
        for descriptor, diff_id in zip(selected.manifest.layers, selected.config.rootfs.diff_ids, strict=True):
            layer = _Layer(descriptor, diff_id, Progress(self._emit, short(descriptor.digest)))
            lease.blob(descriptor.digest)
            if diff_id in records:
                layer.known = self._usable(records[diff_id], lease)
            planned.append(layer)
        return planned

    def _usable(self, source: LayerSource, lease: Lease) -> LayerSource | None:
        if source.blob is not None:
            lease.blob(source.blob.digest)
            return source if self._store.blobs.has(source.blob.digest) else None
        assert source.snapshot is not None
        lease.snapshot(source.snapshot)
        if not self._store.snapshots.has(source.snapshot) or self._store.snapshots.get(source.snapshot).base:
            return None
        return source

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
                    await download(
                        self._repository, self._store.blobs, layer.descriptor, layer.progress, layer.growing
                    )
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

    async def _unpack(self, layer: _Layer, growing: GrowingBlob, parents: tuple[SnapshotId, ...]) -> LayerSource:
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
        job = _Unpacking(self._store, file, blob, layer.diff_id, parents)
        ticker = asyncio.ensure_future(_tick(layer.progress, job))
        try:
            source = await in_thread(job.run, "unpack", stop=job.stop)
        except Abandoned as error:  # the download failed: tell that, whichever of the two is heard first
            raise (error.__cause__ or error) from None
        finally:
            ticker.cancel()
        layer.progress.say("Pull complete")
        return source

    def _fits(self, snapshot: SnapshotId, parents: tuple[SnapshotId, ...]) -> bool:
        """Whether the snapshot is there and may lie on these."""
        if not self._store.snapshots.has(snapshot):
            return False
        return self._store.snapshots.get(snapshot).base in ("", self._store.layers.base(parents))

    def _register(self, selected: Selected, sources: list[LayerSource], reference: Reference) -> Image:
        self._store.snapshots.sync()
        for source in sources:
            if source.blob is not None:
                self._store.layers.remember_blob(source.diff_id, source.blob)
        image = self._images.add(
            selected.config_bytes,
            sources,
            references=[] if reference.digest else [reference],
            manifest=selected.fetched.data,
            local=False,
            durable=True,
        )
        named = Reference(reference.domain, reference.path, digest=selected.digest)
        self._images.record_digest(image.id, named)
        return self._images.get(image.id)


class _Unpacking:
    """One layer from its blob (which may still be growing) to its snapshot, in a thread."""

    def __init__(
        self, store: Store, file: BinaryIO, blob: Descriptor, diff_id: Digest, parents: Sequence[SnapshotId]
    ) -> None:
        self.size = blob.size
        self.position = 0
        self._store = store
        self._file = file
        self._blob = blob
        self._diff_id = diff_id
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
                parents=self._parents,
                expected_diff_id=self._diff_id,
            )
            if not self._plain:  # it was unpacked already: is the blob really that layer?
                self._verify()
        return LayerSource(self._diff_id, self._plain, snapshot, self._blob)

    def _content(self) -> Iterator[bytes]:
        for chunk in decompress(cast(BinaryIO, self), "auto"):
            self._plain += len(chunk)
            yield chunk

    def _verify(self) -> None:
        hasher = hashlib.sha256()
        for chunk in self._content():
            hasher.update(chunk)
        if f"sha256:{hasher.hexdigest()}" != self._diff_id:
            raise Corrupt(
                f"layer {self._blob.digest}: its content has the diff_id sha256:{hasher.hexdigest()}, "
                f"the image says {self._diff_id}"
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
