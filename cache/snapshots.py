"""Snapshots: one unpacked layer each, in snapshots/<n>/fs, as an overlay's lower directory wants it.

A snapshot begins as a draft (a directory without a row in state.db) and becomes one by the row: drafts of a killed
process are recognised by the missing row. Contents are not fsynced one by one: `sync` makes all committed snapshots
durable at once; those that are not are dropped when the machine went down in between.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NewType

import msgspec

from buildtool.cache.disk import FullDisk, remove_tree, sync_filesystem, tree_usage
from buildtool.cache.state import StateDB
from buildtool.errors import Conflict, Forbidden, NotFound, StoreFull
from buildtool.oci.digest import Digest

SnapshotId = NewType("SnapshotId", int)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known about a snapshot. `size` is bytes on disk, None until `usage` counted them.

    `base` is empty when the content depends on nothing else; see LayerStore.unpack.
    """

    id: SnapshotId
    created: float
    size: int | None
    durable: bool
    base: str
    diff_id: Digest | None
    used: float


class SnapshotStore:
    """The snapshots of one store. Thread-safe."""

    def __init__(self, root: Path, state: StateDB, *, readonly: bool = False) -> None:
        self.directory = root / "snapshots"
        self.readonly = readonly
        self._state = state
        self._lock = threading.Lock()
        self._drafts: set[SnapshotId] = set()
        self._next = 0

    def fs(self, snapshot: SnapshotId) -> Path:
        """The file tree of a snapshot. The path is made up, not looked up."""
        return Path(f"{self.directory}/{snapshot}/fs")

    def get(self, snapshot: SnapshotId) -> Snapshot:
        """Raises NotFound."""
        rows = self._select("WHERE id = ?", snapshot)
        if not rows:
            raise NotFound(f"snapshot {snapshot} is not in the store")
        return rows[0]

    def has(self, snapshot: SnapshotId) -> bool:
        """Whether the snapshot is in the store."""
        return bool(self._state.query("SELECT 1 FROM snapshots WHERE id = ?", (snapshot,)))

    def those(self, snapshots: Iterable[SnapshotId]) -> set[SnapshotId]:
        """Which of these are in the store."""
        numbers = msgspec.json.encode([int(snapshot) for snapshot in snapshots]).decode()
        rows = self._state.query("SELECT id FROM snapshots WHERE id IN (SELECT value FROM json_each(?))", (numbers,))
        return {SnapshotId(row[0]) for row in rows}

    def all(self) -> Iterator[Snapshot]:
        """Every snapshot, oldest first."""
        return iter(self._select("ORDER BY id"))

    def find(self, diff_id: Digest, base: str = "") -> SnapshotId | None:
        """The snapshot unpacked from this layer; it then counts as used now."""
        with self._state.transaction() as db:
            row = db.execute(
                "SELECT id FROM snapshots WHERE diff_id = ? AND base = ? ORDER BY id LIMIT 1", (diff_id, base)
            ).fetchone()
            if row is None:
                return None
            if not self.readonly:
                db.execute("UPDATE snapshots SET used = ? WHERE id = ?", (time.time(), row[0]))
        return SnapshotId(row[0])

    def _select(self, where: str, *parameters: object) -> list[Snapshot]:
        columns = "id, created, size, durable, base, diff_id, used"
        rows = self._state.query(f"SELECT {columns} FROM snapshots {where}", parameters)  # noqa: S608
        return [Snapshot(SnapshotId(r[0]), r[1], r[2], bool(r[3]), r[4], r[5], r[6]) for r in rows]

    def prepare(self, parents: Sequence[SnapshotId] = ()) -> Draft:
        """Fresh empty `fs` and `work` directories to become a snapshot; a context manager that removes them unless
        committed.

        The new root directory gets the mode and owner of the topmost parent's: in an overlay the uppermost root
        directory is the one that is seen.
        """
        if self.readonly:
            raise Forbidden(f"{self.directory} is open for reading only")
        with self._lock:
            if self._next == 0:
                self._next = self._highest() + 1
            number = SnapshotId(self._next)
            self._next += 1
            self._drafts.add(number)
        draft = Draft(self, number)
        try:
            with FullDisk(self.directory):
                draft._create(self.fs(parents[-1]) if parents else None)
        except BaseException:
            draft.discard()
            raise
        return draft

    def _highest(self) -> int:
        """The greatest number ever given to a snapshot or now in use by a directory: numbers are never reused."""
        rows = self._state.query("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'")
        names = [int(name) for name in os.listdir(self.directory) if name.isdigit()]
        return max([0, *names, *(int(row[0]) for row in rows)])

    def drafts(self) -> set[SnapshotId]:
        """The drafts of this process that are neither committed nor discarded."""
        with self._lock:
            return set(self._drafts)

    def sync(self) -> None:
        """Durability barrier: one syncfs, after which every snapshot committed before the call is durable."""
        rows = self._state.query("SELECT id FROM snapshots WHERE NOT durable")
        if not rows:
            return
        sync_filesystem(self.directory)
        with self._state.transaction() as db:
            db.executemany("UPDATE snapshots SET durable = 1 WHERE id = ?", rows)

    def usage(self, snapshot: SnapshotId) -> int:
        """Bytes the snapshot takes on disk; counted once and remembered."""
        size = self.get(snapshot).size
        if size is None:
            size = tree_usage(self.fs(snapshot))
            if not self.readonly:
                with suppress(StoreFull), self._state.transaction() as db:
                    db.execute("UPDATE snapshots SET size = ? WHERE id = ?", (size, snapshot))
        return size

    def delete(self, snapshot: SnapshotId, unless_used_since: float | None = None) -> bool:
        """For gc and recovery: forget the snapshot and remove its files; tells whether it was there (and not used
        since).
        """
        with self._state.transaction() as db:
            sql = "DELETE FROM snapshots WHERE id = ? AND (? IS NULL OR used < ?)"
            if not db.execute(sql, (snapshot, unless_used_since, unless_used_since)).rowcount:
                return False
            db.execute("DELETE FROM tars WHERE snapshot = ?", (snapshot,))
        remove_tree(self.fs(snapshot).parent)
        return True

    def leftovers(self) -> list[Path]:
        """Directories that belong neither to a snapshot nor to a draft of this process."""
        with self._lock:
            names = os.listdir(self.directory)
            known = {str(draft) for draft in self._drafts}
            known.update(str(row[0]) for row in self._state.query("SELECT id FROM snapshots"))
        return [self.directory / name for name in names if name not in known]

    def _commit(self, draft: Draft, base: str, diff_id: Digest | None) -> None:
        now = time.time()
        with self._lock:
            if draft.id not in self._drafts:
                raise Conflict(f"snapshot {draft.id} was committed or discarded already")
            with self._state.transaction() as db:
                db.execute(
                    "INSERT INTO snapshots (id, created, used, base, diff_id) VALUES (?, ?, ?, ?, ?)",
                    (draft.id, now, now, base, diff_id),
                )
            self._drafts.discard(draft.id)

    def _forget(self, number: SnapshotId) -> None:
        with self._lock:
            self._drafts.discard(number)


