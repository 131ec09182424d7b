"""Layers that are still where they come from: an image may be known here long before its layers are needed.

Such a layer names its sources (see LayerSource). Those of the scheme `registry` are repositories; who keeps layers
elsewhere adds a provider for another scheme.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from buildtool.aio import KeyedLocks, offload
from buildtool.cache import BlobStore, Lease
from buildtool.errors import BuildtoolError, Corrupt, NotFound
from buildtool.images import Image, Images, LayerSource
from buildtool.oci import Descriptor, Reference
from buildtool.registry.cache_bucket import S3, BucketLayers
from buildtool.registry.credentials import Credentials
from buildtool.registry.downloads import GrowingBlob, download
from buildtool.registry.layout_blobs import LAYOUT, from_layout
from buildtool.registry.progress import Emit, Progress, status
from buildtool.registry.pull import Puller, register, wanted_layers
from buildtool.registry.repository import Repository, open_mirror
from buildtool.registry.selection import Selected
from buildtool.registry.transport import BROKEN, Transport
from buildtool.registry.work import settled

REGISTRY = "registry"

FindCredentials: TypeAlias = Callable[[str], Credentials | None]
"""Those for a registry's domain; None: the ones the image was resolved with."""

Provider: TypeAlias = Callable[[str, Descriptor, BlobStore, Progress, GrowingBlob], Awaitable[None]]
"""Fetches a blob from a source, given without its scheme, into the store, as `downloads.download` does."""


def _nothing(domain: str) -> Credentials | None:
    return None


def _hint(image: Image, name: str) -> str:
    if image.repo_digests:
        return f"`buildtool pull {name}` brings all of the image, with the credentials you have"
    places = sorted({source.partition("://")[2] for layer in image.layers for source in layer.sources[:1]})
    return f"layers of {name} are still in {', '.join(places)}; build it again where you may read there"


class RemoteLayers:
    """Registers images without their layers, and brings these when they are needed.

    Credentials that an image was resolved with are kept in memory, for its layers, as long as this process lives.
    """

    def __init__(self, images: Images, transport: Transport, flights: KeyedLocks) -> None:
        self.buckets = BucketLayers()
        self.providers: dict[str, Provider] = {LAYOUT: from_layout, S3: self.buckets.fetch}
        self._images = images
        self._transport = transport
        self._flights = flights
        self._credentials: dict[str, Credentials] = {}

    def remember(self, repository: str, credentials: Credentials | None) -> None:
        """Use these credentials for layers of `domain/path`."""
        if credentials is not None and credentials != Credentials():
            self._credentials[repository] = credentials

    async def register(self, selected: Selected, reference: Reference, credentials: Credentials | None) -> Image:
        """Make it an image of the store without fetching a layer; what is here of it already is used."""
        self.remember(reference.repository, credentials)
        return await settled(self._register, selected, reference)

    def _register(self, selected: Selected, reference: Reference) -> Image:
        store = self._images.store
        with store.leases.hold(f"resolve {reference}") as lease:
            layers = wanted_layers(selected, f"{REGISTRY}://{reference.repository}")
            here = self._puller(lambda message: None, _nothing).here(layers, lease)
            return register(self._images, selected, here, reference)

    async def complete(self, image: Image, emit: Emit, find: FindCredentials = _nothing) -> Image:
        """Bring what the image lacks; nothing happens when that is nothing.

        Raises RegistryRefused, RegistryUnreachable, NotFound, Corrupt, InvalidInput, StoreFull.
        """
        if not await offload(self._images.lacks, image):
            return image
        name = next((reference.familiar for reference in (*image.references, *image.repo_digests)), image.id)
        try:
            await self._puller(emit, find).complete(await offload(self._images.get, image.id))
        except BuildtoolError as error:
            error.hint = error.hint or _hint(image, name)
            raise
        status(emit, f"Status: Downloaded newer image for {name}")
        return await offload(self._images.get, image.id)

    async def layer(
        self, image: Image, index: int, lease: Lease, emit: Emit, find: FindCredentials = _nothing
    ) -> LayerSource:
        """Bring one layer of an image, to look into it. Raises as `complete`.

        InvalidInput may also mean that it cannot be unpacked without the layers below.
        """
        wanted = (await offload(self._images.get, image.id)).layers[index]
        found = await self._puller(emit, find).layer(wanted, lease)
        assert found.snapshot is not None
        if not (await offload(self._images.store.snapshots.get, found.snapshot)).base:
            await settled(self._learn, image, index, found)
        return found

    def _learn(self, image: Image, index: int, found: LayerSource) -> None:
        with self._images.table.lock:
            layers = list(self._images.get(image.id).layers)
            layers[index] = found
            self._images.table.learn(layers)

    async def fetch(self, layer: LayerSource, emit: Emit, find: FindCredentials = _nothing) -> None:
        """Bring the blob of a layer, without unpacking it. Raises as `complete`."""
        assert layer.blob is not None
        async with self._flights(layer.blob.digest):
            if not await offload(self._images.store.blobs.has, layer.blob.digest):
                growing = GrowingBlob()
                try:
                    await self._download(layer, Progress(emit, layer.blob.digest[7:19]), growing, find)
                finally:
                    growing.close()

    def _puller(self, emit: Emit, find: FindCredentials) -> Puller:
        async def fetch(layer: LayerSource, progress: Progress, growing: GrowingBlob) -> None:
            await self._download(layer, progress, growing, find)

        return Puller(self._images, fetch, self._flights, emit)

    async def _download(
        self, layer: LayerSource, progress: Progress, growing: GrowingBlob, find: FindCredentials
    ) -> None:
        """From the first source that has it."""
        assert layer.blob is not None
        if not layer.sources:
            raise Corrupt(
                f"layer {layer.diff_id} is neither unpacked nor among the blobs",
                hint="remove the image and pull, load or build it again",
            )
        failure: BaseException | None = None
        for source in layer.sources:
            scheme, _, place = source.partition("://")
            try:
                if scheme == REGISTRY:
                    await self._from_registry(place, layer.blob, progress, growing, find)
                elif scheme in self.providers:
                    await self.providers[scheme](place, layer.blob, self._images.store.blobs, progress, growing)
                else:
                    raise NotFound(f"layer {layer.blob.digest} is at {source}, which this daemon cannot read")
                return
            except (BuildtoolError, *BROKEN) as error:
                if growing.begun:  # a reader has seen some of it
                    raise
                failure = error
        assert failure is not None
        raise failure

    async def _from_registry(
        self, place: str, blob: Descriptor, progress: Progress, growing: GrowingBlob, find: FindCredentials
    ) -> None:
        domain, _, path = place.partition("/")
        for mirror in self._transport.config.mirrors_of(domain):
            try:
                repository = await open_mirror(self._transport, mirror, path)
                if await repository.has_blob(blob.digest):
                    await download(repository, self._images.store.blobs, blob, progress, growing)
                    return
            except (BuildtoolError, *BROKEN):
                if growing.begun:
                    raise
        credentials = find(domain) or self._credentials.get(place)
        repository = Repository(await self._transport.connect(domain, credentials), path)
        await download(repository, self._images.store.blobs, blob, progress, growing)
