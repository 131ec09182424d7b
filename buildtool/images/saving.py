"""Images out: one tar that is a docker-archive and an OCI image layout at once.

Documents come first, layers last, so that a reader need not seek. Nothing is written before all names are known to
exist, and every layer is hashed while it is written: an archive that ended well has the bytes it promises.
Source: OCI image-spec v1.1, image-layout.md; the save format of Docker 25 and later.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from buildtool.cache.compression import decompress
from buildtool.cache.leases import Lease
from buildtool.cache.store import Store
from buildtool.errors import Corrupt, InvalidInput
from buildtool.images.attached import attach
from buildtool.images.attestations import Attestations
from buildtool.images.forms import Compression, find_form, make_form, named_forms
from buildtool.images.groups import NO_NOTES, IndexNotes, index_of
from buildtool.images.model import Image, LayerSource, manifest_of
from buildtool.images.table import IMAGE_NAME, REFERENCE_NAME
from buildtool.oci import (
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    Reference,
    best_platform,
    decode_index,
    decode_manifest,
    docker_manifest,
    encode,
    hex_of,
    host_platform,
    is_digest,
    media_types,
    parse_reference,
    sha256,
)

if TYPE_CHECKING:
    from buildtool.images.service import Images

CHUNK = 1 << 20
Output = Callable[[bytes], None]


@dataclass
class Chosen:
    """An image to write, or the index of `others` and it, with the names it is to have."""

    image: Image
    names: list[Reference] = field(default_factory=list)
    others: list[Image] = field(default_factory=list)
    notes: IndexNotes = NO_NOTES

    @property
    def members(self) -> list[Image]:
        """The images, in the order of the index."""
        return [self.image, *self.others]


@dataclass(frozen=True)
class _Layer:
    """A layer as it will stand in the archive. `plain`: the blob is decompressed while it is written."""

    descriptor: Descriptor
    source: LayerSource
    plain: bool = False


def save(images: Images, names: Sequence[str], out: Output, platform: Platform | None = None) -> None:
    """See Images.save."""
    with images.store.leases.hold("save") as lease:
        chosen = choose(images, names, platform)
        for image in (image for item in chosen for image in item.members):
            _lease(lease, image)
        _write(images.store, chosen, out, lambda layer, _: _plan(images.store, layer))
    for item in chosen:
        images.notify("save", item.image)


def export(
    images: Images,
    members: Sequence[Image],
    names: Sequence[Reference],
    out: Output,
    compression: Compression,
    *,
    docker: bool,
    notes: IndexNotes = NO_NOTES,
    docker_types: bool = False,
) -> None:
    """Write one image, or several as an index, under these names, which it need not have here; layers without a
    compressed form get one.

    With `docker` the archive is Docker's as well as an OCI layout, else only that; with `docker_types` its manifests
    have Docker's media types, and nothing is stated. Raises Corrupt, StoreFull.
    """
    store = images.store
    with store.leases.hold("export") as lease:
        for image in members:
            _lease(lease, image)

        def form(layer: LayerSource, named: Descriptor | None) -> _Layer:
            if not compression.name and layer.blob is not None and store.blobs.has(layer.blob.digest):
                return _Layer(Descriptor(media_types.LAYER, layer.diff_id, layer.size), layer, plain=True)
            if not compression.name:
                return _plan(store, layer)
            blob = find_form(store, layer, compression, lease, named) or make_form(store, layer, compression, lease)
            return _Layer(blob, replace(layer, blob=blob))

        chosen = [Chosen(members[0], list(names), list(members[1:]), notes)]
        _write(store, chosen, out, form, docker=docker, docker_types=docker_types)


def choose(images: Images, names: Sequence[str], platform: Platform | None = None) -> list[Chosen]:
    """The images named, each once. `name:tag` brings that name, `name` every tag of the repository, an id none.

    A name that means an index brings all its images, or the one for the platform.
    """
    if not names:
        raise InvalidInput("no image was named", hint="save needs one name or id at least")
    chosen: dict[Digest, Chosen] = {}
    for name in names:
        for image, references in _named(images, name):
            for each in [str(reference) for reference in references] or [name]:
                key, item = _chosen(images, image, each, platform)
                chosen.setdefault(key, item)
            for reference in references:
                item = chosen[_chosen(images, image, str(reference), platform)[0]]
                item.names.extend({reference} - {*item.names})
    return list(chosen.values())


def _chosen(images: Images, image: Image, name: str, platform: Platform | None) -> tuple[Digest, Chosen]:
    """What a name means, by the digest of its index or the id of its image."""
    if platform is not None:
        image = images.get(name, platform)
        return image.id, Chosen(image)
    group = images.group(name)
    if group is None:
        return image.id, Chosen(image)
    first, *others = images.members(name)
    return group.digest, Chosen(first, others=others, notes=group.notes)


def _named(images: Images, name: str) -> Iterator[tuple[Image, list[Reference]]]:
    if not is_digest(name) and not is_digest(f"sha256:{name}"):
        wanted = parse_reference(name)
        if not wanted.tag and not wanted.digest:
            all_tags = [
                (image, [ref for ref in image.references if ref.repository == wanted.repository])
                for image in images.list()
            ]
            found = [(image, references) for image, references in all_tags if references]
            if found:
                yield from found
                return
        image = images.get(name)
        yield image, [reference for reference in image.references if reference == wanted]
        return
    yield images.get(name), []


def _lease(lease: Lease, image: Image) -> None:
    lease.blob(image.id)
    lease.blob(image.manifest.digest)
    for layer in image.layers:
        if layer.blob is not None:
            lease.blob(layer.blob.digest)
        if layer.snapshot is not None:
            lease.snapshot(layer.snapshot)


def _write(
    store: Store,
    chosen: list[Chosen],
    out: Output,
    form: Callable[[LayerSource, Descriptor | None], _Layer],
    *,
    docker: bool = True,
    docker_types: bool = False,
) -> None:
    attestations = Attestations(store)
    documents: dict[str, bytes] = {}
    layers: dict[Digest, _Layer] = {}
    table: list[dict[str, object]] = []
    descriptors: list[Descriptor] = []
    shared_tags = _tags_of_several(chosen)
    for item in chosen:
        entries: list[tuple[Digest, Descriptor]] = []
        stated: list[Descriptor] = []
        shown = _shown(item)
        for image in item.members:
            planned = [form(*pair) for pair in zip(image.layers, named_forms(store, image), strict=True)]
            layers.update((layer.descriptor.digest, layer) for layer in planned)
            config = store.blobs.read(image.id)
            manifest = _manifest(store, image, planned, len(config))
            manifest = docker_manifest(manifest) if docker_types else manifest
            documents[_blob_name(image.id)] = config
            documents[_blob_name(sha256(manifest))] = manifest
            if image is shown:
                table.append(
                    {
                        "Config": _blob_name(image.id),
                        "RepoTags": [name.familiar for name in item.names] or None,
                        "Layers": [_blob_name(layer.descriptor.digest) for layer in planned],
                    }
                )
            descriptor = _descriptor(image, manifest)
            entries.append((image.id, descriptor))
            attached = None if docker_types else attach(attestations, image, descriptor, item.names)
            if attached is not None:
                documents |= {_blob_name(digest): data for digest, data in attached.documents.items()}
                stated.append(attached.descriptor)
        if stated or len(entries) > 1:
            index = index_of(entries, item.notes, stated, docker=docker_types)
            documents[_blob_name(sha256(index))] = index
            descriptor = Descriptor(decode_index(index).media_type, sha256(index), len(index))
        descriptors.extend(_named_descriptors(item, descriptor, shared_tags))
    writer = TarWriter(out)
    writer.file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    writer.file("index.json", encode(Index(2, media_types.INDEX, descriptors)))
    if docker:
        writer.file("manifest.json", msgspec.json.encode(table))
    writer.directory("blobs")
    writer.directory("blobs/sha256")
    for name, data in documents.items():
        writer.file(name, data)
    for layer in layers.values():
        writer.stream(_blob_name(layer.descriptor.digest), layer.descriptor.size, _content(store, layer))
    writer.end()


def _shown(item: Chosen) -> Image:
    """The image that readers of Docker's own form get: they know one platform a name."""
    return item.members[best_platform(host_platform(), [image.config.platform for image in item.members]) or 0]