class Draft:
    """A snapshot in the making: `fs` to write into (or an overlay's upperdir), `work` its workdir."""

    def __init__(self, store: SnapshotStore, number: SnapshotId) -> None:
        self.id = number
        self.directory = store.directory / str(number)
        self.fs = self.directory / "fs"
        self.work = self.directory / "work"
        self._store = store
        self._open = True

    def _create(self, parent: Path | None) -> None:
        self.directory.mkdir(mode=0o700)
        self.fs.mkdir()
        self.work.mkdir()
        self.fs.chmod(0o755)
        if parent is not None:
            status = parent.stat()
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(self.fs, status.st_uid, status.st_gid)
            if stat.S_IMODE(status.st_mode) != 0o755:
                self.fs.chmod(stat.S_IMODE(status.st_mode))

    def commit(self, *, base: str = "", diff_id: Digest | None = None) -> SnapshotId:
        """Make it a snapshot; nobody may write into `fs` any more, and no overlay may have it mounted as upper.

        With `diff_id` it will be found by that (and `base`).
        """
        remove_tree(self.work)
        self._store._commit(self, base, diff_id)
        self._open = False
        return self.id

    def discard(self) -> None:
        """Remove the directories; nothing happens when committed or discarded before."""
        if self._open:
            self._open = False
            try:
                remove_tree(self.directory)
            finally:
                self._store._forget(self.id)

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.discard()
