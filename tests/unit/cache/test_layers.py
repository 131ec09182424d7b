from __future__ import annotations

import io
import os
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from buildtool.cache import SnapshotId, Store, compress
from buildtool.errors import Corrupt, InvalidInput, NotFound
from buildtool.oci import Descriptor, media_types, sha256
from tests.unit.cache.conftest import Tar
from tests.unit.cache.trees import contents

DATA = Tar().directory("d").file("d/f", b"content", uid=5).symlink("l", "d/f").bytes()


def nothing_left(store: Store) -> bool:
    return not os.listdir(store.root / "snapshots") and not os.listdir(store.root / "ingest") and store.check() == []


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
@pytest.mark.parametrize("told", [True, False])
def test_a_layer_is_unpacked_and_verified_in_one_pass(store: Store, compression: str, told: bool) -> None:
    stream = io.BytesIO(b"".join(compress(iter([DATA]), compression)))

    snapshot = store.layers.unpack(
        stream, compression=compression if told else "auto", parents=[], expected_diff_id=sha256(DATA)
    )

    assert store.snapshots.get(snapshot).diff_id == sha256(DATA)
    assert (store.snapshots.fs(snapshot) / "l").read_bytes() == b"content"
    assert store.layers.find(sha256(DATA)) == snapshot


def test_a_blob_is_unpacked_by_its_digest(store: Store) -> None:
    blob = store.blobs.put(b"".join(compress(iter([DATA]), "gzip")))

    snapshot = store.layers.unpack(blob, compression="gzip", parents=[], expected_diff_id=sha256(DATA))

    assert (store.snapshots.fs(snapshot) / "d/f").exists()
    with pytest.raises(NotFound):
        store.layers.unpack(sha256(b"no such blob"))


def test_another_diff_id_is_refused_and_leaves_nothing(store: Store) -> None:
    with pytest.raises(Corrupt, match=sha256(DATA)):
        store.layers.unpack(io.BytesIO(DATA), expected_diff_id=sha256(b"other"))

    assert nothing_left(store)


@pytest.mark.parametrize(
    "data",
    [
        DATA[:700],
        b"garbage" * 1000,
        b"\x1f\x8b" + b"garbage" * 1000,
        b"".join(compress(iter([DATA]), "gzip"))[:-9],
        b"".join(compress(iter([DATA]), "zstd"))[:-9],
        Tar().file("fine").file("../evil").bytes(),
    ],
)
def test_a_bad_archive_is_refused_by_name_and_leaves_nothing(store: Store, data: bytes) -> None:
    blob = store.blobs.put(data)

    with pytest.raises(InvalidInput, match=blob):
        store.layers.unpack(blob)

    store.blobs.path(blob).unlink()
    assert nothing_left(store)


def test_the_same_layer_is_one_snapshot(store: Store) -> None:
    first = store.layers.unpack(io.BytesIO(DATA))
    unread = io.BytesIO(DATA)

    assert store.layers.unpack(io.BytesIO(b"".join(compress(iter([DATA]), "zstd")))) == first
    assert store.layers.unpack(unread, expected_diff_id=sha256(DATA)) == first
    assert unread.tell() == 0
    assert [snapshot.id for snapshot in store.snapshots.all()] == [first]


def test_a_layer_that_takes_nothing_from_below_is_shared_by_all_bases(store: Store) -> None:
    bases = [store.layers.unpack(Tar().directory(name).stream()) for name in ("x", "y")]

    unpacked = {
        store.layers.unpack(io.BytesIO(DATA), parents=[base], expected_diff_id=sha256(DATA)) for base in bases
    }

    assert len(unpacked) == 1


def test_a_layer_that_takes_something_from_below_belongs_to_its_base(store: Store) -> None:
    layer = Tar().file("d/f").bytes()
    bases = [store.layers.unpack(Tar().directory("d", mode=mode).stream()) for mode in (0o700, 0o711)]

    unpacked = [store.layers.unpack(io.BytesIO(layer), parents=[base]) for base in bases]
    again = [store.layers.unpack(io.BytesIO(layer), parents=[b], expected_diff_id=sha256(layer)) for b in bases]

    assert again == unpacked
    modes = [stat.S_IMODE(os.lstat(store.snapshots.fs(number) / "d").st_mode) for number in unpacked]
    assert modes == [0o700, 0o711]
    assert store.layers.find(sha256(layer)) is None
    assert store.layers.find(sha256(layer), store.layers.base([bases[1]])) == unpacked[1]


