"""A disk that runs full at every kind of write: StoreFull, nothing half-written, and it goes on with new room."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildtool.cache import Pins, Store
from buildtool.errors import StoreFull
from buildtool.oci import sha256
from tests.unit.cache.conftest import Tar


@pytest.fixture
def full(small_disk: Path) -> Iterator[Store]:
    with Store.open(small_disk / "root") as store:
        store.blobs.put(b"before")
        store.state.documents("k").put("before", {"x": 1})
        store.actions.put(sha256(b"before"), {})
        yield store


def fill(store: Store) -> Path:
    ballast = store.root.parent / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 65536
        while size >= 512:
            try:
                file.write(b"\xff" * size)
            except OSError:
                size //= 2
    return ballast


def assert_intact(store: Store) -> None:
    assert store.check() == []
    assert store.leftovers() == []
    assert store.blobs.read(sha256(b"before")) == b"before"
    assert store.state.documents("k").get("before") == {"x": 1}
    assert store.actions.get(sha256(b"before")) == {}


def put_blob(store: Store) -> None:
    store.blobs.put(os.urandom(200_000))


def ingest(store: Store) -> None:
    with store.blobs.ingest() as writer:
        for _ in range(20):
            writer.write(os.urandom(1 << 19))
        writer.commit()


def unpack_large(store: Store) -> None:
    store.layers.unpack(Tar().file("f", os.urandom(9 << 20)).stream())


def unpack_many(store: Store) -> None:
    tar = Tar()
    for number in range(200):
        tar.directory(f"d{number}").file(f"d{number}/f", b"x" * 5000)
    store.layers.unpack(io.BytesIO(tar.bytes()))


def put_document(store: Store) -> None:
    for number in range(100):
        store.state.documents("k").put(f"n{number}", {"x": "y" * 50_000})


def put_action(store: Store) -> None:
    for number in range(100):
        store.actions.put(sha256(b"%d" % number), {"x": os.urandom(50_000).hex()})


@pytest.mark.parametrize("write", [put_blob, ingest, unpack_large, unpack_many, put_document, put_action])
def test_a_write_on_a_full_disk_is_refused_and_leaves_the_store_intact(
    full: Store, write: Callable[[Store], None]
) -> None:
    ballast = fill(full)

    with pytest.raises(StoreFull, match=r"no space left.*\n.*free some space"):
        write(full)

    assert full.leftovers() == []
    ballast.unlink()
    assert_intact(full)
    assert full.blobs.has(full.blobs.put(b"after"))
    full.gc(Pins({sha256(b"before")}), actions="keep")
    assert_intact(full)


@pytest.mark.parametrize("write", [ingest, unpack_large])
def test_running_full_in_the_middle_leaves_the_space_as_it_was(full: Store, write: Callable[[Store], None]) -> None:
    before = os.statvfs(full.root).f_bfree

    with pytest.raises(StoreFull):
        write(full)

    assert os.statvfs(full.root).f_bfree >= before - 16
    assert_intact(full)


def test_a_store_on_a_full_disk_is_closed_and_opened_again(full: Store) -> None:
    full.actions.get(sha256(b"before"))
    ballast = fill(full)
    full.close()

    with Store.open(full.root) as reopened:
        assert_intact(reopened)
    ballast.unlink()
    with Store.open(full.root) as reopened:
        assert_intact(reopened)


def test_gc_makes_room_on_a_full_disk(full: Store) -> None:
    with full.snapshots.prepare() as draft:
        (draft.fs / "big").write_bytes(os.urandom(2 << 20))
        snapshot = draft.commit()
    full.state.query("UPDATE snapshots SET used = 1")
    fill(full)
    with pytest.raises(StoreFull):
        put_document(full)

    full.gc(Pins({sha256(b"before")}))

    assert not full.snapshots.has(snapshot)
    full.blobs.put(os.urandom(1 << 20))
