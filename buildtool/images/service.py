"""The images of one store: the service that builds, containers, the registry client and the daemon share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeAlias

import msgspec

from buildtool.aio import KeyedLocks, offload
from buildtool.cache.check import Problem
from buildtool.cache.gc import Pins
from buildtool.cache.snapshots import SnapshotId
from buildtool.cache.store import Store
from buildtool.errors import InvalidInput, NotFound
from buildtool.images import filters as filtering
from buildtool.images import importing, loading, removal, saving, shapes
from buildtool.images.attestations import Attestations
from buildtool.images.filters import Filters
from buildtool.images.forms import Compression
from buildtool.images.groups import NO_NOTES, Group, IndexNotes, index_of, manifests_in
from buildtool.images.model import Image, LayerSource, check_tag, manifest_of
from buildtool.images.removal import InUse, Removal, Running
from buildtool.images.table import ImageTable, Record
from buildtool.images.times import parse_until
from buildtool.images.unpacking import snapshots_of
from buildtool.oci import (
    Descriptor,
    Digest,
    Platform,
    Reference,
    best_platform,
    decode_config,
    decode_manifest,
    encode,
    host_platform,
    is_digest,
    parse_reference,
)

Removed: TypeAlias = list[dict[str, str]]
Shapes: TypeAlias = list[dict[str, Any]]
ImageList: TypeAlias = list[Image]
SnapshotIds: TypeAlias = list[SnapshotId]
Problems: TypeAlias = list[Problem]
Event = Callable[[str, str, dict[str, str]], None]
"""(action, image id, attributes), as the Engine API's events of type image have them."""


Bring = Callable[[Image], Awaitable[None]]
"""Fetches and unpacks the layers that an image lacks."""