def test_the_same_layer_asked_for_at_once_is_unpacked_once(store: Store) -> None:
    data = Tar().file("f", b"x" * 3_000_000).bytes()
    results: list[object] = []

    def work() -> None:
        try:
            results.append(store.layers.unpack(io.BytesIO(data), expected_diff_id=sha256(data)))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [results[0]] * 6
    assert os.listdir(store.root / "snapshots") == [str(results[0])]


def snapshot_of(store: Store, names: str) -> SnapshotId:
    with store.snapshots.prepare() as draft:
        for name in names:
            (draft.fs / name).write_text(name)
            os.utime(draft.fs / name, (2_000_000_000, 2_000_000_000))
        return draft.commit()


def test_the_diff_id_is_of_the_archive_and_remembered(store: Store) -> None:
    snapshot = snapshot_of(store, "abc")
    data = b"".join(store.layers.tar(snapshot, 1000))

    assert store.layers.diff_id(snapshot, 1000) == (sha256(data), len(data))
    assert store.layers.diff_id(snapshot, None) != store.layers.diff_id(snapshot, 1000)
    (store.snapshots.fs(snapshot) / "a").unlink()
    assert store.layers.diff_id(snapshot, 1000) == (sha256(data), len(data))


def test_equal_trees_have_equal_diff_ids_whatever_their_times(store: Store) -> None:
    assert store.layers.diff_id(snapshot_of(store, "abc"), 0) == store.layers.diff_id(snapshot_of(store, "cab"), 0)


def test_a_snapshot_survives_the_way_through_its_archive(store: Store) -> None:
    first = snapshot_of(store, "abc")
    diff_id, size = store.layers.diff_id(first, 1000)

    packed = b"".join(compress(store.layers.tar(first, 1000), "gzip"))
    second = store.layers.unpack(io.BytesIO(packed), expected_diff_id=diff_id)

    assert store.layers.diff_id(second, None) == (diff_id, size)
    assert contents(store.snapshots.fs(second)).keys() == contents(store.snapshots.fs(first)).keys()


def test_an_absent_snapshot_has_no_archive(store: Store) -> None:
    with pytest.raises(NotFound):
        store.layers.tar(SnapshotId(77))


def test_a_layer_without_entries_is_empty(store: Store) -> None:
    assert store.layers.is_empty(snapshot_of(store, ""))
    assert not store.layers.is_empty(snapshot_of(store, "a"))


def test_compressed_forms_are_remembered_while_they_are_there(store: Store) -> None:
    diff_id = sha256(DATA)
    descriptors = []
    for kind in ("gzip", "zstd"):
        data = b"".join(compress(iter([DATA]), kind))
        annotations = {"kind": kind}
        descriptors.append(Descriptor(f"{media_types.LAYER}+{kind}", store.blobs.put(data), len(data), annotations))
        store.layers.remember_blob(diff_id, descriptors[-1])

    assert sorted(store.layers.blobs_of(diff_id), key=lambda d: d.media_type) == descriptors
    store.blobs.path(descriptors[0].digest).unlink()
    assert store.layers.blobs_of(diff_id) == descriptors[1:]


def test_other_tools_accept_the_archive(store: Store, tmp_path: Path) -> None:
    snapshot = store.layers.unpack(io.BytesIO(DATA))
    (tmp_path / "out").mkdir()
    data = b"".join(store.layers.tar(snapshot))

    subprocess.run(["busybox", "tar", "-C", str(tmp_path / "out"), "-xpf", "-"], input=data, check=True)

    assert contents(tmp_path / "out", times=False) == contents(store.snapshots.fs(snapshot), times=False)


def test_cached_questions_are_quick(store: Store) -> None:
    """A fully cached build asks dozens of these."""
    snapshot = store.layers.unpack(io.BytesIO(DATA))
    store.layers.diff_id(snapshot, 0)
    blob = store.blobs.put(b"x")
    key = sha256(b"key")
    store.actions.put(key, {"snapshots": [snapshot]})

    begin = time.process_time()
    for _ in range(100):
        store.actions.get(key)
        store.snapshots.get(snapshot)
        store.layers.diff_id(snapshot, 0)
        store.blobs.has(blob)

    assert (time.process_time() - begin) / 100 < 0.001
