from __future__ import annotations

import hashlib
import os
import threading

import pytest

from buildtool.cache import Store
from buildtool.errors import Corrupt, InvalidInput, NotFound
from buildtool.oci import Digest, sha256


def test_a_blob_is_read_back_under_its_digest(store: Store) -> None:
    digest = store.blobs.put(b"hello")

    assert digest == sha256(b"hello")
    assert store.blobs.has(digest)
    assert store.blobs.size(digest) == 5
    assert store.blobs.read(digest) == b"hello"
    assert store.blobs.path(digest) == store.root / "blobs/sha256" / hashlib.sha256(b"hello").hexdigest()
    assert list(store.blobs.list()) == [digest]


def test_an_absent_blob_is_not_found(store: Store) -> None:
    digest = sha256(b"absent")

    assert not store.blobs.has(digest)
    for ask in (store.blobs.open, store.blobs.read, store.blobs.size):
        with pytest.raises(NotFound, match=digest):
            ask(digest)


@pytest.mark.parametrize("text", ["", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "a" * 32, "a" * 64])
def test_what_is_no_digest_never_becomes_a_path(store: Store, text: str) -> None:
    with pytest.raises(InvalidInput):
        store.blobs.path(Digest(text))


def test_an_ingest_without_commit_leaves_nothing(store: Store) -> None:
    with store.blobs.ingest() as ingest:
        ingest.write(b"half")

    assert os.listdir(store.root / "ingest") == []
    assert list(store.blobs.list()) == []


def test_an_ingest_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.blobs.ingest() as ingest:
        ingest.write(b"half")
        raise RuntimeError

    assert os.listdir(store.root / "ingest") == []


def test_other_bytes_than_expected_are_refused(store: Store) -> None:
    with pytest.raises(Corrupt, match="digest"), store.blobs.ingest(sha256(b"expected")) as ingest:
        ingest.write(b"something else")
        ingest.commit()

    assert list(store.blobs.list()) == []


def test_fewer_bytes_than_announced_are_refused_at_commit(store: Store) -> None:
    with pytest.raises(Corrupt, match="2 bytes instead of 3"), store.blobs.ingest(size=3) as ingest:
        ingest.write(b"ab")
        ingest.commit()


def test_more_bytes_than_announced_are_refused_at_once(store: Store) -> None:
    with store.blobs.ingest(size=3) as ingest, pytest.raises(Corrupt, match="more than the announced 3"):
        ingest.write(b"abcd")


def test_the_same_blob_twice_is_one_file_that_counts_as_new(store: Store) -> None:
    digest = store.blobs.put(b"twice")
    os.utime(store.blobs.path(digest), (1, 1))

    assert store.blobs.put(b"twice") == digest
    assert store.blobs.path(digest).stat().st_mtime > 1

    os.utime(store.blobs.path(digest), (1, 1))
    with store.blobs.ingest(digest) as ingest:
        ingest.write(b"twice")
        assert ingest.commit() == digest
    assert store.blobs.path(digest).stat().st_mtime > 1
    assert os.listdir(store.root / "ingest") == []


def test_many_threads_may_write_the_same_and_different_blobs(store: Store) -> None:
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(20):
                data = f"{i % 5}-{number % 2}".encode() * 1000
                assert store.blobs.read(store.blobs.put(data)) == data
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []
    assert len(list(store.blobs.list())) == 10
    assert store.check() == []
