"""Looks after the build cache: lists it, removes what a policy says, protects, moves cache mounts in and out."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from buildtool.cache import ActionEntry, GcReport, Pins, SnapshotId, Store, decompress, extract, tar_tree
from buildtool.cache.disk import remove_tree, tree_usage
from buildtool.errors import Conflict, InvalidInput, NotFound
from buildtool.oci import Digest
from buildtool.solve.cache_entries import CacheEntry, Policy, choose, matcher, matches_id
from buildtool.solve.cache_mounts import CacheMounts, cache_mount_name
from buildtool.solve.leftovers import Leftovers
from buildtool.solve.records import MOUNTS, Origin

_PROTECTED = "cache-protected"
_SHORT = 12
_FORGET_ASIDE_AFTER = 30 * 86400.0


class CacheKeeper:
    """The build cache of one store. Blocking and thread-safe. `pins` everywhere: what images and containers need."""

    def __init__(self, store: Store, mounts: CacheMounts) -> None:
        self._store = store
        self._mounts = mounts
        self._protected = store.state.documents(_PROTECTED)
        self._made_by = store.state.documents(MOUNTS)
        self._sizes: dict[str, tuple[float, int]] = {}

    # Looking

    def entries(self, pins: Pins) -> list[CacheEntry]:
        """Everything, the last used first."""
        return self._entries(self._store.actions.entries(), pins)

    def _entries(self, records: Sequence[ActionEntry], pins: Pins) -> list[CacheEntry]:
        steps = self._steps(records, pins)
        return sorted([*steps, *self._mount_entries()], key=lambda entry: entry.used, reverse=True)

    def find(self, name: str, pins: Pins) -> CacheEntry:
        """One entry, by its id, the beginning of it or of a key, its snapshot's number, or its mount's id.

        Raises NotFound; InvalidInput when several begin so.
        """
        return _find(self.entries(pins), name)

    def records(self, entry: CacheEntry) -> list[dict[str, Any]]:
        """The action records of a step's entry, with the ingredients of its keys."""
        found = [(key, self._store.actions.peek(Digest(key))) for key in entry.keys]
        return [{"key": key, **record} for key, record in found if record is not None]

    def _steps(self, records: Sequence[ActionEntry], pins: Pins) -> list[CacheEntry]:
        needed = {int(number) for number in pins.snapshots}
        leased = {int(number) for lease in self._store.leases.in_force(time.time()) for number in lease.snapshots}
        protected = self._protected_snapshots(records)
        known = {int(snapshot.id): snapshot for snapshot in self._store.snapshots.all()}
        groups: dict[int, list[ActionEntry]] = {}
        for record in records:
            if record.record.get("kind") == "step":
                groups.setdefault(record.snapshots()[0], []).append(record)
        found = []
        for number, group in groups.items():
            snapshot = known.get(number)
            if snapshot is None:
                continue
            group.sort(key=lambda record: record.used, reverse=True)
            main = next((record for record in group if "below" in record.record), group[0])
            origin = main.record.get("origin")
            found.append(
                CacheEntry(
                    id=main.key.removeprefix("sha256:")[:_SHORT],
                    type="step",
                    description=str(origin["name"]) if origin else f"snapshot {number}",
                    size=self._store.snapshots.usage(SnapshotId(number)),
                    created=snapshot.created,
                    used=group[0].used,
                    hits=sum(record.hits for record in group),
                    in_use=number in leased,
                    shared=number in needed,
                    protected=number in protected,
                    origin=msgspec.convert(origin, Origin) if origin else None,
                    keys=[str(record.key) for record in group],
                    snapshot=number,
                )
            )
        return found

    def _mount_entries(self) -> Iterator[CacheEntry]:
        if not self._mounts.root.is_dir():
            return
        protected = set(self._protected.keys())
        for directory in sorted(self._mounts.root.iterdir()):
            try:
                name = (directory / "id").read_text()
                status = (directory / "id").stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            noted = self._made_by.get(directory.name) or {}
            yield CacheEntry(
                id=directory.name[:_SHORT] + "".join(directory.name.partition(".")[1:]),
                type="mount",
                description=name,
                size=self._size_of(directory, status.st_mtime),
                created=min(status.st_mtime, (directory / "data").stat().st_ctime),
                used=status.st_mtime,
                hits=max(0, int(noted.get("uses", 0)) - 1),
                origin=msgspec.convert(noted["origin"], Origin) if "origin" in noted else None,
                in_use=self._mounts.busy(directory.name),
                protected=f"mount/{directory.name}" in protected,
                keys=[directory.name],
            )

    def _size_of(self, directory: Path, used: float) -> int:
        """What a mount's directory takes; counted again only when it was used since."""
        known = self._sizes.get(directory.name)
        if known is not None and known[0] == used:
            return known[1]
        size = tree_usage(directory)
        if not self._mounts.busy(directory.name):
            self._sizes[directory.name] = (used, size)
        return size

    # Protecting

    def protect(self, names: Sequence[str], pins: Pins, *, protect: bool) -> list[CacheEntry]:
        """Let no garbage collection and no prune have these entries (or let them again). All or nothing."""
        entries = self.entries(pins)
        found = [_find(entries, name) for name in names]
        for entry in found:
            key = _protection(entry)
            if protect:
                self._protected.put(key, {"since": time.time(), "description": entry.description})
            else:
                self._protected.delete(key)
        return found

    def protected_snapshots(self) -> set[int]:
        """The snapshots of protected steps and of all that they stand on."""
        return self._protected_snapshots(None)

    def _protected_snapshots(self, records: Sequence[ActionEntry] | None) -> set[int]:
        names = [key.partition("/") for key in self._protected.keys()]  # noqa: SIM118 - it is no dict
        chosen = {int(number) for kind, _, number in names if kind == "snapshot"}
        if not chosen:
            return set()
        records = self._store.actions.entries() if records is None else records
        by_key = {str(record.key): record.record for record in records if record.record.get("kind") == "step"}
        found = set(chosen)
        for record in by_key.values():
            if int(record["snapshots"][0]) in chosen:
                below = record.get("below")
                while below is not None and (under := by_key.get(str(below))) is not None:
                    found.add(int(under["snapshots"][0]))
                    below = under.get("below")
        return found

    # Removing

    def prune(
        self,
        policy: Policy,
        pins: Pins,
        *,
        dry_run: bool = False,
        sweep: bool = True,
        leftovers: Leftovers | None = None,
    ) -> tuple[list[CacheEntry], GcReport]:
        """Remove what the policy says (with `dry_run` only tell), and then whatever nothing needs any more (without
        `sweep` only when something was removed). With `leftovers` (and their pins) these images are part of it.

        What a running build holds, or was used since the oldest of them began, stays. Raises InvalidInput for limits
        and filters that make no sense.
        """
        now = time.time()
        policy.check()
        matcher(policy.filters, now)
        leases = self._store.leases.in_force(pins.taken)
        horizon = min([pins.taken, *(lease.began for lease in leases)])
        self._store.actions.flush()
        records = self._store.actions.entries()
        entries = self._entries(records, pins)
        for entry in entries:
            entry.in_use |= entry.type == "step" and entry.used >= horizon
        free = shutil.disk_usage(self._store.root).free
        gone = choose(entries, policy, free=free, now=now)
        if dry_run:
            return gone, GcReport(bytes=sum(entry.reclaimable for entry in gone))
        removed = [entry for entry in gone if self._remove(entry)]
        self._forget_aside(records, now)
        released = False
        if leftovers is not None:
            made_before = None if policy.unused_for is None else now - policy.unused_for
            released = leftovers.release({entry.snapshot for entry in removed if entry.snapshot}, made_before)
            pins = leftovers.all_pins()
        if not removed and not released and not sweep:
            return [], GcReport()
        report = self._store.gc(pins, protected=self.protected_snapshots())
        report.bytes += sum(entry.size for entry in removed if entry.type == "mount")
        return removed, report

    def _remove(self, entry: CacheEntry) -> bool:
        if entry.type == "mount":
            return self._remove_mount(entry.keys[0])
        for key in entry.keys:
            self._store.actions.delete(Digest(key))
        return True

    def _remove_mount(self, name: str) -> bool:
        """Take it away in one step, unless a RUN uses it."""
        aside = self._mounts.root / f".gone.{name}.{time.monotonic_ns()}"
        with self._mounts.guard:
            if self._mounts.busy(name):
                return False
            with suppress(FileNotFoundError):
                (self._mounts.root / name).rename(aside)
        remove_tree(aside)
        self._made_by.delete(name)
        return True

    def _forget_aside(self, records: Iterable[ActionEntry], now: float) -> None:
        """Records that name no snapshots (which image was made of which steps): forgotten when long unused."""
        for record in records:
            if not record.snapshots() and not record.blobs() and record.used < now - _FORGET_ASIDE_AFTER:
                self._store.actions.delete(record.key)

    def remove_leftovers(self) -> None:
        """Remove what a killed process had begun to remove or to import."""
        if self._mounts.root.is_dir():
            for path in self._mounts.root.glob(".*"):
                remove_tree(path)

    # Cache mounts in and out

    def export_mount(self, entry: CacheEntry) -> Iterator[bytes]:
        """The contents of a cache mount as a tar archive. Raises InvalidInput for a step, Conflict while in use."""
        if entry.type != "mount":
            raise InvalidInput(f"{entry.id} is no cache mount: only these can be exported")
        if self._mounts.busy(entry.keys[0]):
            raise Conflict(f"the cache mount {entry.description!r} is in use by a running step")
        return tar_tree(self._mounts.root / entry.keys[0] / "data", layer=False)

    def import_mount(self, id: str, archive: BinaryIO) -> str:
        """Make a tar archive (compressed or not) the contents of the cache mount with this id; all or nothing.

        Returns the name of its directory.
        """
        if not id:
            raise InvalidInput("which cache mount? Its id is the one of RUN --mount=type=cache,id=… (or its target)")
        name = cache_mount_name(id)
        if self._mounts.busy(name):
            raise Conflict(f"the cache mount {id!r} is in use by a running step")
        self._mounts.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".import.", dir=self._mounts.root))
        try:
            (fresh / "id").write_text(id)
            data = fresh / "data"
            data.mkdir(mode=0o755)
            old = self._mounts.root / name / "data"
            if old.is_dir():
                status = old.stat()
                data.chmod(status.st_mode & 0o7777)
                if os.geteuid() == 0:
                    os.chown(data, status.st_uid, status.st_gid)
            extract(decompress(archive, "auto"), data, squash_ids=self._store.squash_ids)
            made_by = self._made_by.get(name)
            if not self._remove_mount(name):
                raise Conflict(f"the cache mount {id!r} is in use by a running step")
            fresh.rename(self._mounts.root / name)
            if made_by is not None:
                self._made_by.put(name, made_by)
        except BaseException:
            remove_tree(fresh)
            raise
        return name


def _protection(entry: CacheEntry) -> str:
    return f"mount/{entry.keys[0]}" if entry.type == "mount" else f"snapshot/{entry.snapshot}"


def _find(entries: Sequence[CacheEntry], name: str) -> CacheEntry:
    exact = [entry for entry in entries if name in (entry.id, *entry.keys)]
    found = exact or [entry for entry in entries if matches_id(entry, name)]
    if len(found) > 1:
        shown = ", ".join(f"{entry.id} ({entry.description})" for entry in found[:5])
        raise InvalidInput(f"{name!r} is ambiguous: {shown}")
    if not found:
        raise NotFound(f"no such cache entry: {name}", hint="`buildtool cache ls` lists them")
    return found[0]
