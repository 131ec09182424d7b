"""Documents of travelling caches, packs of cache mounts: whatever comes is read or refused, and nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from buildtool.cache import extract
from buildtool.errors import Conflict, Corrupt
from buildtool.graph import digest_of
from buildtool.oci import Descriptor, media_types, sha256
from buildtool.solve.caches.mounts import decode_mount, pack_tar, packs_of
from buildtool.solve.caches.records import CacheRecord, decode_bundle, decode_record, encode_bundle, encode_record

KEY = sha256(b"key")


def record(number: int) -> CacheRecord:
    preimage = {"v": number}
    blob = Descriptor(media_types.LAYER_GZIP, sha256(b"blob"), 4)
    return CacheRecord(
        key=digest_of(preimage),
        diff_id=KEY,
        size=5,
        blob=blob,
        epoch=7,
        preimage=preimage,
        seconds=0.5,
        below="scratch",
    )


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_do_harm(data: bytes) -> None:
    """Everything that is no document is refused as corrupt."""
    for read in (lambda: decode_record(data, KEY), lambda: decode_bundle(data), lambda: decode_mount(data, "m")):
        try:
            read()
        except Corrupt:
            continue


@given(st.lists(st.integers(0, 50), max_size=30), st.lists(st.text(max_size=5), max_size=3))
def test_a_bundle_has_each_record_once_in_the_order_of_first_coming(numbers: list[int], mounts: list[str]) -> None:
    """encode, then decode, gives the records without repetition."""
    data, kept = encode_bundle(map(record, numbers), mounts)
    bundle = decode_bundle(data)
    assert bundle.records == kept == [record(number) for number in dict.fromkeys(numbers)]
    assert bundle.mounts == sorted(mounts) and not bundle.faults
    for each in kept:
        assert decode_record(encode_record(each), each.key) == each


def test_packs_hold_everything_of_a_directory_and_change_only_where_it_does(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    for number in range(200):
        path = source / f"d{number % 7}/e{number % 3}/f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
        path.chmod(0o600 + number % 64)
    (source / "large").write_bytes(os.urandom(3 << 20))
    (source / "link").symlink_to("large")
    (source / "empty").mkdir(mode=0o711)
    source.chmod(0o750)
    packs = packs_of(source)
    assert len(packs) > 3 and ["large"] in [[path for path, _, _ in pack.files] for pack in packs]
    target.mkdir()
    for pack in packs:
        extract(pack_tar(source, pack), target)
    assert [pack.key for pack in packs_of(target)] == [pack.key for pack in packs]
    os.utime(source / "d1/e1/f1", (1, 1))
    assert {pack.key for pack in packs_of(source)} == {pack.key for pack in packs}
    (source / "d1/e1/f1").write_text("x")
    changed = {pack.key for pack in packs_of(source)} - {pack.key for pack in packs}
    assert len(changed) == 1
    try:
        for pack in packs:
            list(pack_tar(source, pack))
    except Conflict as error:
        assert "f1 changed while" in error.message
    else:
        raise AssertionError("the change was not noticed")
