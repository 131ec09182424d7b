"""state.db: the store's own tables and JSON documents of the services above, in one SQLite file.

WAL with synchronous=NORMAL: a killed process loses nothing, a power cut loses at most the newest transactions, never
consistency. `durable=True` adds the fsync that makes a transaction survive a power cut as well.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from buildtool.cache.disk import FullDisk
from buildtool.errors import Conflict, Corrupt, Forbidden

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE snapshots (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        created REAL NOT NULL,
        used REAL NOT NULL,
        size INTEGER,
        durable INTEGER NOT NULL DEFAULT 0,
        base TEXT NOT NULL DEFAULT '',
        diff_id TEXT
    );
    CREATE INDEX snapshots_by_diff_id ON snapshots (diff_id, base) WHERE diff_id IS NOT NULL;
    CREATE TABLE tars (
        snapshot INTEGER NOT NULL,
        epoch TEXT NOT NULL,
        diff_id TEXT NOT NULL,
        size INTEGER NOT NULL,
        PRIMARY KEY (snapshot, epoch)
    ) WITHOUT ROWID;
    CREATE TABLE layer_blobs (
        diff_id TEXT NOT NULL,
        digest TEXT NOT NULL,
        descriptor BLOB NOT NULL,
        PRIMARY KEY (diff_id, digest)
    ) WITHOUT ROWID;
    CREATE TABLE leases (id INTEGER PRIMARY KEY, note TEXT NOT NULL, created REAL NOT NULL);
    CREATE TABLE lease_items (
        lease INTEGER NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (lease, kind, name)
    ) WITHOUT ROWID;
    CREATE TABLE documents (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID;
    """,
)
"""Script n brings a database from schema version n to n + 1. Scripts are only ever appended."""


class StateDB:
    """One SQLite connection behind a lock: thread-safe, and a transaction excludes every other thread."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        """Open or create the database and bring its schema up to date.

        Raises Conflict when a newer buildtool wrote it, Corrupt when it is no SQLite database.
        """
        self.path = path
        self.readonly = readonly
        self._lock = threading.RLock()
        self._depth = 0
        self._durable = False
        mode = "ro" if readonly else "rwc"
        with FullDisk(path.parent), self._readable():
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, check_same_thread=False, isolation_level=None
            )
            try:
                self._configure()
                self._migrate()
            except BaseException:
                self._connection.close()
                raise

    def _configure(self) -> None:
        self._connection.execute("PRAGMA busy_timeout=10000")
        self._connection.execute("PRAGMA foreign_keys=ON")
        if not self.readonly:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")

    def _migrate(self) -> None:
        version = self.version()
        if version > len(MIGRATIONS):
            raise Conflict(
                f"{self.path} has schema version {version}, this buildtool knows {len(MIGRATIONS)}",
                hint="a newer buildtool wrote this data root: upgrade, or use another BUILDTOOL_ROOT",
            )
        if self.readonly and version < len(MIGRATIONS):
            raise Conflict(
                f"{self.path} has the older schema version {version}",
                hint="start the daemon once: it migrates the store",
            )
        for number in range(version, len(MIGRATIONS)):
            try:
                self._connection.executescript(
                    f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version={number + 1}; COMMIT;"
                )
            except sqlite3.Error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def version(self) -> int:
        """The schema version of the open database."""
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise Corrupt(
                    f"{self.path} is damaged: {error}", hint="restore it from a backup, or remove the data root"
                ) from error
            if code == sqlite3.SQLITE_READONLY:
                raise Forbidden(f"{self.path.parent} is open for reading only") from error
            raise

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return all its rows."""
        with self._lock, FullDisk(self.path.parent), self._readable():
            return self._connection.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing: commits at the end of the block, rolls back on an exception; nested blocks join the outer.

        `durable` fsyncs the log after the commit (a nested durable block makes the outer one durable).
        """
        with self._lock, FullDisk(self.path.parent), self._readable():
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
                self._durable = False
            self._depth += 1
            self._durable |= durable
            try:
                yield self._connection
            except BaseException:
                self._depth -= 1
                if self._depth == 0 and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._commit()

    def _commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        if self._durable:
            fd = os.open(f"{self.path}-wal", os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def documents(self, kind: str) -> Documents:
        """The JSON documents of one kind; whoever names the kind owns it and gives the documents their meaning."""
        return Documents(self, kind)

    def meta(self, key: str) -> str | None:
        """A value of the store's own bookkeeping."""
        rows = self.query("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def set_meta(self, key: str, value: str) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def integrity_faults(self) -> list[str]:
        """What SQLite's own integrity check says; empty when all is well."""
        try:
            rows = self.query("PRAGMA integrity_check") + self.query("PRAGMA foreign_key_check")
        except (sqlite3.DatabaseError, Corrupt) as error:
            return [str(error)]
        return [str(row[0]) for row in rows if row[0] != "ok"]

    def close(self) -> None:
        """Close the connection; afterwards every method fails."""
        with self._lock:
            self._connection.close()


class Documents:
    """A mapping from key to JSON object, kept in state.db."""

    def __init__(self, state: StateDB, kind: str) -> None:
        self._state = state
        self.kind = kind

    def get(self, key: str) -> dict[str, Any] | None:
        """The document, or None."""
        rows = self._state.query("SELECT body FROM documents WHERE kind = ? AND key = ?", (self.kind, key))
        return _decode(rows[0][0]) if rows else None

    def put(self, key: str, document: dict[str, Any], durable: bool = False) -> None:
        """Insert or replace."""
        body = msgspec.json.encode(document)
        with self._state.transaction(durable) as db:
            db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (self.kind, key, body))

    def delete(self, key: str) -> bool:
        """Remove; tells whether it was there."""
        with self._state.transaction() as db:
            return db.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (self.kind, key)).rowcount > 0

    def keys(self) -> list[str]:
        """All keys, sorted."""
        rows = self._state.query("SELECT key FROM documents WHERE kind = ? ORDER BY key", (self.kind,))
        return [str(row[0]) for row in rows]

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All documents in key order, as they were when the iteration began."""
        rows = self._state.query("SELECT key, body FROM documents WHERE kind = ? ORDER BY key", (self.kind,))
        return ((key, _decode(body)) for key, body in rows)


def _decode(body: bytes) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(body)
    return document
