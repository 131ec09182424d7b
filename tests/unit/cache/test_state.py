from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from buildtool.cache import state
from buildtool.cache.state import StateDB
from buildtool.errors import Conflict, Corrupt, Forbidden


@pytest.fixture
def db(tmp_path: Path) -> StateDB:
    return StateDB(tmp_path / "state.db")


def test_documents_are_kept_by_kind_and_key(db: StateDB) -> None:
    containers, images = db.documents("container"), db.documents("image")
    containers.put("a", {"x": 1})
    containers.put("b", {"x": [None, "ü", 1.5]}, durable=True)
    images.put("a", {})

    assert containers.get("a") == {"x": 1}
    assert list(containers.items()) == [("a", {"x": 1}), ("b", {"x": [None, "ü", 1.5]})]
    assert containers.delete("a")
    assert not containers.delete("a")
    assert containers.get("a") is None
    assert images.get("a") == {}


def test_an_iteration_sees_the_documents_of_its_beginning(db: StateDB) -> None:
    documents = db.documents("k")
    documents.put("a", {})
    documents.put("b", {})

    seen = [key for key, _ in documents.items() if documents.delete(key)]

    assert seen == ["a", "b"]


def test_a_transaction_is_all_or_nothing(db: StateDB) -> None:
    documents = db.documents("k")

    with pytest.raises(RuntimeError), db.transaction():
        documents.put("a", {})
        with db.transaction(durable=True):
            documents.put("b", {})
        raise RuntimeError

    assert list(documents.items()) == []
    with db.transaction():
        documents.put("a", {})
    assert documents.get("a") == {}


def test_transactions_of_threads_do_not_mix(db: StateDB) -> None:
    documents = db.documents("counter")
    documents.put("n", {"n": 0})

    def work() -> None:
        for _ in range(50):
            with db.transaction():
                current = documents.get("n")
                assert current is not None
                documents.put("n", {"n": current["n"] + 1})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert documents.get("n") == {"n": 200}


def test_what_was_committed_is_there_after_reopening(tmp_path: Path, db: StateDB) -> None:
    db.documents("k").put("a", {"x": 1}, durable=True)
    db.close()

    assert StateDB(tmp_path / "state.db").documents("k").get("a") == {"x": 1}


def test_an_older_schema_is_migrated_with_its_data(
    tmp_path: Path, db: StateDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.documents("k").put("a", {"x": 1})
    db.close()
    step = "ALTER TABLE documents ADD COLUMN extra TEXT DEFAULT 'new'; CREATE TABLE more (x)"
    monkeypatch.setattr(state, "MIGRATIONS", (*state.MIGRATIONS, step))

    with pytest.raises(Conflict, match="older schema"):
        StateDB(tmp_path / "state.db", readonly=True)
    migrated = StateDB(tmp_path / "state.db")

    assert migrated.version() == len(state.MIGRATIONS)
    assert migrated.documents("k").get("a") == {"x": 1}
    assert migrated.query("SELECT extra FROM documents") == [("new",)]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, db: StateDB, monkeypatch: pytest.MonkeyPatch) -> None:
    db.close()
    monkeypatch.setattr(
        state, "MIGRATIONS", (*state.MIGRATIONS, "CREATE TABLE more (x); SELECT nonsense FROM nowhere")
    )
    with pytest.raises(sqlite3.Error):
        StateDB(tmp_path / "state.db")
    monkeypatch.undo()

    reopened = StateDB(tmp_path / "state.db")

    assert reopened.version() == len(state.MIGRATIONS)
    assert reopened.query("SELECT name FROM sqlite_master WHERE name = 'more'") == []


def test_a_newer_schema_is_refused(tmp_path: Path, db: StateDB) -> None:
    db.query("PRAGMA user_version=999")
    db.close()

    with pytest.raises(Conflict, match="schema version 999"):
        StateDB(tmp_path / "state.db")


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database at all " * 1000)

    with pytest.raises(Corrupt, match="damaged"):
        StateDB(tmp_path / "state.db")


def test_a_readonly_database_refuses_writes(tmp_path: Path, db: StateDB) -> None:
    db.documents("k").put("a", {"x": 1})
    db.close()
    readonly = StateDB(tmp_path / "state.db", readonly=True)

    assert readonly.documents("k").get("a") == {"x": 1}
    with pytest.raises(Forbidden, match="reading only"):
        readonly.documents("k").put("b", {})
