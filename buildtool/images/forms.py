"""The compressed forms of a layer: found among the blobs, or made from its snapshot and remembered. Blocking."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from buildtool.cache import Lease, SnapshotId, Store, compress, decompress
from buildtool.cache.compression import read_ahead
from buildtool.errors import Corrupt, InvalidInput
from buildtool.images.model import Image, LayerSource
from buildtool.oci import Descriptor, Digest, decode_manifest, media_types

_LEVEL = "buildtool.level"
"""Annotates, in the store's own list of forms, one that was made at a level somebody asked for."""


@dataclass(frozen=True, slots=True)
class Compression:
    """How layers are to be compressed: `name` is gzip, zstd or "" (not at all); `level` as BuildKit counts it.

    Without `force` a layer that its image has compressed stays as it is. Source: reference/build.md, 1.8.
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


GZIP = Compression()


def named_forms(store: Store, image: Image) -> list[Descriptor | None]:
    """The compressed blob of each layer that the image's own manifest names; None where that is a plain tar.

    These belong to the image. In which other forms its layers are here is the doing of other builds and pushes.
    """
    if not store.blobs.has(image.manifest.digest):
        return [None] * len(image.layers)
    named = decode_manifest(store.blobs.read(image.manifest.digest)).layers
    if len(named) != len(image.layers):
        return [None] * len(image.layers)
    return [blob if media_types.compression_of(blob.media_type) else None for blob in named]


def forms_of(store: Store, source: LayerSource, wanted: Compression, named: Descriptor | None) -> list[Descriptor]:
    """The blobs in which a layer may go out, best first; not all of them need be here.

    Its image's own form, `named`, unless another compression is forced; else a form in the wanted compression that
    was made at the wanted level. A level that is not named means the usual one, or whatever a registry had.
    """
    own = "" if named is None else media_types.compression_of(named.media_type)
    if named is not None and own and wanted.name and (own == wanted.name or not wanted.force):
        return [named]
    known = [source.blob] if source.blob is not None else []
    known += store.layers.blobs_of(source.diff_id)
    level = None if wanted.level is None else str(wanted.level)
    return [
        blob
        for blob in known
        if media_types.compression_of(blob.media_type) == wanted.name
        and (not wanted.name or (blob.annotations or {}).get(_LEVEL) == level)
    ]


def find_form(
    store: Store, source: LayerSource, wanted: Compression, lease: Lease, named: Descriptor | None = None
) -> Descriptor | None:
    """The first of `forms_of` that is here."""
    for blob in forms_of(store, source, wanted, named):
        lease.blob(blob.digest)
        if store.blobs.has(blob.digest):
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
    return _compress(store, plain_layer(store, source), wanted, lease, report, source.diff_id)[0]


def new_layer(store: Store, snapshot: SnapshotId, epoch: int, wanted: Compression, lease: Lease) -> LayerSource:
    """The layer of a snapshot of which nothing is known: digested and compressed in one reading. Raises StoreFull.

    Where its digest is known already, nothing is compressed.
    """
    known = store.layers.known_diff_id(snapshot, epoch)
    if known is None:
        size = 0

        def count(done: int) -> None:
            nonlocal size
            size = done

        _, diff_id = _compress(store, store.layers.tar(snapshot, epoch), wanted, lease, count)
        store.layers.remember_diff_id(snapshot, epoch, diff_id, size)
        known = diff_id, size
    return LayerSource(*known, snapshot=snapshot, epoch=epoch)


def _compress(
    store: Store,
    tar: Iterator[bytes],
    wanted: Compression,
    lease: Lease,
    report: Callable[[int], None],
    expected: Digest | None = None,
) -> tuple[Descriptor, Digest]:
    """The blob, and the diff_id, which is the expected one."""
    hasher = hashlib.sha256()
    plain = read_ahead(_counted(tar, hasher, report))
    try:
        with store.blobs.ingest() as ingest:
            for chunk in compress(plain, wanted.name, wanted.level):
                ingest.write(chunk)
            diff_id = Digest(f"sha256:{hasher.hexdigest()}")
            if expected not in (None, diff_id):
                raise Corrupt(
                    f"layer {expected} of the store is damaged: its bytes have the digest {diff_id}",
                    hint="build, pull or load the image again",
                )
            lease.blob(ingest.digest())
            digest, size = ingest.commit(), ingest.written
    finally:
        plain.close()
    media_type = media_types.layer_type(wanted.name)
    level = None if wanted.level is None else {_LEVEL: str(wanted.level)}
    store.layers.remember_blob(diff_id, Descriptor(media_type, digest, size, annotations=level))
    return Descriptor(media_type, digest, size), diff_id


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
