"""The documents of a travelling cache (docs/cache.md, "Documents"). Pure; what is forged or damaged is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from buildtool.errors import Corrupt
from buildtool.graph import digest_of
from buildtool.oci import Descriptor, media_types
from buildtool.oci.digest import CheckedDigest
from buildtool.solve.keys import Preimage

RECORD = "application/vnd.buildtool.cache.record.v1+json"
BUNDLE = "application/vnd.buildtool.cache.bundle.v1+json"
_BUNDLE_RECORDS, _BUNDLE_BYTES = 1000, 3 << 20


class CacheRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a step: `blob` is its layer, whose tar has `diff_id` and `size`, with times not after `epoch`.

    `key` is the definition key, with its `preimage`; `content` the content key, where the step has one; `tree`, of a
    RUN, the key of equal steps on equal trees; `generations`, of a RUN --cache-ttl, that of the step in whatever
    generation; `below` the key of the step under it. `squash`: made where files can only belong to one user. The
    other fields are those of StepResult.
    """

    key: CheckedDigest
    diff_id: CheckedDigest
    size: int
    blob: Descriptor
    epoch: int
    content: str = ""
    tree: str = ""
    generations: str = ""
    below: str = ""
    seconds: float = 0.0
    cpu: float = 0.0
    made: float = 0.0
    squash: bool = False
    preimage: Preimage | None = None

    @property
    def names(self) -> list[str]:
        """All keys that it is found under."""
        found = dict.fromkeys((self.key, self.content, self.tree, self.generations))
        return [name for name in found if name]


class _Bundle(msgspec.Struct, frozen=True, omit_defaults=True):
    version: int
    records: list[CacheRecord]
    mounts: list[str] = []


class Bundle(NamedTuple):
    """What a bundle holds: records, what is wrong with those that were left out, ids of cache mounts."""

    records: list[CacheRecord]
    faults: list[str]
    mounts: list[str]


class InlineRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record inside the config of the image it is about; its layer is the one with this index."""

    key: CheckedDigest
    layer: int
    size: int
    content: str = ""
    tree: str = ""
    below: str = ""
    squash: bool = False
    epoch: int = 0


def decode_record(data: bytes, key: str) -> CacheRecord:
    """The record that was asked for by one of its keys. Raises Corrupt for another one."""
    record: CacheRecord = _decode(data, CacheRecord)
    if key not in record.names:
        raise Corrupt(f"it is a record of {record.key}")
    check_record(record)
    return record


def check_record(record: CacheRecord) -> None:
    """Raises Corrupt when it cannot be true."""
    if record.preimage is None or digest_of(record.preimage) != record.key:
        raise Corrupt(f"the ingredients of {record.key} have another digest")
    if not media_types.is_layer(record.blob.media_type):
        raise Corrupt(f"the layer of {record.key} is of type {record.blob.media_type}")


def encode_record(record: CacheRecord) -> bytes:
    """The record's bytes."""
    return msgspec.json.encode(record, order="deterministic")


def decode_bundle(data: bytes) -> Bundle:
    """Read a bundle. Raises Corrupt."""
    bundle = _decode(data, _Bundle)
    if bundle.version != 1:
        raise Corrupt(f"it is of version {bundle.version}, and only 1 is known")
    found, faults = [], []
    for record in bundle.records:
        try:
            check_record(record)
        except Corrupt as error:
            faults.append(error.message)
        else:
            found.append(record)
    return Bundle(found, faults, bundle.mounts)


def encode_bundle(records: Iterable[CacheRecord], mounts: Sequence[str] = ()) -> tuple[bytes, list[CacheRecord]]:
    """A bundle of the first of these records, one a key, as many as it can hold; and which these are."""
    kept: dict[str, CacheRecord] = {}
    size = 0
    for record in records:
        length = len(encode_record(record))
        if record.key in kept:
            continue
        if len(kept) >= _BUNDLE_RECORDS or size + length > _BUNDLE_BYTES:
            break
        kept[record.key] = record
        size += length
    chosen = list(kept.values())
    return msgspec.json.encode(_Bundle(1, chosen, sorted(mounts)), order="deterministic"), chosen


def encode_inline(records: Sequence[InlineRecord]) -> dict[str, Any]:
    """What stands in an image's config."""
    document: dict[str, Any] = {"version": 1, "records": msgspec.to_builtins(list(records))}
    return document


def decode_inline(config: bytes, layers: Sequence[Descriptor]) -> list[CacheRecord]:
    """The records in an image's config, none when it has none. Raises Corrupt."""
    from buildtool.oci import decode_config

    document = decode_config(config)
    if document.cache is None:
        return []
    diff_ids = document.rootfs.diff_ids
    records = _convert(document.cache, _Inline).records
    if len(layers) != len(diff_ids) or any(not 0 <= record.layer < len(layers) for record in records):
        raise Corrupt("its records name layers that the image does not have")
    return [
        CacheRecord(
            key=record.key,
            diff_id=diff_ids[record.layer],
            size=record.size,
            blob=layers[record.layer],
            epoch=record.epoch,
            content=record.content,
            tree=record.tree,
            below=record.below,
            squash=record.squash,
        )
        for record in records
    ]


class _Inline(msgspec.Struct, frozen=True):
    version: int
    records: list[InlineRecord]


def _decode(data: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"it is no document of a cache: {error}") from None


def _convert(value: Any, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Corrupt(f"it is no document of a cache: {error}") from None
