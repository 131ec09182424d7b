"""Images for several platforms under one name: the index that the name means, and what it is made of.

Source: OCI image-spec v1.1, image-index.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from buildtool.cache.blobs import BlobStore
from buildtool.oci import Descriptor, Digest, Index, decode_index, encode, media_types


class IndexNotes(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Annotations of an index, of its own descriptor (in layouts), and of the descriptors in it by image id."""

    index: dict[str, str] = {}
    descriptor: dict[str, str] = {}
    entries: dict[str, dict[str, str]] = {}


NO_NOTES = IndexNotes()


class Group(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a name that means an index stands for: the index's digest and size, and its images by id, in its order.

    The index names the images' manifests as they are in the store; a push or an archive that gives layers another
    form makes its own.
    """

    digest: Digest
    size: int
    images: tuple[Digest, ...]
    notes: IndexNotes = NO_NOTES

    @property
    def descriptor(self) -> Descriptor:
        """The index's."""
        return Descriptor(media_types.INDEX, self.digest, self.size, annotations=self.notes.descriptor or None)


def index_of(
    entries: Sequence[tuple[Digest, Descriptor]],
    notes: IndexNotes,
    attestations: Sequence[Descriptor] = (),
    *,
    docker: bool = False,
) -> bytes:
    """An index of image manifests (each with its image's id), then of what is stated about them; with `docker` the
    manifest list that Docker has for it.
    """
    named = [
        msgspec.structs.replace(descriptor, annotations=notes.entries.get(image) or None)
        for image, descriptor in entries
    ]
    kind = media_types.DOCKER_LIST if docker else media_types.INDEX
    return encode(Index(2, kind, [*named, *attestations], annotations=notes.index or None))


def manifests_in(blobs: BlobStore, groups: Iterable[Group]) -> set[Digest]:
    """The indexes and the manifests that they name."""
    found: set[Digest] = set()
    for group in groups:
        if blobs.has(group.digest):
            found.add(group.digest)
            found.update(entry.digest for entry in decode_index(blobs.read(group.digest)).manifests)
    return found
