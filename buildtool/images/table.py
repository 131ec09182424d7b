"""The table of images: records by id, and the references that point at them.

It is held in memory and in state.db (documents of the kinds "images" and "references"); the index.json at the store's
root, which makes that an OCI image layout, follows every change. Thread-safe: every public method takes the lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from buildtool.cache.blobs import BlobStore
from buildtool.cache.snapshots import SnapshotId
from buildtool.cache.store import Store
from buildtool.images.groups import Group
from buildtool.images.model import Image, LayerSource
from buildtool.oci import (
    Descriptor,
    Digest,
    ImageConfig,
    Index,
    Reference,
    decode_config,
    encode,
    media_types,
    parse_reference,
)

log = logging.getLogger(__name__)

REFERENCE_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"


@dataclass
class Record:
    """What is stored of an image; its config is read when it is first asked for."""

    id: Digest
    manifest: Descriptor
    layers: tuple[LayerSource, ...]
    created_locally: float
    last_tagged: float
    parent: Digest | None
    blobs: BlobStore
    references: set[Reference] = field(default_factory=set)
    held_by: set[Reference] = field(default_factory=set)

    @cached_property
    def config(self) -> ImageConfig:
        return decode_config(self.blobs.read(self.id))

    def image(self) -> Image:
        """The value that goes out."""
        references = sorted(self.references, key=str)
        return Image(
            id=self.id,
            config=self.config,
            manifest=self.manifest,
            layers=self.layers,
            references=[reference for reference in references if not reference.digest],
            repo_digests=[reference for reference in references if reference.digest],
            created_locally=self.created_locally,
            last_tagged=self.last_tagged,
            parent=self.parent,
            held=bool(self.held_by),
        )

    def document(self) -> dict[str, Any]:
        """What goes into state.db."""
        return {
            "manifest": msgspec.to_builtins(self.manifest),
            "layers": [_layer_document(layer) for layer in self.layers],
            "created_locally": self.created_locally,
            "last_tagged": self.last_tagged,
            "parent": self.parent,
        }


@dataclass(frozen=True)
class _Content:
    """What the store has."""

    blobs: set[Digest]
    snapshots: set[SnapshotId]

    def fault(self, record: Record) -> str | None:
        """What of the image is not there any more (a snapshot may be lost in a power cut); None when it is whole.

        A lost snapshot whose blob is there, or can be fetched, is no fault: it is taken out of the record, to be
        unpacked anew.
        """
        for what, digest in (("config", record.id), ("manifest", record.manifest.digest)):
            if digest not in self.blobs:
                return f"its {what} {digest} is missing"
        for layer in record.layers:
            lost = layer.blob is None or (layer.blob.digest not in self.blobs and not layer.sources)
            if layer.snapshot not in self.snapshots and lost:
                return f"its layer {layer.diff_id} is missing"
        if any(layer.snapshot is not None and layer.snapshot not in self.snapshots for layer in record.layers):
            record.layers = tuple(
                replace(layer, snapshot=layer.snapshot if layer.snapshot in self.snapshots else None)
                for layer in record.layers
            )
        return None


class ImageTable:
    """Records and references of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._images = store.state.documents("images")
        self._references = store.state.documents("references")
        self._attestations = store.state.documents("attestations")
        self._records: dict[Digest, Record] = {}
        self._by_name: dict[Reference, Digest] = {}
        self._groups: dict[Reference, Group] = {}
        self._index = b""
        self.lock = threading.RLock()
        lost = self._read()
        if lost and not store.readonly:
            log.warning("images whose content did not survive the last stop are forgotten: %s", ", ".join(lost))
            with self._changing():
                for key in lost:
                    self._images.delete(key)
                    self._references.delete(key)
        elif not store.readonly:
            self._write_index()

    def _read(self) -> list[str]:
        """Fill the memory from state.db; returns the keys of images that are not whole, and of their references."""
        lost: list[str] = []
        content = self._content()
        for key, document in self._images.items():
            record = _record(Digest(key), document, self._store.blobs)
            if content.fault(record) is None:
                self._records[record.id] = record
            else:
                lost.append(key)
        for key, document in self._references.items():
            owner = self._records.get(document["image"])
            if owner is None:
                lost.append(key)
                continue
            reference = parse_reference(key)
            owner.references.add(reference)
            self._by_name[reference] = owner.id
            if "group" in document:
                group = msgspec.convert(document["group"], Group)
                if group.digest in content.blobs and all(each in self._records for each in group.images):
                    self._hold(reference, group)
        return lost

    def _content(self) -> _Content:
        return _Content(set(self._store.blobs.list()), {snapshot.id for snapshot in self._store.snapshots.all()})

    def faults(self) -> list[tuple[Record, str]]:
        """The images that are not whole, with what is missing."""
        with self.lock:
            content = self._content()
            found = [(record, content.fault(record)) for record in self._records.values()]
            return [(record, fault) for record, fault in found if fault is not None]

    @contextmanager
    def _changing(self, durable: bool = False) -> Iterator[None]:
        """One transaction of state.db, then index.json. When it fails, memory goes back to what is on disk."""
        with self.lock:
            try:
                with self._store.state.transaction(durable=durable):
                    yield
            except BaseException:
                self._records.clear()
                self._by_name.clear()
                self._groups.clear()
                self._read()
                raise
            self._write_index()

    def records(self) -> list[Record]:
        """All records, in no order."""
        with self.lock:
            return list(self._records.values())

    def record(self, image_id: Digest) -> Record | None:
        with self.lock:
            return self._records.get(image_id)

    def by_reference(self, reference: Reference) -> Record | None:
        """The image this exact reference points at."""
        with self.lock:
            owner = self._by_name.get(reference)
            return None if owner is None else self._records[owner]

    def by_manifest(self, repository: str, digest: Digest) -> Record | None:
        """The image with this manifest that has a name in the repository."""
        with self.lock:
            for record in self._records.values():
                if record.manifest.digest == digest and any(r.repository == repository for r in record.references):
                    return record
            return None

    def by_prefix(self, prefix: str) -> list[Record]:
        """The images whose id begins so (`sha256:` may be left out)."""
        text = prefix.removeprefix("sha256:")
        with self.lock:
            return [record for image_id, record in self._records.items() if image_id[7:].startswith(text)]

    def children(self, image_id: Digest) -> list[Record]:
        """The images that were committed from this one."""
        with self.lock:
            return [record for record in self._records.values() if record.parent == image_id]

    def put(
        self, record: Record, references: Sequence[Reference] = (), durable: bool = False, *, renew: bool = False
    ) -> Record:
        """Add an image, or renew what is known of its layers (with `renew` its manifest too); with its names at once.
        Returns the record kept.
        """
        with self.lock:
            known = self._records.get(record.id)
            layers = record.layers if known is None else _merged(known.layers, record.layers)
            unchanged = (
                known is not None and layers == known.layers and known.parent == (record.parent or known.parent)
            )
            if known is not None and renew and known.manifest != record.manifest:
                known.manifest, unchanged = record.manifest, False
            moving = [
                reference
                for reference in references
                if self._by_name.get(reference) != record.id or reference in self._groups
            ]
            if known is not None and unchanged and not moving:
                return known
            with self._changing(durable):
                if known is None:
                    known = self._records[record.id] = record
                known.layers, known.parent = layers, record.parent or known.parent
                for reference in moving:
                    self._point(reference, known)
                self._images.put(known.id, known.document())
            return known

    def group(self, reference: Reference) -> Group | None:
        """The index this exact reference names, if it names one."""
        with self.lock:
            return self._groups.get(reference)

    def groups(self) -> list[tuple[Reference, Group]]:
        """All indexes with their names."""
        with self.lock:
            return list(self._groups.items())

    def point(
        self, reference: Reference, record: Record, durable: bool = False, group: Group | None = None
    ) -> Record | None:
        """Make the reference name this image, with `group` an index that it is the first one of; returns the image it
        named before, if another.
        """
        with self.lock:
            before = self.by_reference(reference)
            if before is not record or group != self._groups.get(reference):
                with self._changing(durable):
                    self._point(reference, record, group)
                    self._images.put(record.id, record.document())
            return None if before is record else before

    def _point(self, reference: Reference, record: Record, group: Group | None = None) -> None:
        before = self.by_reference(reference)
        if before is not None:
            before.references.discard(reference)
        self._release(reference)
        if group is not None:
            self._hold(reference, group)
        record.references.add(reference)
        record.last_tagged = time.time()
        self._by_name[reference] = record.id
        self._references.put(str(reference), _reference_document(record.id, group))

    def _hold(self, reference: Reference, group: Group) -> None:
        self._groups[reference] = group
        for image_id in group.images:
            self._records[image_id].held_by.add(reference)

    def _release(self, reference: Reference) -> None:
        group = self._groups.pop(reference, None)
        for image_id in group.images if group is not None else ():
            held = self._records.get(image_id)
            if held is not None:
                held.held_by.discard(reference)

    def unpoint(self, reference: Reference) -> None:
        """Forget one reference."""
        with self._changing():
            owner = self.by_reference(reference)
            if owner is not None:
                owner.references.discard(reference)
            self._by_name.pop(reference, None)
            self._release(reference)
            self._references.delete(str(reference))

    def remove(self, record: Record) -> None:
        """Forget an image and all that points at it. Its content stays until gc."""
        with self._changing():
            for reference in record.references:
                self._by_name.pop(reference, None)
                self._release(reference)
                self._references.delete(str(reference))
            for reference in list(record.held_by):  # what is left of the index is the image that the name has
                self._release(reference)
                self._references.put(str(reference), _reference_document(self._by_name[reference], None))
            self._records.pop(record.id, None)
            self._images.delete(record.id)
            self._attestations.delete(record.id)

    def unpacked(self, image_id: Digest, snapshots: Sequence[SnapshotId]) -> None:
        """Note where the layers of an image are unpacked."""
        with self.lock:
            record = self._records.get(image_id)
            if record is None:
                return
            layers = tuple(replace(layer, snapshot=s) for layer, s in zip(record.layers, snapshots, strict=True))
            if layers != record.layers:
                record.layers = layers
                self._images.put(record.id, record.document())

    def learn(self, layers: Sequence[LayerSource], durable: bool = False) -> None:
        """Note what is known now of a stack of layers, bottom first, in every image that begins with some of them."""
        with self.lock:
            changed = []
            for record in self._records.values():
                count = _common(record.layers, layers)
                merged = (*_merged(record.layers[:count], tuple(layers[:count])), *record.layers[count:])
                if merged != record.layers:
                    changed.append((record, merged))
            if changed:
                with self._changing(durable):
                    for record, merged in changed:
                        record.layers = merged
                        self._images.put(record.id, record.document())

    def _write_index(self) -> None:
        """Rewrite index.json when it has other contents. Not fsynced: it is made anew when the store is opened."""
        data = encode(Index(2, media_types.INDEX, list(self._descriptors())))
        if data == self._index:
            return
        path = self._store.root / "index.json"
        temporary = Path(f"{path}.tmp")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:  # the change itself is in state.db; the next one writes the index again
            log.warning("%s could not be brought up to date: %s", path, error)
            return
        self._index = data

    def _descriptors(self) -> Iterator[Descriptor]:
        for image_id in sorted(self._records):
            record = self._records[image_id]
            names = sorted((name for name in record.references if not name.digest), key=str)
            for name in names:
                group = self._groups.get(name)
                own = {IMAGE_NAME: str(name), REFERENCE_NAME: name.familiar}
                if group is None:
                    yield msgspec.structs.replace(record.manifest, annotations=own)
                else:
                    yield msgspec.structs.replace(group.descriptor, annotations={**group.notes.descriptor, **own})
            if not names and not record.held_by:
                yield record.manifest


