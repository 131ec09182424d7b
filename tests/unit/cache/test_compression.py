from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import platform
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.cache import compress, decompress
from buildtool.cache import compression as module
from buildtool.cache.compression import CHUNK, read_ahead
from buildtool.errors import InvalidInput

DATA = b"".join(b"line %d\n" % n for n in range(300_000))


def packed(data: bytes, kind: str) -> bytes:
    if kind == "bzip2":
        return bz2.compress(data, 1)
    if kind == "xz":
        return lzma.compress(data, preset=0)
    return b"".join(compress(iter([data]), kind))


def unpacked(data: bytes, kind: str = "auto") -> bytes:
    return b"".join(decompress(io.BytesIO(data), kind))


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "zlib":
        monkeypatch.setattr(module, "igzip_lib", None)
        monkeypatch.setattr(module, "isal_zlib", None)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kind", ["", "gzip", "zstd", "bzip2", "xz"])
def test_every_compression_is_detected_and_read(kind: str) -> None:
    data = packed(DATA, kind)

    assert unpacked(data) == DATA
    assert unpacked(data, kind) == DATA
    assert all(len(chunk) <= CHUNK for chunk in decompress(io.BytesIO(data)))


@given(st.lists(st.binary(max_size=2000), max_size=5), st.sampled_from(["", "gzip", "zstd"]))
def test_round_trip(chunks: list[bytes], kind: str) -> None:
    """Law: decompress(compress(x)) = x, in whatever pieces x comes."""
    stream = b"".join(compress(iter(chunks), kind))

    assert unpacked(stream, kind) == b"".join(chunks)


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        yield data[start : start + sizes[start % len(sizes)]]
        start += sizes[start % len(sizes)]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("kind", "level"), [("gzip", None), ("gzip", 0), ("gzip", 6), ("gzip", 9), ("zstd", None)])
def test_how_the_bytes_come_makes_no_difference(kind: str, level: int | None) -> None:
    """A layer is written anew, or read from a blob, or comes from a client: the compressed blob is the same."""
    data = DATA[: 3 * CHUNK + 12345]
    whole = b"".join(compress(iter([data]), kind, level))

    for sizes in ([512], [65536], [CHUNK], [777, CHUNK + 1, 3]):
        assert b"".join(compress(cut(data, sizes), kind, level)) == whole
    assert unpacked(whole) == data


@pytest.mark.skipif(module.isal_zlib is None or platform.machine() != "x86_64", reason="needs isal on x86-64")
def test_gzip_streams_are_what_they_have_always_been() -> None:
    """Another digest here means another digest of every image that is pushed: not in a patch release."""
    found = {level: b"".join(compress(iter([DATA]), "gzip", level)) for level in (0, 1, 6)}
    short = {level: hashlib.sha256(stream).hexdigest()[:16] for level, stream in found.items()}
    assert short == {0: "316ee9afee9a97b1", 1: "eb89b694f23d56ac", 6: "0317e1e1d580cfd5"}


@pytest.mark.usefixtures("library")
def test_gzip_is_standard_and_has_neither_time_nor_name() -> None:
    data = packed(DATA, "gzip")

    assert gzip.decompress(data) == DATA
    assert data[3:8] == bytes(5)
    assert packed(DATA, "gzip") == data


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_concatenated_members_and_trailing_zeros_are_one_stream(kind: str) -> None:
    member = packed(b"one", kind)

    assert unpacked(member + packed(b"", kind) + packed(DATA, kind)) == b"one" + DATA
    assert unpacked(member + bytes(1000)) == b"one"
    assert unpacked(member + bytes(1_000_000)) == b"one"


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_a_truncated_stream_is_refused(kind: str) -> None:
    data = packed(DATA, kind)

    for length in (7, len(data) // 2, len(data) - 1):
        with pytest.raises(InvalidInput, match=r"truncated|damaged"):
            unpacked(data[:length], kind)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_garbage_is_refused(kind: str) -> None:
    garbage = os.urandom(5000)
    with pytest.raises(InvalidInput, match="damaged"):
        unpacked(b"\x01" + garbage, kind)
    with pytest.raises(InvalidInput, match=r"damaged|truncated"):
        unpacked(packed(DATA, kind)[:100] + garbage, kind)
    with pytest.raises(InvalidInput, match="followed by garbage"):
        unpacked(packed(b"fine", kind) + b"\x01" + garbage, kind)


@pytest.mark.usefixtures("library")
def test_a_wrong_checksum_is_refused() -> None:
    data = bytearray(packed(DATA, "gzip"))
    data[-5] ^= 1

    with pytest.raises(InvalidInput, match="damaged"):
        unpacked(bytes(data))


def test_nothing_at_all_is_only_valid_without_compression() -> None:
    assert unpacked(b"") == b""
    with pytest.raises(InvalidInput, match="truncated"):
        unpacked(b"", "gzip")


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(InvalidInput, match="lz77"):
        unpacked(b"x", "lz77")
    with pytest.raises(InvalidInput, match="lz77"):
        list(compress(iter([b"x"]), "lz77"))


def large(count: int, error: Exception | None = None) -> Iterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * CHUNK
    if error:
        raise error


def test_reading_ahead_gives_the_same_chunks() -> None:
    assert list(read_ahead(large(9))) == list(large(9))
    assert list(read_ahead(iter([b"a", b"b"]))) == [b"a", b"b"]
    assert list(read_ahead(iter([]))) == []


def test_reading_ahead_passes_errors_on() -> None:
    with pytest.raises(OSError, match="broken"):
        list(read_ahead(large(3, OSError("broken"))))


def test_reading_ahead_ends_its_thread_when_closed() -> None:
    before = threading.active_count()
    chunks = read_ahead(large(1000))
    next(chunks)
    next(chunks)
    chunks.close()

    assert threading.active_count() == before
