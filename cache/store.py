"""The store: one directory, one process at a time."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Literal

from buildtool.cache.actions import ActionCache
from buildtool.cache.blobs import BlobStore
from buildtool.cache.check import Problem, check
from buildtool.cache.disk import FullDisk, Reserve, boot_id, remove_tree, spread_directories, write_file
from buildtool.cache.gc import GcReport, Pins, collect, drop_dangling_rows
from buildtool.cache.layers import LayerStore
from buildtool.cache.leases import LeaseStore
from buildtool.cache.overlay import in_user_namespace
from buildtool.cache.snapshots import SnapshotStore
from buildtool.cache.state import StateDB
from buildtool.errors import Forbidden, NotFound, StoreFull, StoreLocked

_LAYOUT = {
    "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
    "index.json": b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}',
}
_DIRECTORIES = ("blobs/sha256", "ingest", "snapshots", "actions")


class Store:
    """Blobs, snapshots, layers, action records, leases and state under one root. Synchronous and thread-safe."""

    def __init__(self, root: Path, lock: int | None, *, readonly: bool) -> None:
        self.root = root
        self.readonly = readonly
        self.squash_ids = _cannot_chown()
        self._lock = lock
        self._gc_lock = threading.Lock()
        self._reserve = Reserve(root)
        self.state = StateDB(root / "state.db", readonly=readonly)
        self.blobs = BlobStore(root, readonly=readonly)
        self.snapshots = SnapshotStore(root, self.state, readonly=readonly)
        self.layers = LayerStore(self.blobs, self.snapshots, self.state, squash_ids=self.squash_ids)
        self.actions = ActionCache(root, readonly=readonly)
        self.leases = LeaseStore(self.state)

    @classmethod
    def open(cls, root: Path, *, readonly: bool = False) -> Store:
        """Open the store at `root`, made if missing, and recover from whatever ended its last process.

        Only one process may have it open: StoreLocked names the other. With `readonly` nothing is locked, made,
        recovered or changed (NotFound when there is none). Raises StoreFull, Corrupt, Conflict (a newer schema).
        """
        root = root.absolute()
        if readonly:
            if not (root / "state.db").exists():
                raise NotFound(f"there is no store at {root}")
            return cls(root, None, readonly=True)
        with FullDisk(root):
            lock = _take_lock(root)
            try:
                try:
                    return cls._open_locked(root, lock)
                except StoreFull:
                    if not Reserve(root).spend():
                        raise
                    return cls._open_locked(root, lock)
            except BaseException:
                os.close(lock)
                raise

    @classmethod
    def _open_locked(cls, root: Path, lock: int) -> Store:
        _create_layout(root)
        store = cls(root, lock, readonly=False)
        try:
            store._recover()
        except BaseException:
            store.state.close()
            raise
        store._reserve.fill()
        return store

    def check(self, *, repair: bool = False) -> list[Problem]:
        """Everything that is wrong with the store: blobs are hashed again, databases verified, references followed.

        With `repair`, what cannot be right is removed (a corrupt blob, a record of something gone): owners then find
        it missing and fetch or make it again. What a process of now is writing is no problem.
        """
        with self._gc_lock:
            return check(self, repair=repair)

    def gc(
        self,
        pins: Pins,
        *,
        max_cache_bytes: int | None = None,
        unused_since: float | None = None,
        actions: Literal["keep", "unused", "all"] = "keep",
        protected: Collection[int] = (),
    ) -> GcReport:
        """Remove what nobody needs: not pinned, not leased, not needed by a kept action record.

        `actions` says which records go: "keep" none, "unused" those whose snapshots no pin needs, "all" every one.
        `unused_since` (a time) spares what was used after it, and with "keep" drops what was not.
        Records of `protected` snapshots stay whatever the others say.
        `max_cache_bytes` drops the least recently used records until the snapshots that only records hold fit.
        It works on a full disk too.
        What is made while gc runs, or was made since the oldest lease in force when `pins` was taken began, stays.
        """
        if self.readonly:
            raise Forbidden(f"{self.root} is open for reading only")
        with self._gc_lock:
            work = partial(
                collect,
                self,
                pins,
                max_cache_bytes=max_cache_bytes,
                unused_since=unused_since,
                actions=actions,
                protected=protected,
            )
            try:
                return work()
            except StoreFull:
                if not self._reserve.spend():
                    raise
                return work()
            finally:
                self._reserve.fill()

    def leftovers(self) -> list[Path]:
        """Files and directories of writers that ended early (not of this process)."""
        names = os.listdir(self.root / "ingest")
        active = self.blobs.active()  # after the listing: a writer that begins between them is in neither
        ingests = [self.root / "ingest" / name for name in names if name not in active]
        return [path for path in ingests if path.exists()] + self.snapshots.leftovers()

    def write_layout(self, path: Path) -> None:
        """Write one of the two files that make the root an OCI image layout, with no image in it."""
        write_file(path, _LAYOUT[path.name])

    def close(self) -> None:
        """Write what is pending, release the lock. The store cannot be used afterwards."""
        try:
            self.actions.close()
        finally:
            self.state.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _recover(self) -> None:
        """What a killed process or a power cut left: unfinished writes, leases, contents never synced."""
        for path in self.leftovers():
            remove_tree(path)
        self.leases.drop_all()
        drop_dangling_rows(self)
        boot = boot_id()
        recorded = self.state.meta("boot_id")
        if recorded is not None and recorded != boot:
            self._drop_what_was_not_durable()
        if recorded != boot:
            self.state.set_meta("boot_id", boot)

    def _drop_what_was_not_durable(self) -> None:
        for snapshot in list(self.snapshots.all()):
            if not snapshot.durable:
                self.snapshots.delete(snapshot.id)
        if self.actions.exists():
            if self.actions.integrity_faults():
                self.actions.clear()
            known = {int(snapshot.id) for snapshot in self.snapshots.all()}
            for entry in self.actions.entries():
                if not known.issuperset(entry.snapshots()):
                    self.actions.delete(entry.key)


def _create_layout(root: Path) -> None:
    for name in _DIRECTORIES:
        path = root / name
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
    spread_directories(root / "snapshots")
    for name, content in _LAYOUT.items():
        if not (root / name).exists():
            write_file(root / name, content)


def _take_lock(root: Path) -> int:
    """An exclusive flock on <root>/lock, with our process id in it."""
    if not root.is_dir():
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
    fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 0.2  # a process that is just ending
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
                os.close(fd)
                raise StoreLocked(
                    f"{root} is in use by process {holder or '(unknown)'}",
                    hint="stop that daemon, or use another data root (BUILDTOOL_ROOT)",
                ) from None
            time.sleep(0.02)
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def _cannot_chown() -> bool:
    """Whether files can only belong to one id: a plain user, or a user namespace that maps a single one."""
    if os.geteuid() != 0:
        return True
    return in_user_namespace() and _mapped_ids() <= 1


def _mapped_ids() -> int:
    with Path("/proc/self/uid_map").open() as table:
        return sum(int(line.split()[2]) for line in table)
