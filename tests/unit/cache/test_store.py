from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buildtool.cache import Store
from buildtool.cache import store as store_module
from buildtool.errors import Forbidden, NotFound, StoreLocked
from buildtool.oci import sha256

KEY = sha256(b"key")


def reboot(store: Store) -> Store:
    """The store as it is opened after the machine went down."""
    store.state.set_meta("boot_id", "another boot")
    store.close()
    return Store.open(store.root)


def commit(store: Store, name: str = "f") -> int:
    with store.snapshots.prepare() as draft:
        (draft.fs / name).write_text(name)
        return draft.commit()


def test_the_root_is_an_oci_image_layout(store: Store) -> None:
    assert json.loads((store.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((store.root / "index.json").read_text())["manifests"] == []
    assert (store.root / "blobs/sha256").is_dir()


def test_an_index_written_by_its_owner_survives_reopening(store: Store) -> None:
    (store.root / "index.json").write_text('{"schemaVersion":2,"manifests":[],"mine":1}')
    store.close()

    with Store.open(store.root):
        assert "mine" in (store.root / "index.json").read_text()


def test_opening_takes_less_than_ten_milliseconds(store: Store) -> None:
    store.blobs.put(b"x")
    commit(store)
    store.actions.put(KEY, {})
    store.close()

    times = []
    for _ in range(5):
        begin = time.process_time()
        Store.open(store.root).close()
        times.append(time.process_time() - begin)

    assert min(times) < 0.010


def test_opening_does_not_load_diskcache(tmp_path: Path) -> None:
    code = f"""if True:
        import sys
        from pathlib import Path
        from buildtool.cache import Store
        Store.open(Path({str(tmp_path)!r}) / "root").close()
        assert "diskcache" not in sys.modules
        """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_overlay_helper_loads_nothing_heavy() -> None:
    code = """if True:
        import sys
        import buildtool.cache.overlay
        heavy = {"msgspec", "sqlite3", "diskcache", "typing", "pathlib", "asyncio"} & set(sys.modules)
        assert not heavy, heavy
        """
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {os.getcwd()!r})\n{code}"], check=True
    )


def test_a_second_process_is_told_who_holds_the_store(store: Store) -> None:
    code = f"from pathlib import Path; from buildtool.cache import Store; Store.open(Path({str(store.root)!r}))"
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert second.returncode == 1
    assert "StoreLocked" in second.stderr
    assert f"process {os.getpid()}" in second.stderr


def test_the_same_process_cannot_open_it_twice_but_after_close(store: Store) -> None:
    with pytest.raises(StoreLocked):
        Store.open(store.root)

    store.close()
    Store.open(store.root).close()


def test_readonly_looks_while_another_has_it_open_and_changes_nothing(store: Store) -> None:
    digest = store.blobs.put(b"x")
    snapshot = commit(store)
    store.actions.put(KEY, {"snapshots": [snapshot]})

    with Store.open(store.root, readonly=True) as readonly:
        assert readonly.blobs.read(digest) == b"x"
        assert readonly.snapshots.usage(snapshot) > 0
        assert readonly.actions.get(KEY) == {"snapshots": [snapshot]}
        assert readonly.check(repair=True) == []
        for write in (
            lambda: readonly.blobs.ingest(),
            lambda: readonly.snapshots.prepare(),
            lambda: readonly.actions.put(KEY, {}),
            lambda: readonly.state.documents("k").put("a", {}),
            lambda: readonly.gc(store_module.Pins()),
        ):
            with pytest.raises(Forbidden):
                write()


def test_readonly_of_nothing_is_not_found_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Store.open(tmp_path / "nothing", readonly=True)

    assert not (tmp_path / "nothing").exists()


