"""`import`: the tar of a root file system becomes an image of one layer.

The layer is the store's own deterministic tar of what was unpacked, and the image's time is that of its newest file:
the same root file system gives the same image on any day.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from buildtool.cache.compression import decompress
from buildtool.cache.store import Store
from buildtool.errors import InvalidInput
from buildtool.images.archive import ChunkReader
from buildtool.images.model import Image, LayerSource, check_tag
from buildtool.images.times import EARLIEST, format_time
from buildtool.oci import (
    ContainerConfig,
    Descriptor,
    History,
    ImageConfig,
    Platform,
    Reference,
    RootFS,
    encode,
    host_platform,
    media_types,
)

if TYPE_CHECKING:
    from buildtool.images.service import Images


def import_tar(
    images: Images,
    stream: BinaryIO,
    *,
    reference: Reference | None = None,
    changes: Sequence[str] = (),
    message: str = "",
    platform: Platform | None = None,
) -> Image:
    """See Images.import_tar. What can be refused without the stream is refused before it is read."""
    references = [] if reference is None else [check_tag(reference)]
    config = _changed(changes)
    platform = platform or host_platform()
    with images.store.leases.hold("import"):
        layer, created = _layer(images.store, stream)
        images.store.snapshots.sync()
        document = ImageConfig(
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            rootfs=RootFS("layers", [layer.diff_id]),
            config=config,
            created=format_time(created),
            history=[History(created=format_time(created), comment=message or "Imported from -")],
        )
        image = images.add(encode(document), [layer], references=references, durable=True)
    images.notify("import", image, references[0].familiar if references else "")
    return image


def _changed(changes: Sequence[str]) -> ContainerConfig:
    if not any(change.strip() for change in changes):
        return ContainerConfig()
    from buildtool.images.changes import apply_changes  # the Buildfile parser: only when there is something to parse

    return apply_changes(ContainerConfig(), changes)


def _layer(store: Store, stream: BinaryIO) -> tuple[LayerSource, int]:
    """The layer, and the time of its newest file."""
    chunks = _nonempty(decompress(stream, "auto"))
    if store.squash_ids:
        return _kept_layer(store, chunks)
    snapshot = store.layers.unpack(cast(BinaryIO, ChunkReader(chunks)), compression="")
    epoch = _newest(store.snapshots.fs(snapshot))
    diff_id, size = store.layers.diff_id(snapshot, epoch)
    return LayerSource(diff_id, size, snapshot, epoch=epoch), epoch


def _kept_layer(store: Store, chunks: Iterator[bytes]) -> tuple[LayerSource, int]:
    """Where files cannot have their owners, the tar itself is kept: only there are they written down."""
    with store.blobs.ingest() as ingest:
        for chunk in chunks:
            ingest.write(chunk)
        diff_id = ingest.digest()
        with ingest.path.open("rb") as file:
            snapshot = store.layers.unpack(file, compression="", expected_diff_id=diff_id)
        blob = Descriptor(media_types.LAYER, diff_id, ingest.written)
        ingest.commit()
    store.layers.remember_blob(diff_id, blob)
    return LayerSource(diff_id, blob.size, snapshot, blob), _newest(store.snapshots.fs(snapshot))


def _nonempty(chunks: Iterator[bytes]) -> Iterator[bytes]:
    first = next(chunks, b"")
    if not first:
        raise InvalidInput("the archive is empty", hint="import reads the tar of a root file system")
    yield first
    yield from chunks


def _newest(root: Path) -> int:
    """The newest time of a file or link in the tree, no later than now; directories may have been made just now."""
    newest = EARLIEST
    pending = [os.fspath(root)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(entry.path)
                else:
                    newest = max(newest, int(status.st_mtime))
    return min(newest, int(time.time()))
