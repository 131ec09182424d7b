"""In which form each layer of an image goes out: the compressed blob there is, or one that is made now.

Layers that were built here exist only unpacked: their tar is made again (the same bytes as when its diff_id was
computed), compressed (with gzip, or what is asked for), kept as a blob and remembered as a form of that diff_id, so
that the next push and every other image on top of it find it. The image's id is its config's digest and knows nothing
of compression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from buildtool.cache import Lease, Store
from buildtool.images import Image, LayerSource
from buildtool.images.forms import Compression, make_form
from buildtool.images.model import manifest_of
from buildtool.oci import Descriptor, Manifest, decode_manifest, encode, media_types


@dataclass(frozen=True)
class Outgoing:
    """A layer to push. `blob` is None until it is made."""

    source: LayerSource
    blob: Descriptor | None

    @property
    def foreign(self) -> bool:
        """A layer that only its own owner may distribute: it is named, not pushed."""
        return self.blob is not None and is_foreign(self.blob)


def is_foreign(blob: Descriptor) -> bool:
    """A layer that is had from its owner, not from registries."""
    return "foreign" in blob.media_type or "nondistributable" in blob.media_type


def stored_manifest(store: Store, image: Image, lease: Lease, compression: str = "") -> tuple[bytes, Manifest] | None:
    """The manifest the image came with, when all it names is here or can be had: it is pushed as it is.

    None for images that were made here, whose manifest names uncompressed layers, and when the layers are not all of
    the `compression` that is asked for.
    """
    if not store.blobs.has(image.manifest.digest):
        return None
    data = store.blobs.read(image.manifest.digest)
    manifest = decode_manifest(data)
    if data == encode(manifest_of(image.id, manifest.config.size, image.layers)) and any(
        not media_types.compression_of(layer.media_type) for layer in manifest.layers
    ):
        return None
    if manifest.config.digest != image.id or len(manifest.layers) != len(image.layers):
        return None
    for layer, source in zip(manifest.layers, image.layers, strict=True):
        if compression and not is_foreign(layer) and media_types.compression_of(layer.media_type) != compression:
            return None
        lease.blob(layer.digest)
        if not store.blobs.has(layer.digest) and not _elsewhere(source, layer):
            return None
    return data, manifest


def form_of(store: Store, source: LayerSource, lease: Lease, compression: str = "") -> Outgoing:
    """The compressed blob of the layer, if there is one; with `compression` only one of that kind."""
    candidates = [source.blob] if source.blob is not None else []
    candidates += store.layers.blobs_of(source.diff_id)
    if source.blob is not None and is_foreign(source.blob):
        return Outgoing(source, source.blob)
    for blob in sorted(candidates, key=lambda one: media_types.compression_of(one.media_type) != "gzip"):
        lease.blob(blob.digest)
        here = store.blobs.has(blob.digest) or _elsewhere(source, blob)
        found = media_types.compression_of(blob.media_type)
        if found and compression in ("", found) and here:
            return Outgoing(source, blob)
    return Outgoing(source, None)


def _elsewhere(source: LayerSource, blob: Descriptor) -> bool:
    """Whether the blob can be fetched."""
    return bool(source.sources) and source.blob is not None and source.blob.digest == blob.digest


class Making:
    """One layer's compressed form, made from its snapshot or another blob, and remembered. `run` blocks."""

    def __init__(
        self,
        store: Store,
        source: LayerSource,
        lease: Lease,
        report: Callable[[int], None],
        compression: str = "gzip",
    ) -> None:
        self._wanted = Compression(compression)
        self._store = store
        self._source = source
        self._lease = lease
        self._report = report
        self._stopped = False

    def stop(self) -> None:
        """Let `run` fail soon."""
        self._stopped = True

    def run(self) -> Descriptor:
        """Raises Corrupt when what is here does not have the diff_id any more, StoreFull."""
        return make_form(self._store, self._source, self._wanted, self._lease, self._on_progress)

    def _on_progress(self, done: int) -> None:
        if self._stopped:
            raise InterruptedError("the push was given up")
        self._report(done)


def new_manifest(
    image: Image, config_size: int, layers: list[Descriptor], annotations: dict[str, str] | None = None
) -> bytes:
    """The OCI manifest of these forms. Foreign layers keep their type and URLs."""
    made = manifest_of(image.id, config_size, ())
    forms = [_in_oci(layer) for layer in layers]
    return encode(Manifest(2, made.media_type, made.config, forms, annotations=annotations))


def _in_oci(layer: Descriptor) -> Descriptor:
    return Descriptor(media_types.to_oci(layer.media_type), layer.digest, layer.size, urls=layer.urls)
