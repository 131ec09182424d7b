from __future__ import annotations

import time

import pytest

from buildtool.cache import SnapshotId, Store
from buildtool.errors import Conflict
from buildtool.oci import sha256


def test_a_lease_is_a_row_while_it_is_held(store: Store) -> None:
    with store.leases.hold("build of web") as lease:
        lease.snapshot(SnapshotId(7))
        lease.blob(sha256(b"x"))
        lease.blob(sha256(b"x"))

        assert store.state.query("SELECT note FROM leases") == [("build of web",)]
        items = store.state.query("SELECT kind, name FROM lease_items ORDER BY kind")
        assert items == [("blob", sha256(b"x")), ("snapshot", "7")]

    assert store.state.query("SELECT * FROM leases") == store.state.query("SELECT * FROM lease_items") == []


def test_a_lease_ends_when_its_block_fails(store: Store) -> None:
    with pytest.raises(RuntimeError), store.leases.hold("x"):
        raise RuntimeError

    assert store.state.query("SELECT * FROM leases") == []


def test_an_ended_lease_holds_nothing_more(store: Store) -> None:
    with store.leases.hold("x") as lease:
        pass

    with pytest.raises(Conflict, match="has ended"):
        lease.blob(sha256(b"x"))


def test_leases_in_force_since_a_time(store: Store) -> None:
    with store.leases.hold("ended before"):
        pass
    time.sleep(0.002)
    since = time.time()
    with store.leases.hold("ended after"):
        pass
    with store.leases.hold("held") as held:
        held.blob(sha256(b"x"))

        assert [lease.note for lease in store.leases.in_force(since)] == ["ended after", "held"]
        assert store.leases.holds_blob(sha256(b"x"), since)
        assert not store.leases.holds_blob(sha256(b"y"), since)
