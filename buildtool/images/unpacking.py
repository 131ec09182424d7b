"""From an image to the snapshots of its layers, unpacking what is not unpacked yet."""

from __future__ import annotations

from buildtool.cache.snapshots import SnapshotId
from buildtool.cache.store import Store
from buildtool.errors import Corrupt
from buildtool.images.model import Image, LayerSource
from buildtool.images.table import ImageTable
from buildtool.oci import media_types


def snapshots_of(store: Store, table: ImageTable, image: Image) -> list[SnapshotId]:
    """The snapshots of the image's layers, bottom first. Raises Corrupt when a layer is nowhere."""
    record = table.record(image.id)
    layers = image.layers if record is None else record.layers
    known = [layer.snapshot for layer in layers if layer.snapshot is not None]
    if len(known) == len(layers):
        return known
    snapshots: list[SnapshotId] = []
    with store.leases.hold(f"unpack {image.id}") as lease:
        for layer in layers:
            snapshot = _unpack(store, layer, snapshots) if layer.snapshot is None else layer.snapshot
            lease.snapshot(snapshot)
            snapshots.append(snapshot)
        table.unpacked(image.id, snapshots)
    return snapshots


def _unpack(store: Store, layer: LayerSource, parents: list[SnapshotId]) -> SnapshotId:
    if layer.blob is None or not store.blobs.has(layer.blob.digest):
        raise Corrupt(
            f"layer {layer.diff_id} is neither unpacked nor among the blobs",
            hint="remove the image and pull, load or build it again",
        )
    return store.layers.unpack(
        layer.blob.digest,
        compression=media_types.compression_of(layer.blob.media_type),
        parents=parents,
        expected_diff_id=layer.diff_id,
    )
