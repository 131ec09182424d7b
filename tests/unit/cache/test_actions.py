from __future__ import annotations

import os
import pickle
import sqlite3
import stat
import threading
import zlib
from pathlib import Path

import pytest

from buildtool.cache import ActionCache
from buildtool.oci import Digest, sha256

KEY = sha256(b"key")
OTHER = sha256(b"other")


@pytest.fixture
def actions(tmp_path: Path) -> ActionCache:
    (tmp_path / "actions").mkdir(mode=0o700)
    return ActionCache(tmp_path)


def test_a_record_is_read_back_also_by_the_next_process(tmp_path: Path, actions: ActionCache) -> None:
    record = {"snapshots": [1, 2], "nested": {"ü": None}, "large": "x" * 100_000}
    actions.put(KEY, record)

    assert actions.get(KEY) == record
    actions.close()
    assert ActionCache(tmp_path).get(KEY) == record
    assert ActionCache(tmp_path).get(OTHER) is None


def test_what_the_caller_does_to_a_record_does_not_change_it(actions: ActionCache) -> None:
    record = {"snapshots": [1]}
    actions.put(KEY, record)
    record["snapshots"].append(2)
    got = actions.get(KEY)
    assert got is not None
    got["snapshots"].append(3)

    assert actions.get(KEY) == {"snapshots": [1]}


def test_keys_are_listed_and_deleted(actions: ActionCache) -> None:
    actions.put(KEY, {})
    actions.put(OTHER, {})
    actions.put(OTHER, {"new": True})

    assert sorted(actions) == sorted([KEY, OTHER])
    assert actions.delete(KEY)
    assert not actions.delete(KEY)
    assert list(actions) == [OTHER]
    assert actions.get(KEY) is None


def test_a_get_makes_the_record_recently_used_across_processes(tmp_path: Path, actions: ActionCache) -> None:
    actions.put(KEY, {})
    actions.put(OTHER, {})
    before = {entry.key: entry.used for entry in actions.entries()}

    actions.get(KEY)
    actions.close()

    after = {entry.key: entry.used for entry in ActionCache(tmp_path).entries()}
    assert after[KEY] > before[OTHER] == after[OTHER]


def test_nothing_in_the_directory_is_a_pickle_or_a_side_file(actions: ActionCache) -> None:
    actions.put(KEY, {"x": "y" * 1_000_000})
    actions.close()

    assert [name for name in os.listdir(actions.directory) if not name.startswith("cache.db")] == []
    with sqlite3.connect(actions.directory / "cache.db") as db:
        for key, raw, mode, value in db.execute("SELECT key, raw, mode, value FROM Cache"):
            assert (raw, mode) == (1, 1)
            assert zlib.decompress(key)[:1] == b'"'
            assert zlib.decompress(value)[:1] == b"{"
    db.close()


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (self.path,))


def test_a_planted_pickle_is_never_run(tmp_path: Path, actions: ActionCache) -> None:
    actions.put(KEY, {"fine": True})
    actions.put(OTHER, {"fine": True})
    actions.close()
    bomb = pickle.dumps(_Bomb(str(tmp_path / "executed")))
    db = sqlite3.connect(actions.directory / "cache.db")
    db.execute("UPDATE Cache SET mode = 4, value = ? WHERE rowid = 1", (bomb,))
    db.commit()
    db.close()

    planted = ActionCache(tmp_path)
    records = [planted.get(key) for key in (KEY, OTHER)]

    assert records == [None, {"fine": True}]
    assert [entry.key for entry in planted.entries()] == [OTHER]
    assert list(planted) == [OTHER]
    assert not (tmp_path / "executed").exists()


def test_a_planted_pickle_as_key_is_never_run(tmp_path: Path, actions: ActionCache) -> None:
    actions.put(KEY, {"fine": True})
    actions.put(OTHER, {"fine": True})
    actions.close()
    bomb = pickle.dumps(_Bomb(str(tmp_path / "executed")))
    db = sqlite3.connect(actions.directory / "cache.db")
    db.execute("UPDATE Cache SET raw = 0, key = ? WHERE rowid = 1", (bomb,))
    db.commit()
    db.close()

    planted = ActionCache(tmp_path)

    assert list(planted) == [OTHER]
    assert planted.get(OTHER) == {"fine": True}
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("value", [b"garbage", zlib.compress(b"not json"), zlib.compress(b"[1]"), b""])
def test_a_damaged_record_is_a_miss(tmp_path: Path, actions: ActionCache, value: bytes) -> None:
    actions.put(KEY, {"fine": True})
    actions.close()
    db = sqlite3.connect(actions.directory / "cache.db")
    db.execute("UPDATE Cache SET value = ?", (value,))
    db.commit()
    db.close()

    damaged = ActionCache(tmp_path)

    assert damaged.get(KEY) is None
    assert damaged.entries() == []
    damaged.put(KEY, {"new": True})
    assert damaged.get(KEY) == {"new": True}


def test_a_damaged_index_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions/cache.db").write_bytes(b"no database " * 1000)
    actions = ActionCache(tmp_path)

    assert actions.integrity_faults() != []
    assert actions.get(KEY) is None
    actions.put(KEY, {"x": 1})
    assert actions.get(KEY) == {"x": 1}
    assert actions.integrity_faults() == []
    assert stat.S_IMODE((tmp_path / "actions").stat().st_mode) == 0o700


def test_many_threads_share_it(actions: ActionCache) -> None:
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(30):
                key = Digest(sha256(b"%d" % (i % 7)))
                actions.put(key, {"n": number})
                assert actions.get(key) is not None
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []
    assert len(list(actions)) == 7


def test_a_reader_writes_nothing(tmp_path: Path, actions: ActionCache) -> None:
    actions.put(KEY, {"x": 1})
    reader = ActionCache(tmp_path, readonly=True)
    before = {path.name: path.read_bytes() for path in actions.directory.iterdir() if path.suffix == ".db"}

    assert reader.get(KEY) == {"x": 1}
    assert reader.get(OTHER) is None
    assert list(reader) == [KEY]
    assert [entry.record for entry in reader.entries()] == [{"x": 1}]
    reader.close()

    assert {path.name: path.read_bytes() for path in actions.directory.iterdir() if path.suffix == ".db"} == before


def test_hits_are_counted_and_looking_is_no_use(tmp_path: Path) -> None:
    actions = ActionCache(tmp_path)
    (tmp_path / "actions").mkdir(exist_ok=True)
    key, other = sha256(b"a"), sha256(b"b")
    actions.put(key, {"n": 1})
    actions.get(key)
    assert set(actions.get_all([key, other, key])) == {key}
    actions.peek(key)
    (entry,) = actions.entries()
    assert entry.hits == 2
    actions.close()
    (entry,) = ActionCache(tmp_path).entries()
    assert entry.hits == 2
    assert 0 < entry.created <= entry.used
