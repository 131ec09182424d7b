"""Layers: tar archives in (a snapshot each) and deterministic tar archives out."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import msgspec

from buildtool.cache.blobs import BlobStore
from buildtool.cache.compression import decompress, read_ahead
from buildtool.cache.disk import FullDisk
from buildtool.cache.snapshots import SnapshotId, SnapshotStore
from buildtool.cache.state import StateDB
from buildtool.cache.tar_in import Unpacker
from buildtool.cache.tar_out import tar_tree
from buildtool.cache.trees import Tree
from buildtool.errors import Corrupt, InvalidInput
from buildtool.oci.digest import Digest, sha256
from buildtool.oci.image import Descriptor

_ALONE = "alone"
"""The `base` of a snapshot whose layer was unpacked without what it takes from those below."""


class LayerStore:
    """Layers of one store. Thread-safe; the same layer asked for twice at once is unpacked once."""

    def __init__(self, blobs: BlobStore, snapshots: SnapshotStore, state: StateDB, *, squash_ids: bool) -> None:
        self._blobs = blobs
        self._snapshots = snapshots
        self._state = state
        self._squash = squash_ids
        self._lock = threading.Lock()
        self._flights: dict[Digest, tuple[threading.Lock, int]] = {}

    def unpack(
        self,
        source: BinaryIO | Digest,
        *,
        compression: str = "auto",
        parents: Sequence[SnapshotId] = (),
        expected_diff_id: Digest | None = None,
        alone: bool = False,
    ) -> SnapshotId:
        """Unpack a layer (a blob or a stream) into a snapshot and verify its diff_id in the same pass.

        `parents` are the snapshots below it, bottom first: directories that the layer contains without mentioning
        them take their attributes from there. With `alone` those are not here: one that misses them is never found
        for a stack of layers, only for looking into this one. A snapshot of the same layer is reused, and the stream
        then not read.
        Raises InvalidInput for a malformed or hostile archive, Corrupt for another diff_id, StoreFull; nothing stays
        then.
        """
        with self._flight(expected_diff_id):
            if expected_diff_id is not None:
                known = self._find_for(expected_diff_id, parents)
                if known is None and alone:
                    known = self.find(expected_diff_id, _ALONE)
                if known is not None:
                    return known
            if isinstance(source, str):
                with self._blobs.open(source) as file:
                    return self._unpack(file, source, compression, parents, expected_diff_id, alone)
            return self._unpack(source, expected_diff_id, compression, parents, expected_diff_id, alone)

    def _unpack(
        self,
        source: BinaryIO,
        name: Digest | None,
        compression: str,
        parents: Sequence[SnapshotId],
        expected: Digest | None,
        alone: bool,
    ) -> SnapshotId:
        hasher = hashlib.sha256()
        tree = Tree([self._snapshots.fs(parent) for parent in parents]) if parents else None
        with self._snapshots.prepare(parents) as draft:
            unpacker = Unpacker(draft.fs, squash_ids=self._squash, parents=tree)
            chunks = read_ahead(_hashed(decompress(source, compression), hasher))
            try:
                unpacker.unpack(chunks)
            except InvalidInput as error:
                raise InvalidInput(f"layer {name or 'archive'}: {error.message}", hint=error.hint) from error
            finally:
                chunks.close()
            diff_id = Digest("sha256:" + hasher.hexdigest())
            if expected is not None and diff_id != expected:
                raise Corrupt(f"layer {name}: its content has the diff_id {diff_id}, the image says {expected}")
            known = self._find_for(diff_id, parents) if expected is None else None
            if known is not None:
                return known
            base = self.base(parents) if unpacker.borrowed else _ALONE if alone and unpacker.invented else ""
            with FullDisk(draft.directory):
                return draft.commit(base=base, diff_id=diff_id)

    def find(self, diff_id: Digest, base: str = "") -> SnapshotId | None:
        """The snapshot of this layer, if it is unpacked; it then counts as used now.

        With base "" only one that depends on nothing below it; unpack() also finds one that took attributes from
        `parents`.
        """
        return self._snapshots.find(diff_id, base)

    @staticmethod
    def base(parents: Sequence[SnapshotId]) -> str:
        """The `base` of a snapshot that took something from these parents."""
        return sha256(",".join(map(str, parents)).encode())[7:39] if parents else ""

    def _find_for(self, diff_id: Digest, parents: Sequence[SnapshotId]) -> SnapshotId | None:
        found = self.find(diff_id)
        if found is None and parents:
            found = self.find(diff_id, self.base(parents))
        return found

    def tar(
        self, snapshot: SnapshotId, epoch: int | None = None, skip: Callable[[str], bool] | None = None
    ) -> Iterator[bytes]:
        """The snapshot as a layer archive, the same bytes every time, in chunks of about 1 MiB.

        Times newer than `epoch` are set to it, also inside .pyc headers. Relative paths that `skip` names are left
        out. Raises InvalidInput for what no layer can hold.
        """
        self._snapshots.get(snapshot)
        return tar_tree(self._snapshots.fs(snapshot), epoch, skip=skip)

    def diff_id(
        self,
        snapshot: SnapshotId,
        epoch: int | None = None,
        skip: Callable[[str], bool] | None = None,
        skip_name: str = "",
    ) -> tuple[Digest, int]:
        """Digest and size of `tar(snapshot, epoch)`; computed once and remembered.

        `skip_name` names what `skip` leaves out: it is remembered under that.

        For an unpacked layer that is not the diff_id it came with (`snapshots.get(id).diff_id`): other tools write
        other bytes.
        """
        key = ("" if epoch is None else str(epoch)) + (f" {skip_name}" if skip is not None else "")
        known = self._known(snapshot, key)
        if known is not None:
            return known
        hasher = hashlib.sha256()
        size = 0
        chunks = read_ahead(self.tar(snapshot, epoch, skip))
        try:
            for chunk in chunks:
                hasher.update(chunk)
                size += len(chunk)
        finally:
            chunks.close()
        diff_id = Digest("sha256:" + hasher.hexdigest())
        self._remember(snapshot, key, diff_id, size)
        return diff_id, size

    def known_diff_id(self, snapshot: SnapshotId, epoch: int) -> tuple[Digest, int] | None:
        """What `diff_id` has remembered."""
        return self._known(snapshot, str(epoch))

    def remember_diff_id(self, snapshot: SnapshotId, epoch: int, diff_id: Digest, size: int) -> None:
        """For who has read all of `tar(snapshot, epoch)`."""
        self._remember(snapshot, str(epoch), diff_id, size)

    def _known(self, snapshot: SnapshotId, key: str) -> tuple[Digest, int] | None:
        rows = self._state.query("SELECT diff_id, size FROM tars WHERE snapshot = ? AND epoch = ?", (snapshot, key))
        return (Digest(rows[0][0]), int(rows[0][1])) if rows else None

    def _remember(self, snapshot: SnapshotId, key: str, diff_id: Digest, size: int) -> None:
        if not self._snapshots.readonly:
            with self._state.transaction() as db:
                db.execute("INSERT OR REPLACE INTO tars VALUES (?, ?, ?, ?)", (snapshot, key, diff_id, size))

    def is_empty(self, snapshot: SnapshotId) -> bool:
        """Whether the layer changes nothing."""
        return next(self._snapshots.fs(snapshot).iterdir(), None) is None

    def remember_blob(self, diff_id: Digest, descriptor: Descriptor) -> None:
        """Note that this blob is a (compressed) form of the layer."""
        with self._state.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO layer_blobs VALUES (?, ?, ?)",
                (diff_id, descriptor.digest, msgspec.json.encode(descriptor)),
            )

    def blobs_of(self, diff_id: Digest) -> list[Descriptor]:
        """The forms of the layer that are in the store, in the order of their digests."""
        rows = self._state.query("SELECT descriptor FROM layer_blobs WHERE diff_id = ? ORDER BY digest", (diff_id,))
        found = [msgspec.json.decode(row[0], type=Descriptor) for row in rows]
        return [descriptor for descriptor in found if self._blobs.has(descriptor.digest)]

    @contextmanager
    def _flight(self, diff_id: Digest | None) -> Iterator[None]:
        """One thread at a time for each diff_id."""
        if diff_id is None:
            yield
            return
        with self._lock:
            lock, users = self._flights.get(diff_id, (threading.Lock(), 0))
            self._flights[diff_id] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._flights[diff_id]
                if users == 1:
                    del self._flights[diff_id]
                else:
                    self._flights[diff_id] = (lock, users - 1)


def _hashed(chunks: Iterator[bytes], hasher: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk
