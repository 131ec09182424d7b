"""Leases: what a build or a pull in flight holds against gc.

While a lease is held, gc keeps everything that was made or reused since the lease began, and the older things named
on it. A lease ends with its block; those of a killed process end when the store is opened again.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from buildtool.cache.snapshots import SnapshotId
from buildtool.cache.state import StateDB
from buildtool.errors import Conflict, StoreFull
from buildtool.oci.digest import Digest

_REMEMBER_ENDED = 3600.0


@dataclass(eq=False)
class Lease:
    """A held lease. Thread-safe."""

    id: int
    note: str
    began: float
    _store: LeaseStore
    ended: float | None = None
    snapshots: set[SnapshotId] = field(default_factory=set)
    blobs: set[Digest] = field(default_factory=set)

    def snapshot(self, snapshot: SnapshotId) -> None:
        """Keep this snapshot."""
        self._store._add(self, "snapshot", str(snapshot))

    def keep(self, snapshots: Iterable[SnapshotId]) -> None:
        """Keep all of these snapshots."""
        self._store._add_all(self, "snapshot", [str(snapshot) for snapshot in snapshots])

    def blob(self, digest: Digest) -> None:
        """Keep this blob. It may come later: lease, then ask whether it is there, and gc cannot come between."""
        self._store._add(self, "blob", digest)


class LeaseStore:
    """The leases of this process."""

    def __init__(self, state: StateDB) -> None:
        self._state = state
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._leases: list[Lease] = []

    @contextmanager
    def hold(self, note: str) -> Iterator[Lease]:
        """A new lease for the length of the block; `note` says who holds it."""
        lease = Lease(next(self._ids), note, time.time(), self)
        with self._lock:
            self._leases.append(lease)
        try:
            with self._state.transaction() as db:
                db.execute("INSERT INTO leases VALUES (?, ?, ?)", (lease.id, note, lease.began))
            yield lease
        finally:
            lease.ended = time.time()
            with suppress(StoreFull), self._state.transaction() as db:  # the row goes when the store is opened again
                db.execute("DELETE FROM leases WHERE id = ?", (lease.id,))

    def _add(self, lease: Lease, kind: str, name: str) -> None:
        self._add_all(lease, kind, [name])

    def _add_all(self, lease: Lease, kind: str, names: Sequence[str]) -> None:
        if lease.ended is not None:
            raise Conflict(f"the lease {lease.note!r} has ended")
        with self._lock:
            if kind == "snapshot":
                lease.snapshots.update(SnapshotId(int(name)) for name in names)
            else:
                lease.blobs.update(Digest(name) for name in names)
        with self._state.transaction() as db:
            sql = "INSERT OR IGNORE INTO lease_items VALUES (?, ?, ?)"
            db.executemany(sql, [(lease.id, kind, name) for name in names])

    def in_force(self, since: float) -> list[Lease]:
        """The leases held at any time since then."""
        with self._lock:
            limit = min(since, time.time() - _REMEMBER_ENDED)
            self._leases = [lease for lease in self._leases if lease.ended is None or lease.ended >= limit]
            return [lease for lease in self._leases if lease.ended is None or lease.ended >= since]

    def holds_blob(self, digest: Digest, since: float) -> bool:
        """Whether a lease in force names this blob."""
        return any(digest in lease.blobs for lease in self.in_force(since))

    def drop_all(self) -> None:
        """Forget the rows that a killed process left."""
        with self._state.transaction() as db:
            db.execute("DELETE FROM lease_items")
            db.execute("DELETE FROM leases")
