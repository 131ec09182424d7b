"""Push: from an image in the store to a tag in a registry; nothing that is there already is sent again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from buildtool.aio import KeyedLocks
from buildtool.cache import Lease, Store
from buildtool.errors import BuildtoolError
from buildtool.images import Image, Images, LayerSource
from buildtool.images.forms import GZIP, Compression, named_forms
from buildtool.images.groups import IndexNotes, index_of
from buildtool.images.model import annotations_of
from buildtool.oci import Descriptor, Digest, Reference, decode_index, docker_manifest, media_types, sha256
from buildtool.registry import forms
from buildtool.registry.attestations import push_attestations
from buildtool.registry.credentials import Credentials
from buildtool.registry.errors import RegistryRefused
from buildtool.registry.forms import Outgoing
from buildtool.registry.progress import Emit, Progress, short
from buildtool.registry.remote_layers import REGISTRY, RemoteLayers
from buildtool.registry.repository import Repository, media_type_of
from buildtool.registry.seen import Seen
from buildtool.registry.uploads import upload
from buildtool.registry.work import in_thread, settled, together

log = logging.getLogger(__name__)

_STREAMS = 6
_MOUNT_TRIES = 2


@dataclass(frozen=True)
class Pushed:
    """What a tag of the registry is now. `entries`: what an index is to have of an image pushed without one."""

    tag: str
    digest: Digest
    size: int
    entries: tuple[Descriptor, ...] = ()


@dataclass(frozen=True)
class Manner:
    """How a push is made. `docker_types`: manifests have Docker's media types, and nothing is stated about images.
    `note`: the store learns what the images are called in the registry. `insecure`: without TLS or its verification.
    """

    docker_types: bool = False
    note: bool = True
    insecure: bool = False


@dataclass
class _Layer:
    """One layer on its way out."""

    outgoing: Outgoing
    progress: Progress

    @property
    def key(self) -> Digest:
        """Layers of one key are one blob in the registry."""
        blob = self.outgoing.blob
        return self.outgoing.source.diff_id if blob is None else blob.digest


class NotToBeHad(Exception):
    """A blob that the image's manifest names is neither here nor where it came from; its cause says why."""


@dataclass
class _Plan:
    """An image as it will be pushed. `manifest` is None when it depends on blobs that are still to be made."""

    layers: list[_Layer]
    config: Descriptor
    manifest: bytes | None
    annotations: dict[str, str] | None = None


