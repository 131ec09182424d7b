"""The compressed forms of a layer: found among the blobs, or made from its snapshot and remembered. Blocking."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from buildtool.cache import Lease, Store, compress, decompress
from buildtool.cache.compression import read_ahead
from buildtool.errors import Corrupt, InvalidInput
from buildtool.images.model import LayerSource
from buildtool.oci import Descriptor, media_types

_GZIP_LEVELS = (0, 1, 1, 1, 2, 2, 2, 3, 3, 3)
"""isal's level for each of zlib's."""


@dataclass(frozen=True, slots=True)
class Compression:
    """How layers are to be compressed: `name` is gzip, zstd or "" (not at all); `level` as BuildKit counts it.

    Without `force` a layer that is there in another form keeps it. Source: reference/build.md, 1.8.
    """

    name: str = "gzip"
    level: int | None = None
    force: bool = False

    @classmethod
    def read(cls, name: str = "", level: str = "", force: str = "") -> Compression:
        """From the values of `compression`, `compression-level` and `force-compression`. Raises InvalidInput."""
        if name not in ("", "gzip", "zstd", "uncompressed"):
            raise InvalidInput(f"unsupported compression {name!r}", hint="There are gzip, zstd and uncompressed.")
        most = {"zstd": 22, "uncompressed": 0}.get(name, 9)
        if level and (not level.isdecimal() or int(level) > most):
            raise InvalidInput(
                f"invalid compression level {level!r}", hint=f"{name or 'gzip'} has levels 0 to {most}."
            )
        if force.lower() not in ("", "true", "false", "1", "0"):
            raise InvalidInput(f"force-compression is true or false, not {force!r}")
        own = {"": "gzip", "uncompressed": ""}.get(name, name)
        return cls(own, int(level) if level else None, force.lower() in ("true", "1"))

    @property
    def own_level(self) -> int | None:
        """The level as `compress` counts it."""
        if self.level is None or self.name != "gzip":
            return self.level
        return _GZIP_LEVELS[self.level]


GZIP = Compression()


def find_form(store: Store, source: LayerSource, wanted: Compression, lease: Lease) -> Descriptor | None:
    """The blob of the layer that does: in the wanted form, or in any that is compressed unless that is forced."""
    candidates = [source.blob] if source.blob is not None else []
    candidates += store.layers.blobs_of(source.diff_id)
    for blob in sorted(candidates, key=lambda one: media_types.compression_of(one.media_type) != wanted.name):
        lease.blob(blob.digest)
        form = media_types.compression_of(blob.media_type)
        fits = form == wanted.name or (bool(form) and bool(wanted.name) and not wanted.force)
        if fits and store.blobs.has(blob.digest):
            return Descriptor(media_types.to_oci(blob.media_type), blob.digest, blob.size)
    return None


def make_form(
    store: Store,
    source: LayerSource,
    wanted: Compression,
    lease: Lease,
    report: Callable[[int], None] = lambda done: None,
) -> Descriptor:
    """Compress the layer into a blob, which is remembered as a form of it; `report` may raise to stop it.

    Raises Corrupt when what is here does not have the diff_id any more, StoreFull.
    """
    hasher = hashlib.sha256()
    plain = read_ahead(_counted(plain_layer(store, source), hasher, report))
    try:
        with store.blobs.ingest() as ingest:
            for chunk in compress(plain, wanted.name, wanted.own_level):
                ingest.write(chunk)
            if f"sha256:{hasher.hexdigest()}" != source.diff_id:
                raise Corrupt(
                    f"layer {source.diff_id} of the store is damaged: its bytes have the digest "
                    f"sha256:{hasher.hexdigest()}",
                    hint="build, pull or load the image again",
                )
            lease.blob(ingest.digest())
            digest, size = ingest.commit(), ingest.written
    finally:
        plain.close()
    blob = Descriptor(media_types.layer_type(wanted.name), digest, size)
    store.layers.remember_blob(source.diff_id, blob)
    return blob


def plain_layer(store: Store, source: LayerSource) -> Iterator[bytes]:
    """The layer's tar. Raises Corrupt when nothing of it is here."""
    if source.blob is not None and store.blobs.has(source.blob.digest):
        with store.blobs.open(source.blob.digest) as file:
            yield from decompress(file)
    elif source.snapshot is not None:
        yield from store.layers.tar(source.snapshot, source.epoch)
    else:
        raise Corrupt(
            f"layer {source.diff_id} is neither unpacked nor among the blobs",
            hint="remove the image and pull, load or build it again",
        )


def _counted(chunks: Iterator[bytes], hasher: hashlib._Hash, report: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        hasher.update(chunk)
        done += len(chunk)
        report(done)
        yield chunk
