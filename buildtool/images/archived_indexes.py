"""Indexes in an archive: names that mean several images, one for each platform.

Source: OCI image-spec v1.1, image-index.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from buildtool.images.archive import Archive
from buildtool.images.groups import IndexNotes
from buildtool.images.layouts import (
    FoundImage,
    blob_in,
    blob_name,
    by_name,
    does_not_provide,
    images_in,
    is_attestation,
    merged,
    oci_image,
    reference_of,
)
from buildtool.images.table import IMAGE_NAME, REFERENCE_NAME
from buildtool.oci import (
    Descriptor,
    Digest,
    Index,
    Platform,
    Reference,
    best_platform,
    decode_index,
    decode_manifest,
    media_types,
    sha256,
)


@dataclass(frozen=True)
class FoundIndex:
    """A name that means an index of the archive, and those of its images that are there whole."""

    name: Reference
    members: list[FoundImage]
    notes: IndexNotes


@dataclass(frozen=True)
class Found:
    """What an archive holds: all images, and the names that mean several of them."""

    images: list[FoundImage]
    indexes: list[FoundIndex]


def contents_of(archive: Archive, platform: Platform | None = None) -> Found:
    """The images to load: of an index all that are there whole, or the one for `platform`.

    Raises InvalidInput or Corrupt, naming what is missing or wrong.
    """
    index = archive.document("index.json")
    if index is None or (platform is not None and archive.document("manifest.json") is None):
        return Found(images_in(archive, platform), [])
    indexes = list(_indexes(archive, decode_index(index)))
    if not indexes:
        return Found(images_in(archive, platform), [])
    taken = {str(each.name) for each in indexes}
    others = [
        replace(image, names=[name for name in image.names if str(name) not in taken])
        for image in images_in(archive, but=taken)
    ]
    members = {image.config_bytes for each in indexes for image in each.members}
    others = [image for image in others if image.names or image.config_bytes not in members]
    if platform is not None:
        return Found(list(merged([*others, *(_of_platform(each, platform) for each in indexes)])), [])
    return Found(list(merged([*others, *(image for each in indexes for image in each.members)])), indexes)


def _indexes(archive: Archive, index: Index) -> Iterator[FoundIndex]:
    """The names that mean two images at least which are there whole."""
    for name, descriptors in by_name(index.manifests):
        reference = reference_of(name)
        leaves = list(_leaves(archive, descriptors, set())) if reference is not None else []
        if reference is None or len(leaves) < 2:
            continue
        images = [(entry, _whole_image(archive, entry)) for entry in leaves]
        there = {image.config_bytes: (entry, image) for entry, image in images if image is not None}
        if len(there) > 1:
            yield FoundIndex(reference, [image for _, image in there.values()], _notes(archive, descriptors, there))


def _leaves(archive: Archive, descriptors: Iterable[Descriptor], seen: set[Digest]) -> Iterator[Descriptor]:
    """The image manifests below these, each once; statements about them are none."""
    for descriptor in descriptors:
        if is_attestation(descriptor) or descriptor.digest in seen:
            continue
        seen.add(descriptor.digest)
        if descriptor.media_type not in media_types.INDEXES:
            yield descriptor
        elif archive.find(blob_name(descriptor.digest)) is not None:
            nested = decode_index(blob_in(archive, descriptor, "index").document())
            yield from _leaves(archive, nested.manifests, seen)


def _whole_image(archive: Archive, descriptor: Descriptor) -> FoundImage | None:
    """The image of a manifest; None when something of it is not there, or it is none."""
    if archive.find(blob_name(descriptor.digest)) is None:
        return None
    data = blob_in(archive, descriptor, "manifest").document()
    manifest = decode_manifest(data)
    needed = [manifest.config, *manifest.layers]
    if manifest.config.media_type not in media_types.CONFIGS:
        return None
    if any(archive.find(blob_name(each.digest)) is None for each in needed):
        return None
    return oci_image(archive, data, manifest, [])


def _notes(
    archive: Archive, descriptors: list[Descriptor], there: Mapping[bytes, tuple[Descriptor, FoundImage]]
) -> IndexNotes:
    """The annotations of the index, and those beside its digest and those of its images."""
    top = descriptors[0]
    own = {key: value for key, value in (top.annotations or {}).items() if key not in (IMAGE_NAME, REFERENCE_NAME)}
    entries: dict[str, dict[str, str]] = {
        sha256(config): entry.annotations for config, (entry, _) in there.items() if entry.annotations
    }
    if len(descriptors) > 1 or top.media_type not in media_types.INDEXES:  # a name given to several images
        return IndexNotes()
    index = decode_index(blob_in(archive, top, "index").document())
    return IndexNotes(index=index.annotations or {}, descriptor=own, entries=entries)


def _of_platform(found: FoundIndex, platform: Platform) -> FoundImage:
    offered = [image.config.platform for image in found.members]
    place = best_platform(platform, offered)
    if place is None:
        raise does_not_provide(found.name.familiar, platform, offered)
    return replace(found.members[place], names=[found.name])