class Pusher:
    """Pushes images to one repository; what one of them brought there is not looked for again."""

    def __init__(
        self,
        images: Images,
        repository: Repository,
        seen: Seen,
        flights: KeyedLocks,
        remote_layers: RemoteLayers,
        emit: Emit,
        wanted: Compression = GZIP,
        how: Manner = Manner(),
    ) -> None:
        """`wanted` is for the layers that the images do not name compressed, and with its `force` for all."""
        self._wanted = wanted
        self._docker_types = how.docker_types
        self._notes = how.note
        self._images = images
        self._store: Store = images.store
        self._repository = repository
        self._seen = seen
        self._flights = flights
        self._remote_layers = remote_layers
        self._emit = emit
        self._slots = asyncio.Semaphore(_STREAMS)
        self._there: dict[Digest, Descriptor] = {}

    async def push(self, image: Image, reference: Reference) -> Pushed:
        """Push the blobs, then the manifest under the reference's tag; with attestations, an index of them and it.

        Without a tag it is there under its digest only; a reference with a digest is one image of an index to come.

        Raises RegistryRefused, RegistryUnreachable, Corrupt (content of the store that is damaged).
        """
        with self._store.leases.hold(f"push {reference}") as lease:
            try:
                return await self._push(image, reference, await settled(self._plan, image, lease), lease)
            except NotToBeHad as error:
                plan = await settled(self._plan, image, lease, as_stored=False)
                missing = [layer for layer in plan.layers if layer.outgoing.blob is None]
                if any(layer.outgoing.source.snapshot is None for layer in missing):
                    raise (error.__cause__ or error) from None
                log.info("%s: layers are compressed anew: %s", reference, error.__cause__)
                return await self._push(image, reference, plan, lease)

    async def _push(self, image: Image, reference: Reference, plan: _Plan, lease: Lease) -> Pushed:
        unique = {layer.key: layer for layer in reversed(plan.layers)}
        for layer in plan.layers:
            layer.progress.say("Preparing")
        manifest = self._known_manifest(image, plan)
        if manifest is not None and await self._has_manifest(manifest):
            there = [layer.outgoing.blob for layer in plan.layers if layer.outgoing.blob is not None]
            try:
                pushed = await self._finish(image, reference, manifest, [plan.config, *there], lease)
            except RegistryRefused:
                log.info("%s: the registry lacks something of its manifest", reference)
            else:
                for layer in unique.values():
                    layer.progress.say("Layer already exists")
                return pushed
        _, *blobs = await together(
            (self._bring(plan.config), *(self._push_layer(layer, lease) for layer in unique.values()))
        )
        by_key = dict(zip(unique, blobs, strict=True))
        ordered = [by_key[layer.key] for layer in plan.layers]
        manifest = plan.manifest or forms.new_manifest(image, plan.config.size, ordered, plan.annotations)
        manifest = docker_manifest(manifest) if self._docker_types else manifest
        return await self._finish(image, reference, manifest, [plan.config, *ordered], lease)

    async def bring_layer(self, source: LayerSource, named: Descriptor | None, lease: Lease) -> None:
        """One layer, as `push` would bring it, for an image that is not there yet; nothing when it is not here.

        Raises as `push`.
        """
        outgoing = await settled(forms.form_of, self._store, source, lease, self._wanted, named, far=False)
        if outgoing.blob is not None or source.snapshot is not None:
            await self._push_layer(self._layer(outgoing), lease)

    async def push_index(self, images: Sequence[Image], reference: Reference, notes: IndexNotes) -> Pushed:
        """Push several images with what is stated about them, then their index under the reference's tag.

        Raises as `push`.
        """
        entries: list[tuple[Digest, Descriptor]] = []
        stated: list[Descriptor] = []
        for image in images:
            pushed = await self.push(image, replace(reference, tag="", digest=image.manifest.digest))
            own, *about = pushed.entries
            entries.append((image.id, own))
            stated += about
        index = index_of(entries, notes, stated, docker=self._docker_types)
        tag = reference.tag or sha256(index)
        digest = await self._repository.put_manifest(tag, index, media_type_of(index))
        if self._notes:
            await settled(self._note_index, images, reference, digest)
        return Pushed(tag, digest, len(index))

    async def _finish(
        self, image: Image, reference: Reference, manifest: bytes, blobs: list[Descriptor], lease: Lease
    ) -> Pushed:
        """Put the manifest, whose blobs are there, under the tag."""
        index = None
        if not self._docker_types:
            index = await push_attestations(
                self._images, self._repository, self._bring, image, manifest, reference, lease
            )
        top = manifest if index is None else index
        if reference.digest:  # one image of an index that is still to come
            await self._repository.put_manifest(sha256(manifest), manifest, media_type_of(manifest))
            await settled(self._seen.note, (blob.digest for blob in blobs), reference.repository)
            own = Descriptor(media_type_of(manifest), sha256(manifest), len(manifest), platform=image.config.platform)
            stated = [] if index is None else decode_index(index).manifests[1:]
            return Pushed("", sha256(manifest), len(manifest), (own, *stated))
        tag = reference.tag or sha256(top)
        digest = await self._repository.put_manifest(tag, top, media_type_of(top))
        if self._notes:
            await settled(self._note, image, reference, digest, blobs)
        return Pushed(tag, digest, len(top))

    def _known_manifest(self, image: Image, plan: _Plan) -> bytes | None:
        """The manifest as it will be, None while it depends on blobs that are still to be made."""
        if plan.manifest is not None:
            return docker_manifest(plan.manifest) if self._docker_types else plan.manifest
        blobs = [layer.outgoing.blob for layer in plan.layers]
        known = [blob for blob in blobs if blob is not None]
        if len(known) < len(blobs):
            return None
        made = forms.new_manifest(image, plan.config.size, known, plan.annotations)
        return docker_manifest(made) if self._docker_types else made

    async def _has_manifest(self, manifest: bytes) -> bool:
        """Whether the repository has it, and with it all that it names: one question instead of one a layer."""
        digest = sha256(manifest)
        try:
            return await self._repository.manifest_digest(digest) == digest
        except RegistryRefused:
            return False

    def _plan(self, image: Image, lease: Lease, as_stored: bool = True) -> _Plan:
        """Without `as_stored` only of what is here."""
        stored = forms.stored_manifest(self._store, image, lease, self._wanted) if as_stored else None
        if stored is not None:
            data, outgoing, config = stored
            return _Plan([self._layer(layer) for layer in outgoing], config, data)
        named = named_forms(self._store, image)
        layers = [
            self._layer(forms.form_of(self._store, source, lease, self._wanted, form, far=as_stored))
            for source, form in zip(image.layers, named, strict=True)
        ]
        config = Descriptor(media_types.CONFIG, image.id, self._store.blobs.size(image.id))
        return _Plan(layers, config, None, annotations_of(self._store, image))

    def _layer(self, outgoing: Outgoing) -> _Layer:
        return _Layer(outgoing, Progress(self._emit, short(outgoing.source.diff_id)))

    async def _push_layer(self, layer: _Layer, lease: Lease) -> Descriptor:
        if layer.outgoing.foreign:
            assert layer.outgoing.blob is not None
            layer.progress.say("Skipped foreign layer")
            return layer.outgoing.blob
        key = layer.key
        if key in self._there:
            layer.progress.say("Layer already exists")
            return self._there[key]
        async with self._slots:
            blob = layer.outgoing.blob or await self._make(layer, lease)
            await self._bring(blob, layer)
        self._there[key] = self._there[blob.digest] = blob
        return blob

    async def _make(self, layer: _Layer, lease: Lease) -> Descriptor:
        source, progress = layer.outgoing.source, layer.progress
        async with self._flights(source.diff_id):  # in one compression at a time
            found = await settled(forms.form_of, self._store, source, lease, self._wanted)
            if found.blob is not None:
                return found.blob
            loop = asyncio.get_running_loop()

            def report(done: int) -> None:
                loop.call_soon_threadsafe(progress.update, "Compressing", done, source.size)

            if source.blob is not None and source.snapshot is None:
                await self._remote_layers.fetch(source, self._emit, self._credentials)
            job = forms.Making(self._store, source, lease, report, self._wanted)
            return await in_thread(job.run, "compress", stop=job.stop)

    async def _bring(self, blob: Descriptor, layer: _Layer | None = None) -> Descriptor:
        """See that the repository has the blob: look, mount, upload; only for the last it has to be here."""
        async with self._flights(f"{self._repository.name} {blob.digest}"):  # another push may be bringing it
            return await self._bring_now(blob, layer)

    async def _bring_now(self, blob: Descriptor, layer: _Layer | None) -> Descriptor:
        repository = self._repository
        said = layer.progress if layer is not None else Progress(lambda _: None, "")
        if await repository.has_blob(blob.digest):
            said.say("Layer already exists")
            return blob
        location = ""
        domain = repository.connection.domain
        seen = await settled(self._seen.elsewhere, blob.digest, domain, repository.path)
        here = [] if layer is None else _repositories(layer.outgoing.source, domain, repository.path)
        for source in list(dict.fromkeys([*here, *seen]))[:_MOUNT_TRIES]:
            outcome = await repository.mount(blob.digest, source)
            if outcome is None:
                said.say(f"Mounted from {source}")
                return blob
            await settled(self._seen.forget, blob.digest, f"{domain}/{source}")
            location = outcome or location
            if location:
                break
        if layer is not None and not await settled(self._store.blobs.has, blob.digest):
            try:
                await self._remote_layers.fetch(layer.outgoing.source, self._emit, self._credentials)
            except BuildtoolError as error:
                raise NotToBeHad from error
        path = self._store.blobs.path(blob.digest)
        await upload(repository, path, blob.digest, lambda sent: said.update("Pushing", sent, blob.size), location)
        said.say("Pushed")
        return blob

    def _credentials(self, domain: str) -> Credentials | None:
        connection = self._repository.connection
        own = connection.authorizer.credentials
        return own if domain == connection.domain and own != Credentials() else None

    def _note_index(self, images: Sequence[Image], reference: Reference, digest: Digest) -> None:
        by_digest = Reference(reference.domain, reference.path, digest=digest)
        self._images.join_index([by_digest], images)

    def _note(self, image: Image, reference: Reference, digest: Digest, blobs: list[Descriptor]) -> None:
        self._images.record_digest(image.id, Reference(reference.domain, reference.path, digest=digest))
        self._seen.note((blob.digest for blob in blobs), reference.repository)


def _repositories(layer: LayerSource, domain: str, path: str) -> list[str]:
    """The other repositories of the registry that the layer is to be had from."""
    prefix = f"{REGISTRY}://{domain}/"
    found = [source.removeprefix(prefix) for source in layer.sources if source.startswith(prefix)]
    return [name for name in found if name != path]
