"""Action records: cache key → what the step made. The only module that knows diskcache.

diskcache would pickle values, which is code execution for whoever can write its directory: here it gets JSON only,
and rows that claim to be pickles are refused. The store has one process at a time, so records read once are answered
from memory, and the times of use are written in batches.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from buildtool.cache.disk import FullDisk, is_disk_full, remove_tree
from buildtool.errors import Forbidden, StoreFull
from buildtool.oci.digest import Digest

_IN_MEMORY = 4096
_FLUSH_AFTER = 1 << 14


@dataclass(frozen=True, slots=True)
class ActionEntry:
    """A record with the time it was last put or got, how often it was got since it was made, and when that was."""

    key: Digest
    used: float
    record: dict[str, Any]
    hits: int = 0
    created: float = 0.0

    def snapshots(self) -> list[int]:
        """The snapshots the record needs."""
        return [int(number) for number in self.record.get("snapshots", ())]

    def blobs(self) -> list[str]:
        """The blobs the record needs."""
        return [str(digest) for digest in self.record.get("blobs", ())]


class ActionCache:
    """Records named by key. Thread-safe; opened on first use. A damaged index is dropped: it is only a cache.

    A record is a JSON object; under "snapshots" ([int…]) and "blobs" ([digest…]) it names what gc has to keep with
    it.
    """

    def __init__(self, root: Path, *, readonly: bool = False) -> None:
        self.directory = root / "actions"
        self.readonly = readonly
        self._lock = threading.RLock()
        self._index: Any = None
        self._memory: OrderedDict[Digest, bytes] = OrderedDict()
        self._touched: dict[Digest, tuple[float, int]] = {}
        self._flushed = time.monotonic()

    def get(self, key: Digest) -> dict[str, Any] | None:
        """The record, or None; it counts as used now."""
        with self._lock:
            body = self._body(key)
            if body is None:
                return None
            self._touched[key] = (time.time(), self._touched.get(key, (0.0, 0))[1] + 1)
            if len(self._touched) > _FLUSH_AFTER:
                self.flush()
        record: dict[str, Any] = msgspec.json.decode(body)
        return record

    def get_all(self, keys: Iterable[Digest]) -> dict[Digest, dict[str, Any]]:
        """The records of these keys that there are; they count as used now."""
        with self._lock:
            return {key: record for key in dict.fromkeys(keys) if (record := self.get(key)) is not None}

    def peek(self, key: Digest) -> dict[str, Any] | None:
        """The record, or None, without using it."""
        with self._lock:
            body = self._body(key)
        record: dict[str, Any] | None = msgspec.json.decode(body) if body is not None else None
        return record

    def _body(self, key: Digest) -> bytes | None:
        body = self._memory.get(key)
        if body is None:
            entry = self._read(key)
            if entry is None:
                return None
            body = msgspec.json.encode(entry.record)
            self._remember(key, body)
        return body

    def put(self, key: Digest, record: dict[str, Any]) -> None:
        """Insert or replace."""
        self._writable()
        body = msgspec.json.encode(record)
        with self._lock, self._guard():
            self._touched.pop(key, None)
            self._memory.pop(key, None)
            now = time.time()
            self._open().set(key, {"used": now, "created": now, "hits": 0, "record": msgspec.json.decode(body)})
            self._remember(key, body)

    def delete(self, key: Digest) -> bool:
        """Remove; tells whether it was there."""
        self._writable()
        with self._lock, self._guard():
            self._touched.pop(key, None)
            self._memory.pop(key, None)
            return bool(self._open().delete(key))

    def __iter__(self) -> Iterator[Digest]:
        """The keys as they were when the iteration began."""
        with self._lock:
            index = self._open_existing()
            return iter([] if index is None else [Digest(key) for key in index if isinstance(key, str)])

    def entries(self) -> list[ActionEntry]:
        """All records with their times of use. One that cannot be read is left out (and removed when writable)."""
        found = []
        for key in self:
            with self._lock:
                entry = self._read(key)
                if entry is not None:
                    used, more = self._touched.get(key, (entry.used, 0))
                    found.append(replace(entry, used=used, hits=entry.hits + more))
                elif not self.readonly:
                    self.delete(key)
        return found

    def flush(self, every: float = 0.0) -> None:
        """Write the pending times of use, unless that was done less than `every` seconds ago."""
        with self._lock:
            if every and time.monotonic() - self._flushed < every:
                return
            self._flushed = time.monotonic()
            if self.readonly or not self._touched:
                self._touched.clear()
                return
            touched, self._touched = self._touched, {}
            with self._guard(), self._open().transact():
                for key, (used, more) in touched.items():
                    entry = self._read(key)
                    if entry is not None:
                        value = {"used": used, "created": entry.created, "hits": entry.hits + more}
                        self._index.set(key, value | {"record": entry.record})

    def exists(self) -> bool:
        """Whether there is an index on disk at all."""
        return (self.directory / "cache.db").exists()

    def integrity_faults(self) -> list[str]:
        """What SQLite's integrity check says about the index; empty when all is well."""
        if not self.exists():
            return []
        try:
            mode = "ro" if self.readonly else "rw"  # a killed writer's journal is rolled back by whoever may write
            uri = f"{(self.directory / 'cache.db').absolute().as_uri()}?mode={mode}"
            connection = sqlite3.connect(uri, uri=True)
            try:
                return [str(row[0]) for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            return [str(error)]

    def clear(self) -> None:
        """Drop the whole index, readable or not."""
        self._writable()
        with self._lock:
            self.close(flush=False)
            self._memory.clear()
            remove_tree(self.directory)
            self.directory.mkdir(mode=0o700)

    def close(self, *, flush: bool = True) -> None:
        """Write what is pending and close the index; it opens again on use."""
        with self._lock:
            if flush:
                with suppress(StoreFull):  # only the times of use are lost
                    self.flush()
            self._touched.clear()
            if self._index is not None:
                self._index.close()
                self._index = None

    def _read(self, key: Digest) -> ActionEntry | None:
        index = self._open_existing()
        if index is None:
            return None
        try:
            value = index.get(key)
        except (ValueError, Forbidden):
            return None
        if not isinstance(value, dict) or not isinstance(value.get("record"), dict):
            return None
        used = float(value.get("used", 0.0))
        return ActionEntry(key, used, value["record"], int(value.get("hits", 0)), float(value.get("created") or used))

    def _remember(self, key: Digest, body: bytes) -> None:
        self._memory[key] = body
        if len(self._memory) > _IN_MEMORY:
            self._memory.popitem(last=False)

    def _open_existing(self) -> Any:
        """The index for reading, or None. Opening diskcache's writes: not for readers, and not on a full disk."""
        if self._index is not None:
            return self._index
        if not self.exists():
            return None
        if self.readonly:
            return _ReadonlyIndex(self.directory)
        try:
            return self._open()
        except StoreFull:
            return _ReadonlyIndex(self.directory)

    def _open(self) -> Any:
        if self._index is None:
            with FullDisk(self.directory):
                try:
                    self._index = _open_index(self.directory)
                except sqlite3.DatabaseError as error:
                    if is_disk_full(error, self.directory):
                        raise
                    remove_tree(self.directory)
                    self.directory.mkdir(mode=0o700)
                    self._index = _open_index(self.directory)
        return self._index

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """A full disk as StoreFull. diskcache hides it behind its Timeout, which we cannot get: we are the only
        process.
        """
        import diskcache

        with FullDisk(self.directory):
            try:
                yield
            except diskcache.Timeout as error:
                raise OSError(errno.ENOSPC, f"the index of action records cannot be written: {error}") from error

    def _writable(self) -> None:
        if self.readonly:
            raise Forbidden(f"{self.directory} is open for reading only")


class _ReadonlyIndex:
    """diskcache's table as `_open_index` has it written, read without diskcache."""

    def __init__(self, directory: Path) -> None:
        self._uri = f"{(directory / 'cache.db').absolute().as_uri()}?mode=ro"

    def get(self, key: str) -> Any:
        for other, value in self._rows():
            if other == key:
                return value
        return None

    def __iter__(self) -> Iterator[Any]:
        return iter([key for key, _ in self._rows()])

    def _rows(self) -> list[tuple[Any, Any]]:
        connection = sqlite3.connect(self._uri, uri=True, timeout=10)
        try:
            rows = connection.execute("SELECT key, value FROM Cache WHERE raw = 1 AND mode = 1").fetchall()
        finally:
            connection.close()
        return [(_plain(key), _plain(value)) for key, value in rows]


def _plain(value: object) -> Any:
    try:
        return msgspec.json.decode(zlib.decompress(value)) if isinstance(value, bytes) else None
    except (zlib.error, msgspec.DecodeError):
        return None


def _open_index(directory: Path) -> Any:
    """The diskcache index: JSON values inside the database file (no side files), nothing culled behind our back."""
    import diskcache

    class RefusingPickles(diskcache.JSONDisk):  # type: ignore[misc]
        def get(self, key: Any, raw: Any) -> Any:
            try:
                return super().get(key, raw) if raw else None
            except (ValueError, TypeError, zlib.error):
                return None

        def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> Any:
            if mode != diskcache.core.MODE_RAW or not isinstance(value, bytes):
                raise Forbidden(f"{directory}: a record is not JSON")
            try:
                return msgspec.json.decode(zlib.decompress(value))
            except (zlib.error, msgspec.DecodeError) as error:
                raise ValueError(f"{directory}: {error}") from error

    return diskcache.Cache(
        str(directory),
        disk=RefusingPickles,
        disk_min_file_size=1 << 30,
        eviction_policy="none",
        cull_limit=0,
        size_limit=1 << 50,
        statistics=0,
        tag_index=0,
    )