def _reference_document(image_id: Digest, group: Group | None) -> dict[str, Any]:
    return {"image": image_id, **({} if group is None else {"group": msgspec.to_builtins(group)})}


def _common(a: Sequence[LayerSource], b: Sequence[LayerSource]) -> int:
    """How many layers at the bottom are the same."""
    count = 0
    while count < min(len(a), len(b)) and a[count].diff_id == b[count].diff_id:
        count += 1
    return count


def _merged(known: tuple[LayerSource, ...], new: tuple[LayerSource, ...]) -> tuple[LayerSource, ...]:
    """What both know about the layers; where both know, what was known first stays."""
    return tuple(
        replace(
            old,
            snapshot=fresh.snapshot if old.snapshot is None else old.snapshot,
            epoch=fresh.epoch if old.snapshot is None else old.epoch,
            blob=fresh.blob or old.blob
            if old.snapshot is None and fresh.snapshot is not None
            else old.blob or fresh.blob,
            size=fresh.size if old.snapshot is None and fresh.snapshot is not None else old.size,
            sources=tuple(dict.fromkeys((*old.sources, *fresh.sources))),
        )
        for old, fresh in zip(known, new, strict=True)
    )


def _layer_document(layer: LayerSource) -> dict[str, Any]:
    return {
        "diff_id": layer.diff_id,
        "size": layer.size,
        "snapshot": layer.snapshot,
        "blob": None if layer.blob is None else msgspec.to_builtins(layer.blob),
        "epoch": layer.epoch,
        **({"sources": list(layer.sources)} if layer.sources else {}),
    }


def _record(image_id: Digest, document: dict[str, Any], blobs: BlobStore) -> Record:
    layers = tuple(
        LayerSource(
            diff_id=Digest(layer["diff_id"]),
            size=layer["size"],
            snapshot=None if layer["snapshot"] is None else SnapshotId(layer["snapshot"]),
            blob=None if layer["blob"] is None else msgspec.convert(layer["blob"], Descriptor),
            epoch=layer["epoch"],
            sources=tuple(layer.get("sources", ())),
        )
        for layer in document["layers"]
    )
    return Record(
        id=image_id,
        manifest=msgspec.convert(document["manifest"], Descriptor),
        layers=layers,
        created_locally=document["created_locally"],
        last_tagged=document["last_tagged"],
        parent=None if document["parent"] is None else Digest(document["parent"]),
        blobs=blobs,
    )
