"""In which form each layer of an image goes out: the compressed blob there is, or one that is made now.

A layer whose image names a compressed blob goes out as that blob. Layers that were built here exist only unpacked:
their tar is made again (the same bytes as when its diff_id was computed), compressed (with gzip, or what is asked
for), kept as a blob and remembered as a form of that diff_id, so that the next push and every other image on top of
it find it. In which forms other pushes left a layer decides nothing. The image's id is its config's digest and knows
nothing of compression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from buildtool.cache import Lease, Store
from buildtool.images import Image, LayerSource
from buildtool.images.forms import GZIP, Compression, forms_of, make_form
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


def stored_manifest(
    store: Store, image: Image, lease: Lease, wanted: Compression
) -> tuple[bytes, list[Outgoing], Descriptor] | None:
    """The manifest the image came with, its layers and its config, when all it names is here or can be had.

    None for images that were made here, whose manifest names uncompressed layers, and when it is not in the
    compression that is forced. A layer that is here in another form may be had from where the image was pulled.
    """
    if not store.blobs.has(image.manifest.digest):
        return None
    data = store.blobs.read(image.manifest.digest)
    manifest = decode_manifest(data)
    forms = [media_types.compression_of(layer.media_type) for layer in manifest.layers]
    if not all(forms) and _is_ours(data, manifest):
        return None
    if manifest.config.digest != image.id or len(manifest.layers) != len(image.layers):
        return None
    origins = tuple(f"registry://{reference.repository}" for reference in image.repo_digests)
    layers = []
    for layer, form, source in zip(manifest.layers, forms, image.layers, strict=True):
        if wanted.force and not is_foreign(layer) and form != wanted.name:
            return None
        lease.blob(layer.digest)
        if not store.blobs.has(layer.digest) and not _elsewhere(source, layer):
            if not origins or not form:
                return None
            source = replace(source, blob=layer, sources=origins)
        layers.append(Outgoing(source, layer))
    return data, layers, manifest.config


def _is_ours(data: bytes, manifest: Manifest) -> bool:
    """Whether these are the bytes of a manifest that was made here (see `manifest_of`)."""
    made = Manifest(2, media_types.MANIFEST, manifest.config, manifest.layers, annotations=manifest.annotations)
    return data == encode(made)


def form_of(
    store: Store,
    source: LayerSource,
    lease: Lease,
    wanted: Compression,
    named: Descriptor | None = None,
    *,
    far: bool = True,
) -> Outgoing:
    """The layer with the compressed blob it goes out as, if there is that already; `named` by its image's manifest.

    `far`: a blob that has to be fetched is there, too.
    """
    if source.blob is not None and is_foreign(source.blob):
        return Outgoing(source, source.blob)
    for blob in forms_of(store, source, wanted, named):
        lease.blob(blob.digest)
        if store.blobs.has(blob.digest) or (far and _elsewhere(source, blob)):
            return Outgoing(source, Descriptor(blob.media_type, blob.digest, blob.size, urls=blob.urls))
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
        wanted: Compression = GZIP,
    ) -> None:
        self._wanted = wanted
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
