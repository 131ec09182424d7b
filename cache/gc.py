"""Garbage collection: the only place that deletes blobs and snapshots of a store in use.

Kept is what the owners pin (images, containers), what leases name, what was made or reused since the oldest lease in
force began, and what the kept action records need.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from buildtool.cache.actions import ActionEntry
from buildtool.cache.disk import mounts_below, remove_tree
from buildtool.cache.snapshots import SnapshotId
from buildtool.oci.digest import Digest

if TYPE_CHECKING:
    from buildtool.cache.store import Store

_CLOCK_SLACK = 0.05  # a file's mtime lies up to a tick (10 ms at most) before the clock's time


@dataclass(frozen=True, slots=True)
class Pins:
    """What an owner needs, as of the moment `taken`. Union with `|`."""

    blobs: set[Digest] = field(default_factory=set)
    snapshots: set[SnapshotId] = field(default_factory=set)
    taken: float = field(default_factory=time.time)

    def __or__(self, other: Pins) -> Pins:
        return Pins(self.blobs | other.blobs, self.snapshots | other.snapshots, min(self.taken, other.taken))


@dataclass(slots=True)
class GcReport:
    """What was removed. `bytes` is disk space set free."""

    blobs: list[Digest] = field(default_factory=list)
    snapshots: list[SnapshotId] = field(default_factory=list)
    actions: int = 0
    leftovers: int = 0
    bytes: int = 0


def collect(
    store: Store,
    pins: Pins,
    *,
    max_cache_bytes: int | None,
    unused_since: float | None,
    actions: Literal["keep", "unused", "all"],
    protected: Collection[int] = (),
) -> GcReport:
    """See Store.gc."""
    report = GcReport()
    leases = store.leases.in_force(pins.taken)
    horizon = min([pins.taken, *(lease.began for lease in leases)]) - _CLOCK_SLACK
    needed = {int(number) for number in pins.snapshots}
    needed.update(int(number) for lease in leases for number in lease.snapshots)
    store.actions.flush()
    kept = _choose_actions(
        store, report, needed, horizon, max_cache_bytes, unused_since, actions, frozenset(protected)
    )
    for entry in kept:
        needed.update(entry.snapshots())
    _drop_snapshots(store, report, needed, horizon)
    blobs = set(pins.blobs)
    blobs.update(digest for lease in leases for digest in lease.blobs)
    blobs.update(Digest(digest) for entry in kept for digest in entry.blobs())
    if actions != "all":
        blobs |= _forms_of_kept_layers(store)
    _drop_blobs(store, report, blobs, horizon, pins.taken)
    drop_dangling_rows(store)
    _drop_leftovers(store, report)
    return report


def _choose_actions(
    store: Store,
    report: GcReport,
    needed: set[int],
    horizon: float,
    max_cache_bytes: int | None,
    unused_since: float | None,
    actions: Literal["keep", "unused", "all"],
    protected: frozenset[int],
) -> list[ActionEntry]:
    """Delete the records that go; the others, newest use first."""
    entries = store.actions.entries()  # first: what they need was there before them
    known = {int(snapshot.id) for snapshot in store.snapshots.all()}
    limit = horizon if unused_since is None else min(horizon, unused_since)
    kept, dropped = [], []
    for entry in sorted(entries, key=lambda entry: entry.used, reverse=True):
        snapshots = entry.snapshots()
        if not known.issuperset(snapshots):
            dropped.append(entry)
        elif entry.used >= limit or not protected.isdisjoint(snapshots):
            kept.append(entry)
        else:
            unneeded = not needed.issuperset(snapshots)
            goes = {"all": True, "unused": unneeded, "keep": unused_since is not None}[actions]
            (dropped if goes else kept).append(entry)
    if max_cache_bytes is not None:
        kept = _fit(store, kept, dropped, needed | protected, horizon, max_cache_bytes)
    for entry in dropped:
        store.actions.delete(entry.key)
    report.actions = len(dropped)
    return kept


def _fit(
    store: Store,
    kept: list[ActionEntry],
    dropped: list[ActionEntry],
    needed: set[int],
    horizon: float,
    max_cache_bytes: int,
) -> list[ActionEntry]:
    """Keep records, newest use first, as long as the snapshots that only they hold fit."""
    total = 0
    counted = set(needed)
    fitting = []
    for entry in kept:
        new = set(entry.snapshots()) - counted
        size = sum(store.snapshots.usage(SnapshotId(number)) for number in new)
        if entry.used < horizon and new and total + size > max_cache_bytes:
            dropped.append(entry)
            continue
        total += size
        counted |= new
        fitting.append(entry)
    return fitting


def _drop_snapshots(store: Store, report: GcReport, needed: set[int], horizon: float) -> None:
    mounted = mounts_below(store.snapshots.directory)
    for snapshot in list(store.snapshots.all()):
        directory = store.snapshots.fs(snapshot.id).parent
        if snapshot.id in needed or any(point.startswith(f"{directory}/") for point in mounted):
            continue
        if snapshot.used >= horizon:
            continue
        size = store.snapshots.usage(snapshot.id)
        if store.snapshots.delete(snapshot.id, unless_used_since=horizon):
            report.snapshots.append(snapshot.id)
            report.bytes += size


def _forms_of_kept_layers(store: Store) -> set[Digest]:
    """Compressed forms that a push has made of layers that are still here."""
    rows = store.state.query(
        "SELECT digest FROM layer_blobs WHERE diff_id IN (SELECT diff_id FROM snapshots WHERE diff_id IS NOT NULL) "
        "OR diff_id IN (SELECT tars.diff_id FROM tars JOIN snapshots ON tars.snapshot = snapshots.id)"
    )
    return {Digest(row[0]) for row in rows}


def _drop_blobs(store: Store, report: GcReport, needed: set[Digest], horizon: float, taken: float) -> None:
    for digest in store.blobs.list():
        if digest in needed:
            continue
        with store.blobs.lock:
            if store.leases.holds_blob(digest, taken):
                continue
            size = store.blobs.delete_unless_newer(digest, horizon)
        if size is not None:
            report.blobs.append(digest)
            report.bytes += size


def drop_dangling_rows(store: Store) -> None:
    """Forget what was remembered about things that are gone; also a gc that was killed between the two."""
    with store.state.transaction() as db:
        db.execute("DELETE FROM tars WHERE snapshot NOT IN (SELECT id FROM snapshots)")
        rows = db.execute("SELECT diff_id, digest FROM layer_blobs").fetchall()
        gone = [row for row in rows if not store.blobs.has(row[1])]
        db.executemany("DELETE FROM layer_blobs WHERE diff_id = ? AND digest = ?", gone)


def _drop_leftovers(store: Store, report: GcReport) -> None:
    for path in store.leftovers():
        remove_tree(path)
        report.leftovers += 1
