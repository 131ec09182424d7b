from __future__ import annotations

import os
import time

import pytest

from buildtool.cache import Pins, SnapshotId, Store
from buildtool.cache import gc as gc_module
from buildtool.oci import Descriptor, Digest, media_types, sha256


@pytest.fixture(autouse=True)
def exact_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc_module, "_CLOCK_SLACK", 0.0)


def commit(store: Store, size: int = 10) -> SnapshotId:
    with store.snapshots.prepare() as draft:
        (draft.fs / "f").write_bytes(b"x" * size)
        return draft.commit()


def old_blob(store: Store, data: bytes) -> Digest:
    digest = store.blobs.put(data)
    os.utime(store.blobs.path(digest), (1, 1))
    return digest


def present(store: Store) -> list[int]:
    return [int(snapshot.id) for snapshot in store.snapshots.all()]


def test_only_what_is_pinned_stays(store: Store) -> None:
    kept, gone = commit(store), commit(store)
    kept_blob, gone_blob = old_blob(store, b"kept"), old_blob(store, b"gone")

    report = store.gc(Pins({kept_blob}, {kept}))

    assert present(store) == [kept]
    assert list(store.blobs.list()) == [kept_blob]
    assert report.snapshots == [gone]
    assert report.blobs == [gone_blob]
    assert report.bytes >= 4096
    assert not store.snapshots.fs(gone).exists()
    assert store.check() == []


def test_pins_of_several_owners_are_united_and_as_old_as_the_oldest() -> None:
    a, b = Pins({sha256(b"a")}, {SnapshotId(1)}, 10.0), Pins({sha256(b"b")}, {SnapshotId(2)}, 5.0)

    assert a | b == Pins({sha256(b"a"), sha256(b"b")}, {SnapshotId(1), SnapshotId(2)}, 5.0)


def test_what_a_lease_names_stays_until_it_ends(store: Store) -> None:
    snapshot = commit(store)
    blob = old_blob(store, b"leased")

    with store.leases.hold("a build") as lease:
        lease.snapshot(snapshot)
        lease.blob(blob)
        store.gc(Pins())
        assert present(store) == [snapshot]
        assert store.blobs.has(blob)

    time.sleep(0.01)
    store.gc(Pins())
    assert present(store) == []
    assert not store.blobs.has(blob)


def test_what_was_made_since_a_lease_began_stays_without_being_named(store: Store) -> None:
    before = commit(store)
    time.sleep(0.02)
    with store.leases.hold("a build"):
        made = commit(store)
        blob = store.blobs.put(b"made")
        time.sleep(0.02)

        store.gc(Pins())

        assert present(store) == [made]
        assert store.blobs.has(blob)
        assert before not in present(store)


def test_a_lease_that_ended_after_the_pins_were_taken_still_counts(store: Store) -> None:
    with store.leases.hold("a build that registers its image between pins and gc"):
        made = commit(store)
        time.sleep(0.02)
        pins = Pins()
        time.sleep(0.02)

    store.gc(pins)

    assert present(store) == [made]


def test_a_reused_layer_counts_as_made_again(store: Store) -> None:
    diff_id = sha256(b"layer")
    with store.snapshots.prepare() as draft:
        snapshot = draft.commit(diff_id=diff_id)
    store.state.query("UPDATE snapshots SET created = 1, used = 1")

    with store.leases.hold("a pull"):
        assert store.layers.find(diff_id) == snapshot
        store.gc(Pins())

    assert present(store) == [snapshot]


def test_kept_records_keep_what_they_need(store: Store) -> None:
    snapshot = commit(store)
    blob = old_blob(store, b"config")
    store.actions.put(sha256(b"k"), {"snapshots": [snapshot], "blobs": [blob]})
    time.sleep(0.01)

    store.gc(Pins())

    assert present(store) == [snapshot]
    assert store.blobs.has(blob)


def test_all_records_go_when_asked_and_with_them_what_only_they_needed(store: Store) -> None:
    pinned, cached = commit(store), commit(store)
    store.actions.put(sha256(b"1"), {"snapshots": [pinned]})
    store.actions.put(sha256(b"2"), {"snapshots": [pinned, cached]})
    time.sleep(0.01)

    report = store.gc(Pins(snapshots={pinned}), actions="all")

    assert present(store) == [pinned]
    assert list(store.actions) == []
    assert report.actions == 2


def test_unused_records_are_those_that_need_more_than_the_pins(store: Store) -> None:
    pinned, cached = commit(store), commit(store)
    store.actions.put(sha256(b"1"), {"snapshots": [pinned]})
    store.actions.put(sha256(b"2"), {"snapshots": [pinned, cached]})
    time.sleep(0.01)

    store.gc(Pins(snapshots={pinned}), actions="unused")

    assert present(store) == [pinned]
    assert list(store.actions) == [sha256(b"1")]


def test_records_used_lately_are_spared(store: Store) -> None:
    old, new = commit(store), commit(store)
    store.actions.put(sha256(b"old"), {"snapshots": [old]})
    time.sleep(0.02)
    limit = time.time()
    store.actions.put(sha256(b"new"), {"snapshots": [new]})
    time.sleep(0.02)

    store.gc(Pins(), unused_since=limit)

    assert list(store.actions) == [sha256(b"new")]
    assert present(store) == [new]


def test_a_size_limit_drops_the_least_recently_used_first(store: Store) -> None:
    snapshots = [commit(store, 100_000) for _ in range(4)]
    for number, snapshot in enumerate(snapshots):
        store.actions.put(sha256(b"%d" % number), {"snapshots": [snapshot]})
        time.sleep(0.005)
    store.actions.get(sha256(b"0"))
    time.sleep(0.01)

    store.gc(Pins(snapshots={snapshots[1]}), max_cache_bytes=250_000)

    assert present(store) == [snapshots[0], snapshots[1], snapshots[3]]
    assert sha256(b"2") not in list(store.actions)


def test_a_record_of_something_gone_is_dropped(store: Store) -> None:
    store.actions.put(sha256(b"k"), {"snapshots": [12345]})

    assert store.gc(Pins()).actions == 1
    assert list(store.actions) == []


def test_compressed_forms_of_kept_layers_stay_until_everything_is_pruned(store: Store) -> None:
    snapshot = commit(store)
    diff_id, _ = store.layers.diff_id(snapshot, 0)
    blob = old_blob(store, b"compressed form")
    other = old_blob(store, b"form of another layer")
    store.layers.remember_blob(diff_id, Descriptor(media_types.LAYER_GZIP, blob, 15))
    store.layers.remember_blob(sha256(b"gone"), Descriptor(media_types.LAYER_GZIP, other, 21))

    store.gc(Pins(snapshots={snapshot}))
    assert [descriptor.digest for descriptor in store.layers.blobs_of(diff_id)] == [blob]
    assert not store.blobs.has(other)
    assert store.check() == []

    store.gc(Pins(snapshots={snapshot}), actions="all")
    assert store.layers.blobs_of(diff_id) == []
    assert store.check() == []


def test_leftovers_go_but_not_the_work_in_progress(store: Store) -> None:
    (store.root / "snapshots/12345/fs").mkdir(parents=True)
    (store.root / "ingest/stale").write_text("x")

    with store.snapshots.prepare() as draft, store.blobs.ingest() as ingest:
        report = store.gc(Pins())
        assert draft.fs.is_dir()
        assert ingest.path.exists()

    assert report.leftovers == 2
    assert os.listdir(store.root / "snapshots") == []
