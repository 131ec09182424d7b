from __future__ import annotations

import os
import stat

import pytest

from buildtool.cache import Store
from buildtool.cache.overlay import mount_overlay, unmount
from buildtool.errors import Conflict, NotFound
from buildtool.oci import sha256


def test_a_committed_draft_is_a_snapshot(store: Store) -> None:
    with store.snapshots.prepare() as draft:
        assert sorted(os.listdir(draft.directory)) == ["fs", "work"]
        (draft.fs / "f").write_text("x")
        snapshot = draft.commit(base="b", diff_id=sha256(b"layer"))

    known = store.snapshots.get(snapshot)
    assert (known.id, known.base, known.diff_id, known.durable, known.size) == (
        draft.id,
        "b",
        sha256(b"layer"),
        False,
        None,
    )
    assert store.snapshots.fs(snapshot) == draft.fs
    assert (store.snapshots.fs(snapshot) / "f").read_text() == "x"
    assert os.listdir(draft.directory) == ["fs"]


def test_a_draft_that_is_not_committed_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.snapshots.prepare() as draft:
        (draft.fs / "f").write_text("x")
        raise RuntimeError

    assert os.listdir(store.root / "snapshots") == []
    assert store.snapshots.drafts() == set()
    with pytest.raises(NotFound):
        store.snapshots.get(draft.id)


def test_a_draft_becomes_one_snapshot_at_most(store: Store) -> None:
    with store.snapshots.prepare() as draft:
        draft.commit()
        with pytest.raises(Conflict):
            draft.commit()


def test_numbers_are_never_used_again(store: Store) -> None:
    with store.snapshots.prepare() as draft:
        first = draft.commit()
    store.snapshots.delete(first)
    store.close()

    with Store.open(store.root) as reopened, reopened.snapshots.prepare() as draft:
        assert draft.id > first


def test_a_root_directory_is_plain_whatever_the_umask(store: Store) -> None:
    before = os.umask(0o077)
    try:
        with store.snapshots.prepare() as draft:
            assert stat.S_IMODE(draft.fs.stat().st_mode) == 0o755
    finally:
        os.umask(before)


def test_a_root_directory_is_like_its_topmost_parent(store: Store) -> None:
    with store.snapshots.prepare() as draft:
        draft.fs.chmod(0o1777)
        os.chown(draft.fs, 12, 34)
        parent = draft.commit()

    with store.snapshots.prepare([parent]) as draft:
        status = draft.fs.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o1777, 12, 34)


def test_sync_makes_durable_what_was_committed(store: Store) -> None:
    with store.snapshots.prepare() as draft:
        first = draft.commit()
    store.snapshots.sync()
    with store.snapshots.prepare() as draft:
        second = draft.commit()

    assert store.snapshots.get(first).durable
    assert not store.snapshots.get(second).durable


def test_usage_counts_a_hard_linked_file_once(store: Store) -> None:
    with store.snapshots.prepare() as draft:
        (draft.fs / "a").write_bytes(b"x" * 100_000)
        os.link(draft.fs / "a", draft.fs / "b")
        snapshot = draft.commit()

    assert 100_000 <= store.snapshots.usage(snapshot) < 150_000
    assert store.snapshots.get(snapshot).size == store.snapshots.usage(snapshot)


def test_an_overlays_upper_directory_is_committed_as_it_is(store: Store) -> None:
    with store.snapshots.prepare() as draft:
        (draft.fs / "a").write_text("a")
        lower = draft.commit()

    with store.snapshots.prepare([lower]) as draft:
        target = draft.directory.parent.parent / "mnt"
        target.mkdir()
        mount_overlay(
            str(target),
            [str(store.snapshots.fs(lower))],
            str(draft.fs),
            str(draft.work),
            userxattr=False,
            volatile=True,
        )
        try:
            (target / "b").write_text("b")
            (target / "a").unlink()
        finally:
            unmount(str(target))
        upper = draft.commit()

    assert sorted(os.listdir(store.snapshots.fs(upper))) == ["a", "b"]
    assert stat.S_ISCHR(os.lstat(store.snapshots.fs(upper) / "a").st_mode)
    assert not draft.work.exists()