def _tags_of_several(chosen: list[Chosen]) -> set[str]:
    """Tags that names of different images share; alone they would not say which image is meant."""
    owners: dict[str, set[Digest]] = {}
    for item in chosen:
        for name in item.names:
            owners.setdefault(name.tag, set()).add(item.image.id)
    return {tag for tag, ids in owners.items() if len(ids) > 1}


def _descriptor(image: Image, manifest: bytes) -> Descriptor:
    media_type = decode_manifest(manifest).media_type
    return Descriptor(media_type, sha256(manifest), len(manifest), platform=image.config.platform)


def _named_descriptors(item: Chosen, plain: Descriptor, shared_tags: set[str]) -> Iterator[Descriptor]:
    for name in item.names:
        label = name.familiar if name.tag in shared_tags else name.tag
        own = {IMAGE_NAME: str(name), REFERENCE_NAME: label}
        yield msgspec.structs.replace(plain, annotations={**item.notes.descriptor, **own})
    if not item.names:
        yield msgspec.structs.replace(plain, annotations=item.notes.descriptor or None)


def _plan(store: Store, layer: LayerSource) -> _Layer:
    """A gzip or plain blob goes out as it is; zstd, which older Dockers cannot read, and snapshots as plain tars."""
    if layer.blob is not None and store.blobs.has(layer.blob.digest):
        media_type = media_types.to_oci(layer.blob.media_type)
        if media_types.compression_of(media_type) != "zstd":
            return _Layer(Descriptor(media_type, layer.blob.digest, layer.blob.size), layer)
        return _Layer(Descriptor(media_types.LAYER, layer.diff_id, layer.size), layer, plain=True)
    if layer.snapshot is None:
        raise Corrupt(
            f"layer {layer.diff_id} is neither unpacked nor among the blobs",
            hint="remove the image and pull, load or build it again",
        )
    digest, size = store.layers.diff_id(layer.snapshot, layer.epoch)
    if digest != layer.diff_id:
        raise Corrupt(f"layer {layer.diff_id}: its snapshot {layer.snapshot} now makes {digest}")
    return _Layer(Descriptor(media_types.LAYER, digest, size), layer)