def test_what_an_ended_process_left_is_removed_on_opening(store: Store) -> None:
    draft = store.snapshots.prepare()
    (draft.fs / "half").write_text("half")
    ingest = store.blobs.ingest()
    ingest.write(b"half")
    lease = store.leases.hold("a build")
    with lease:
        os.close(store._lock or 0)  # as if the process had been killed here
        store._lock = None
        with Store.open(store.root) as reopened:
            assert os.listdir(store.root / "ingest") == []
            assert os.listdir(store.root / "snapshots") == []
            assert reopened.state.query("SELECT * FROM leases") == []
            assert reopened.check() == []


def test_after_a_power_cut_only_what_was_synced_is_left(store: Store) -> None:
    synced = commit(store, "synced")
    store.snapshots.sync()
    unsynced = commit(store, "unsynced")
    store.actions.put(KEY, {"snapshots": [synced]})
    store.actions.put(sha256(b"2"), {"snapshots": [synced, unsynced]})
    blob = store.blobs.put(b"blobs are synced one by one")

    with reboot(store) as after:
        assert [snapshot.id for snapshot in after.snapshots.all()] == [synced]
        assert os.listdir(after.root / "snapshots") == [str(synced)]
        assert list(after.actions) == [KEY]
        assert after.blobs.has(blob)
        assert after.check() == []
        assert commit(after) > unsynced


def test_the_same_boot_keeps_what_was_not_synced(store: Store) -> None:
    snapshot = commit(store)
    store.close()

    with Store.open(store.root) as after:
        assert after.snapshots.has(snapshot)
        assert not after.snapshots.get(snapshot).durable


def test_check_finds_and_repairs_every_kind_of_damage(store: Store) -> None:
    good, bad, lost = (store.blobs.put(data) for data in (b"good", b"bad", b"lost"))
    snapshot, missing = commit(store), commit(store)
    store.layers.diff_id(snapshot, 0)
    store.actions.put(KEY, {"snapshots": [missing], "blobs": [good]})
    store.actions.put(sha256(b"2"), {"snapshots": [snapshot], "blobs": [good]})
    store.state.query("INSERT INTO tars VALUES (77, '', ?, 1)", (good,))
    store.state.query("INSERT INTO layer_blobs VALUES (?, ?, x'00')", (good, lost))
    assert [problem.kind for problem in store.check()] == ["dangling"]

    store.blobs.path(bad).write_bytes(b"rotten")
    store.blobs.path(lost).unlink()
    os.rename(store.snapshots.fs(missing).parent, store.root / "snapshots/999")
    (store.root / "ingest/left").write_text("x")
    (store.root / "blobs/sha256/nonsense").write_text("x")
    (store.root / "index.json").write_text("{")

    found = sorted(problem.kind for problem in store.check())
    repaired = store.check(repair=True)

    assert found == sorted(
        [
            "corrupt-blob",
            "missing-snapshot",
            "dangling",
            "dangling",
            "dangling",
            "leftover",
            "leftover",
            "leftover",
            "layout",
        ]
    )
    assert all(problem.repaired for problem in repaired)
    assert store.check() == []
    assert store.blobs.has(good)
    assert not store.blobs.has(bad)
    assert list(store.actions) == [sha256(b"2")]


def test_check_does_not_take_the_work_of_this_process_for_damage(store: Store) -> None:
    with store.snapshots.prepare() as draft, store.blobs.ingest() as ingest:
        ingest.write(b"x")
        assert store.check(repair=True) == []
        assert draft.fs.is_dir()
        assert ingest.path.exists()


def test_check_reports_a_damaged_database(store: Store) -> None:
    commit(store)
    for number in range(200):
        store.state.documents("k").put(str(number), {"x": "y" * 500})
    store.close()
    path = store.root / "state.db"
    data = bytearray(path.read_bytes())
    data[8192:40960] = os.urandom(40960 - 8192)
    path.write_bytes(data)

    with Store.open(store.root, readonly=True) as damaged:
        problems = damaged.check()

    assert "database" in {problem.kind for problem in problems}