class Images:
    """Images by reference and id. Synchronous and thread-safe; nothing but `bring` waits for the network."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.table = ImageTable(store)
        self.attestations = Attestations(store)
        self.events: Event | None = None
        self.bringer: Bring | None = None
        self.locks = KeyedLocks()
        """By digest: for who fetches a blob, makes a form of a layer, or brings one to a repository."""

    # Looking up

    def get(self, ref_or_id: str, platform: Platform | None = None) -> Image:
        """The image of this name (`name[:tag][@digest]`), id or unique id prefix. Raises NotFound, InvalidInput.

        Of a name that means an index, or an index's digest: the image for the platform, else for this machine's,
        else the first one.
        """
        if platform is None:
            return self._record(ref_or_id).image()
        members = self.members(ref_or_id)
        place = best_platform(platform, [image.config.platform for image in members])
        if place is None:
            there = ", ".join(str(image.config.platform) for image in members)
            raise NotFound(
                f"image with reference {ref_or_id} was found but does not provide the specified platform "
                f"({platform})",
                hint=f"it is here for {there}",
            )
        return members[place]

    def group(self, ref_or_id: str) -> Group | None:
        """The index that a name (or its own digest) means; None when it means a single image, or nothing."""
        digest = ref_or_id if is_digest(ref_or_id) else f"sha256:{ref_or_id}"
        if is_digest(digest):
            return next((group for _, group in self.table.groups() if group.digest == digest), None)
        try:
            reference = parse_reference(ref_or_id).with_default_tag()
            if reference.digest:
                reference = Reference(reference.domain, reference.path, digest=reference.digest)
            return self.table.group(reference)
        except InvalidInput:
            return None

    def members(self, ref_or_id: str) -> ImageList:
        """The images of the index that a name means, in its order; else the one image. Raises as `get`."""
        with self.table.lock:
            group = self.group(ref_or_id)
            if group is None:
                return [self._record(ref_or_id).image()]
            return [self._record(each).image() for each in group.images]

    def name_index(
        self, images: Sequence[Image], references: Sequence[Reference] = (), notes: IndexNotes = NO_NOTES
    ) -> Group:
        """Make the index of these images, in this order, and let the names mean it; each then shows the image for
        this machine, else the first. The order counts for the digest. Raises InvalidInput.
        """
        return self._name_index(images, [check_tag(reference) for reference in references], notes)

    def _name_index(self, images: Sequence[Image], names: Sequence[Reference], notes: IndexNotes) -> Group:
        with self.table.lock, self.store.leases.hold("index"):
            records = [self._record(image.id) for image in images]
            platforms = [record.config.platform for record in records]
            entries = [
                (record.id, msgspec.structs.replace(record.manifest, platform=platform))
                for record, platform in zip(records, platforms, strict=True)
            ]
            data = index_of(entries, notes)
            group = Group(
                digest=self.store.blobs.put(data),
                size=len(data),
                images=tuple(record.id for record in records),
                notes=notes,
            )
            shown = records[best_platform(host_platform(), platforms) or 0]
            for name in names:
                self.table.point(name, shown, group=group)
                self.notify("tag", shown.image(), name.familiar)
        return group

    def name_by_digest(
        self, repository: Reference, images: Sequence[Image], notes: IndexNotes = NO_NOTES
    ) -> Reference:
        """Give the image, or the index of several, the name REPOSITORY@DIGEST, which is returned."""
        if len(images) == 1:
            reference = Reference(repository.domain, repository.path, digest=images[0].manifest.digest)
            self.record_digest(images[0].id, reference)
            return reference
        group = self._name_index(images, [], notes)
        reference = Reference(repository.domain, repository.path, digest=group.digest)
        self._name_index(images, [reference], notes)
        return reference

    def join_index(self, references: Sequence[Reference], images: Sequence[Image]) -> None:
        """Let names (digests may be among them) mean these images of one index, as many as are here by now."""
        found = {image.id: image for image in images}
        self._name_index(sorted(found.values(), key=lambda each: str(each.config.platform)), references, NO_NOTES)

    def name_platforms(self, reference: Reference, images: Sequence[Image]) -> None:
        """Let a name mean these images, and those that it meant before for other platforms."""
        new = {str(image.config.platform): image for image in images}
        with self.table.lock:
            before = self.members(str(reference)) if self.find(str(reference)) is not None else []
            kept = {str(image.config.platform): image for image in before}
            together = [image for _, image in sorted({**kept, **new}.items())]
            if len(together) > 1:
                self.name_index(together, [reference])
            else:
                self.tag(together[0].id, reference)

    def find(self, ref_or_id: str) -> Image | None:
        """As `get`, but None where there is none; a malformed name is none."""
        try:
            return self.get(ref_or_id)
        except (NotFound, InvalidInput):
            return None

    def list(self) -> ImageList:
        """Every image, newest first."""
        return sorted((record.image() for record in self.table.records()), key=lambda i: (-i.created, i.id))

    def _record(self, name: str) -> Record:
        identity = name if is_digest(name) else f"sha256:{name}"
        if is_digest(identity):
            record = self.table.record(Digest(identity)) or self._of_index(Digest(identity))
            if record is None:
                raise NotFound(f"No such image: {identity}")
            return record
        reference = parse_reference(name).with_default_tag()
        record = self._named(reference)
        if record is not None:
            return record
        candidates = self.table.by_prefix(name) if name.removeprefix("sha256:").isalnum() else []
        if len(candidates) == 1:
            return candidates[0]
        hint = f"{len(candidates)} image ids begin with {name}" if candidates else ""
        raise NotFound(f"No such image: {reference.familiar}", hint=hint)

    def _of_index(self, digest: Digest) -> Record | None:
        """The image that a name of this index shows."""
        for name, group in self.table.groups():
            if group.digest == digest:
                return self.table.by_reference(name)
        return None

    def _named(self, reference: Reference) -> Record | None:
        if reference.digest is None:
            return self.table.by_reference(reference)
        by_digest = Reference(reference.domain, reference.path, digest=reference.digest)
        return self.table.by_reference(by_digest) or self.table.by_manifest(reference.repository, reference.digest)

    # Adding and naming

    def add(
        self,
        config: bytes,
        layers: Sequence[LayerSource],
        *,
        references: Sequence[Reference] = (),
        manifest: bytes | None = None,
        parent: Digest | None = None,
        local: bool = True,
        durable: bool = False,
        renew: bool = False,
    ) -> Image:
        """Register an image; an image of the same id is kept and learns what is new about its layers.

        `manifest`: the bytes it came with, else an OCI manifest is made. `local`: made here, now (else its config
        says when). `references` name it in the same transaction. `renew`: the manifest counts even if the image was
        here with another one. Raises InvalidInput when config and layers do not
        match.
        """
        document = decode_config(config)
        diff_ids = [layer.diff_id for layer in layers]
        if document.rootfs.diff_ids != diff_ids:
            raise InvalidInput(f"the image config names other layers than the given {diff_ids}")
        for layer in layers:
            if layer.snapshot is None and layer.blob is None:
                raise InvalidInput(f"layer {layer.diff_id} has neither a snapshot nor a blob")
        with self.store.leases.hold("add image"):
            image_id = self.store.blobs.put(config)
            if manifest is None:
                manifest = encode(manifest_of(image_id, len(config), layers))
            record = Record(
                id=image_id,
                manifest=Descriptor(
                    decode_manifest(manifest).media_type, self.store.blobs.put(manifest), len(manifest)
                ),
                layers=tuple(layers),
                created_locally=time.time() if local else 0.0,
                last_tagged=0.0,
                parent=parent,
                blobs=self.store.blobs,
            )
            names = [check_tag(name) for name in references]
            return self.table.put(record, names, durable, renew=renew).image()

    def tag(self, image_id: Digest, reference: Reference, group: Group | None = None) -> None:
        """Give the image, or the index `group`, a name that leaves what had it. Raises NotFound, InvalidInput."""
        record = self.table.record(image_id)
        if record is None:
            raise NotFound(f"No such image: {image_id}")
        reference = check_tag(reference)
        self.table.point(reference, record, group=group)
        self.notify("tag", record.image(), reference.familiar)

    def record_digest(self, image_id: Digest, reference: Reference) -> None:
        """Note that the image is `repository@digest` in a registry (after a pull or a push)."""
        record = self.table.record(image_id)
        if record is None or reference.digest is None:
            raise NotFound(f"No such image: {image_id}")
        self.table.point(Reference(reference.domain, reference.path, digest=reference.digest), record)

    # Removing

    def delete(
        self,
        ref_or_id: str,
        *,
        force: bool = False,
        noprune: bool = False,
        in_use: InUse = lambda image_id: (),
        running: Running = lambda container_id: False,
        platforms: Sequence[Platform] = (),
    ) -> Removed:
        """`docker rmi`: untag, and delete with the last name. The answer's records (Untagged, Deleted).

        `in_use` gives the containers of an image, `running` tells of one whether it runs. Raises NotFound, and
        Conflict with dockerd's texts. Content goes with the next gc.
        """
        with self.table.lock:
            work = self._removal(in_use, running)
            if platforms and not self._leave_out(work, ref_or_id, platforms):
                return work.records
            work.remove(self._record(ref_or_id), ref_or_id, force=force, noprune=noprune)
            return work.records

    def _leave_out(self, work: Removal, name: str, platforms: Sequence[Platform]) -> bool:
        """Let a name mean its images without those of the platforms. True when it has no others; then nothing was
        done. Raises NotFound for a platform that it does not mean, Conflict."""
        members = self.members(name)
        gone: set[Digest] = set()
        for platform in platforms:
            position = best_platform(platform, [image.config.platform for image in members])
            if position is None:
                what = f"does not provide the specified platform ({platform})"
                raise NotFound(f"image with reference {name} was found but {what}")
            gone.add(members[position].id)
        kept = [image for image in members if image.id not in gone]
        if kept:
            work.check_unused(gone)
            self._name_index(kept, [parse_reference(name).with_default_tag()], NO_NOTES)
            work.drop(gone)
        return not kept

    def prune(
        self,
        dangling_only: bool = True,
        filters: Filters | None = None,
        in_use: InUse = lambda image_id: (),
        running: Running = lambda container_id: False,
    ) -> dict[str, Any]:
        """Delete dangling (else all) images that no container uses: the API's ImagesDeleted, SpaceReclaimed."""
        filters = filters or {}
        with self.table.lock:
            work = self._removal(in_use, running)
            removal.prune(work, dangling_only=filtering.flag(filters, "dangling", dangling_only), filters=filters)
        return {"ImagesDeleted": work.records or None, "SpaceReclaimed": sum(work.freed.values())}

    def _removal(self, in_use: InUse, running: Running) -> Removal:
        return Removal(self.table, in_use, running, lambda action, record: self.notify(action, record.image()))

    # Showing

    def history(self, image: Image) -> Shapes:
        """GET /images/{name}/history."""
        return shapes.history_shape(image)

    def inspect(self, image: Image) -> dict[str, Any]:
        """GET /images/{name}/json."""
        known = [layer.snapshot for layer in image.layers if layer.snapshot is not None]
        whole = known if len(known) == len(image.layers) else []
        return shapes.inspect_shape(image, [self.store.snapshots.fs(snapshot) for snapshot in whole])

    def summaries(
        self,
        filters: Filters | None = None,
        all: bool = False,
        *,
        shared_size: bool = False,
        containers: Callable[[Digest], int] | None = None,
        manifests: bool = False,
    ) -> Shapes:
        """GET /images/json: newest first. `containers` counts the containers of an image (for /system/df)."""
        filters = filters or {}
        chosen = self._select(filters, all)
        shared = shapes.shared_sizes(self.list()) if shared_size else {}
        found = [
            shapes.summary_shape(
                image,
                shared=shared.get(image.id, -1),
                containers=-1 if containers is None else containers(image.id),
            )
            for image in chosen
        ]
        for shape, image in zip(found, chosen, strict=True) if manifests else ():
            shape["Manifests"] = self.manifests(str(image.references[0]) if image.references else image.id)
        return found

    def manifests(self, name: str) -> Shapes:
        """The `Manifests` of a name: one for each platform's image."""
        return [shapes.manifest_shape(image) for image in self.members(name)]

    def _select(self, filters: Filters, all_images: bool) -> ImageList:
        filtering.check_names(filters, filtering.LIST_FILTERS)
        images = self.list()
        before = [self.get(name).created for name in filtering.values(filters, "before")]
        before += [parse_until(value) for value in filtering.values(filters, "until")]
        since = [self.get(name).created for name in filtering.values(filters, "since")]
        parents = set() if all_images else {image.parent for image in images}
        wants_dangling = filtering.flag(filters, "dangling", False)
        patterns = filtering.values(filters, "reference")
        chosen = []
        for image in images:
            if any(image.created >= limit for limit in before) or any(image.created <= limit for limit in since):
                continue
            if not filtering.labels_match(filters, image.labels):
                continue
            if not image.references and not image.repo_digests and image.id in parents:
                continue
            if image.held and not image.references and (not all_images or wants_dangling):
                continue
            if "dangling" in filters and wants_dangling == bool(image.references):
                continue
            shown = filtering.only_references(image, patterns) if patterns else image
            if shown is not None:
                chosen.append(shown)
        return chosen

    # Content

    def lacks(self, image: Image) -> bool:
        """Whether there are layers of the image that are still where they come from (or not unpacked from there)."""
        record = self.table.record(image.id)
        layers = image.layers if record is None else record.layers
        return any(layer.snapshot is None and layer.sources for layer in layers)

    async def bring(self, image: Image) -> Image:
        """See that all layers are here, for whoever needs the image's files. Raises what fetching them raises."""
        if self.bringer is None or not await offload(self.lacks, image):
            return image
        await self.bringer(image)
        return await offload(self.get, image.id)

    def snapshots(self, image: Image) -> SnapshotIds:
        """The image's layers as snapshots, bottom first; unpacks what is not unpacked yet."""
        return snapshots_of(self.store, self.table, image)

    def pins(self, without: Collection[Digest] = ()) -> Pins:
        """What gc must keep for the images' sake, but for that of some of them."""
        blobs: set[Digest] = set()
        snapshots: set[SnapshotId] = set()
        for record in self.table.records():
            if record.id in without:
                continue
            blobs |= {record.id, record.manifest.digest}
            blobs.update(layer.blob.digest for layer in record.layers if layer.blob is not None)
            snapshots.update(layer.snapshot for layer in record.layers if layer.snapshot is not None)
        blobs |= manifests_in(self.store.blobs, [group for _, group in self.table.groups()])
        blobs.update(self.attestations.blobs({record.id for record in self.table.records()}))
        return Pins(blobs=blobs, snapshots=snapshots)

    def check(self, *, repair: bool = False) -> Problems:
        """Images that lack something (after Store.check, which looks at the bytes). `repair` forgets them."""
        problems = []
        for record, fault in self.table.faults():
            names = ", ".join(reference.familiar for reference in sorted(record.references, key=str))
            if repair:
                self.table.remove(record)
            problems.append(Problem("image", record.id, f"image {names or record.id}: {fault}", repaired=repair))
        return problems

    def chosen(self, names: Sequence[str], platform: Platform | None = None) -> ImageList:
        """The images that `save` would write. Raises NotFound, InvalidInput."""
        return [image for item in saving.choose(self, names, platform) for image in item.members]

    def save(self, names: Sequence[str], out: Callable[[bytes], None], platform: Platform | None = None) -> None:
        """Write an archive of these images that docker load, skopeo, umoci and podman read; of an index all
        images, or the one for the platform. Raises NotFound first.
        """
        saving.save(self, names, out, platform)

    def export(
        self,
        members: Sequence[Image],
        names: Sequence[Reference],
        out: Callable[[bytes], None],
        compression: Compression,
        *,
        docker: bool,
        notes: IndexNotes = NO_NOTES,
        docker_types: bool = False,
    ) -> None:
        """Write an archive of one image, or of the index of several, under these names: an OCI layout, with `docker`
        Docker's form in it too, with `docker_types` Docker's media types.
        """
        saving.export(self, members, names, out, compression, docker=docker, notes=notes, docker_types=docker_types)

    def load(
        self, stream: BinaryIO, *, platform: Platform | None = None, quiet: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Read an archive (docker-archive or OCI layout, plain or compressed); yields Docker's progress objects.

        Raises InvalidInput or Corrupt, and then nothing of the archive has become an image. Close the iterator to
        abandon the load.
        """
        return loading.load(self, stream, platform=platform, quiet=quiet)

    def import_tar(
        self,
        stream: BinaryIO,
        *,
        reference: Reference | None = None,
        changes: Sequence[str] = (),
        message: str = "",
        platform: Platform | None = None,
    ) -> Image:
        """Make a one-layer image of a root file system's tar (plain or compressed). Raises InvalidInput, Corrupt."""
        return importing.import_tar(
            self, stream, reference=reference, changes=changes, message=message, platform=platform
        )

    def notify(self, action: str, image: Image, name: str = "", attributes: Mapping[str, str] | None = None) -> None:
        """Tell the event hook."""
        if self.events is not None:
            self.events(action, image.id, {**image.labels, "name": name or image.id, **(attributes or {})})