def _manifest(store: Store, image: Image, layers: list[_Layer], config_size: int) -> bytes:
    """The manifest the image has, when it is OCI's and names exactly the layers that are written; else a new one."""
    stored = store.blobs.read(image.manifest.digest) if store.blobs.has(image.manifest.digest) else b""
    if stored:
        known = decode_manifest(stored)
        same = [layer.digest for layer in known.layers] == [layer.descriptor.digest for layer in layers]
        if same and known.media_type == media_types.MANIFEST and known.config.digest == image.id:
            return stored
    made = manifest_of(image.id, config_size, image.layers)
    names = decode_manifest(stored).annotations if stored else None
    return encode(
        Manifest(2, made.media_type, made.config, [layer.descriptor for layer in layers], annotations=names)
    )


def _content(store: Store, layer: _Layer) -> Iterator[bytes]:
    source, wanted = layer.source, layer.descriptor.digest
    hasher = hashlib.sha256()
    for chunk in _chunks(store, source, layer):
        hasher.update(chunk)
        yield chunk
    if hasher.hexdigest() != hex_of(wanted):
        raise Corrupt(
            f"layer {wanted} of the store is damaged: its bytes have the digest sha256:{hasher.hexdigest()}"
        )


def _chunks(store: Store, source: LayerSource, layer: _Layer) -> Iterable[bytes]:
    if source.blob is not None and store.blobs.has(source.blob.digest):
        with store.blobs.open(source.blob.digest) as file:
            yield from decompress(file) if layer.plain else iter(lambda: file.read(CHUNK), b"")
    elif source.snapshot is not None:
        yield from store.layers.tar(source.snapshot, source.epoch)


def _blob_name(digest: Digest) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


class TarWriter:
    """A tar, member by member. Owners are 0, times are 0: the same images give the same archive."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._written = 0

    def directory(self, name: str) -> None:
        self._header(name, 0, tarfile.DIRTYPE, 0o755)

    def file(self, name: str, data: bytes) -> None:
        self.stream(name, len(data), (data,))

    def stream(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        """Write a file of exactly `size` bytes. Raises Corrupt when the chunks are more or fewer."""
        self._header(name, size, tarfile.REGTYPE, 0o644)
        written = 0
        for chunk in chunks:
            written += len(chunk)
            if written > size:
                break
            self._put(chunk)
        if written != size:
            raise Corrupt(f"{name}: {written} bytes or more instead of {size}")
        self._put(b"\0" * (-size % tarfile.BLOCKSIZE))

    def end(self) -> None:
        self._put(b"\0" * (2 * tarfile.BLOCKSIZE))
        self._put(b"\0" * (-self._written % tarfile.RECORDSIZE))

    def _header(self, name: str, size: int, kind: bytes, mode: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.type, info.mode = size, kind, mode
        self._put(info.tobuf(tarfile.PAX_FORMAT))

    def _put(self, data: bytes) -> None:
        if data:
            self._out(data)
            self._written += len(data)
