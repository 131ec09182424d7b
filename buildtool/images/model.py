"""What an image is to the rest of buildtool: values, nothing of the store's behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from buildtool.cache.snapshots import SnapshotId
from buildtool.cache.store import Store
from buildtool.errors import InvalidInput
from buildtool.images.times import EARLIEST, parse_time
from buildtool.oci import (
    ContainerConfig,
    Descriptor,
    Digest,
    ImageConfig,
    Manifest,
    Reference,
    decode_manifest,
    media_types,
)


@dataclass(frozen=True, slots=True)
class LayerSource:
    """Where one layer's bytes are. At least one of `snapshot` and `blob` is there.

    `size` is the length of the uncompressed tar whose digest is `diff_id`. `blob` is its form in blobs/ (compressed
    or not). Without one the layer's bytes are re-made from the snapshot with its times clamped to `epoch`.

    A blob with `sources` need not be in the store: it is fetched from there when something needs it. They are URLs,
    best first: `registry://domain/path` is a repository; whoever fetches knows the others. Until such a layer was
    unpacked `size` is the blob's.
    """

    diff_id: Digest
    size: int
    snapshot: SnapshotId | None = None
    blob: Descriptor | None = None
    epoch: int | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image as it was when it was looked up; `id` is the digest of its config.

    `references` are its tags, `repo_digests` the `repository@digest` it was pulled as, both sorted. `created_locally`
    is when it was built, committed or imported here, 0.0 when it was made elsewhere. `parent` is the image it was
    committed from, where that is known. `held`: a name means an index that it is one image of.
    """

    id: Digest
    config: ImageConfig
    manifest: Descriptor
    layers: tuple[LayerSource, ...]
    references: list[Reference] = field(default_factory=list)
    repo_digests: list[Reference] = field(default_factory=list)
    created_locally: float = 0.0
    last_tagged: float = 0.0
    parent: Digest | None = None
    held: bool = False

    @property
    def diff_ids(self) -> list[Digest]:
        return list(self.config.rootfs.diff_ids)

    @property
    def size(self) -> int:
        """Bytes of all its layers, uncompressed."""
        return sum(layer.size for layer in self.layers)

    @property
    def created(self) -> float:
        """When it came to be, for listings: here, or as its config says (docs/images.md, "Times")."""
        return self.created_locally or parse_time(self.config.created) or float(EARLIEST)

    @property
    def container_config(self) -> ContainerConfig:
        """The defaults of its containers; empty when the config has none."""
        return self.config.config or ContainerConfig()

    @property
    def labels(self) -> dict[str, str]:
        return self.container_config.labels or {}


def manifest_of(image_id: Digest, config_size: int, layers: Sequence[LayerSource]) -> Manifest:
    """The OCI manifest of these layers; one without a blob stands in it uncompressed, under its diff_id."""
    return Manifest(
        2,
        media_types.MANIFEST,
        Descriptor(media_types.CONFIG, image_id, config_size),
        [layer.blob or Descriptor(media_types.LAYER, layer.diff_id, layer.size) for layer in layers],
    )


def annotations_of(store: Store, image: Image) -> dict[str, str] | None:
    """Those of the image's manifest; None when it has none."""
    if not store.blobs.has(image.manifest.digest):
        return None
    return decode_manifest(store.blobs.read(image.manifest.digest)).annotations


def check_tag(reference: Reference) -> Reference:
    """The reference to tag an image with, its default tag filled in. Raises InvalidInput with Docker's words."""
    if reference.digest:
        raise InvalidInput("refusing to create a tag with a digest reference")
    if reference.familiar_repository == "sha256":
        raise InvalidInput("refusing to create an ambiguous tag using digest algorithm as name")
    return reference.with_default_tag()
