"""Build contexts that come as tars, ordinary and hostile."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from buildtool.daemon.context import build_directory, remove_leftovers, unpack
from buildtool.errors import InvalidInput


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mtime = 1_600_000_000
    for key, value in fields.items():
        setattr(member, key, value)
    return member, data


def make_tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in entries:
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_files_links_modes_and_times_arrive(tmp_path: Path) -> None:
    body = make_tar(
        entry("./", type=tarfile.DIRTYPE, mode=0o755),
        entry("src", type=tarfile.DIRTYPE, mode=0o500),
        entry("src/" + "n" * 200, b"long name", mode=0o640),
        entry("src/run", b"#!/bin/sh\n", mode=0o4755),
        entry("abs", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        entry("hard", type=tarfile.LNKTYPE, linkname="./src/run"),
        entry("no/parents/here", b"x"),
    )

    unpack(io.BytesIO(body), tmp_path)

    assert (tmp_path / "src" / ("n" * 200)).read_bytes() == b"long name"
    assert stat.S_IMODE((tmp_path / "src/run").stat().st_mode) == 0o4755
    assert (tmp_path / "src/run").stat().st_mtime == 1_600_000_000
    assert (tmp_path / "hard").samefile(tmp_path / "src/run")
    assert os.readlink(tmp_path / "abs") == "/etc/passwd"
    assert (tmp_path / "no/parents/here").read_bytes() == b"x"


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd.compress])
def test_every_compression_is_recognised(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    unpack(io.BytesIO(compress(make_tar(entry("a", b"content")))), tmp_path)
    assert (tmp_path / "a").read_bytes() == b"content"


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../evil", b"x")],
        [entry("a/../../evil", b"x")],
        [entry("hard", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
        [entry("hard", type=tarfile.LNKTYPE, linkname="../../etc/passwd")],
        [entry("s", type=tarfile.SYMTYPE, linkname="/etc/passwd"), entry("h", type=tarfile.LNKTYPE, linkname="s")],
        [entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    ],
)
def test_entries_that_reach_out_are_refused(tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    inside = tmp_path / "context"
    inside.mkdir()

    with pytest.raises(InvalidInput, match="the build context"):
        unpack(io.BytesIO(make_tar(*entries)), inside)

    assert os.listdir(tmp_path) == ["context"]


def test_nothing_is_written_through_a_symbolic_link(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "context"
    outside.mkdir()
    inside.mkdir()
    body = make_tar(
        entry("d", type=tarfile.SYMTYPE, linkname=str(outside)), entry("d/evil", b"x"), entry("/abs", b"y")
    )

    unpack(io.BytesIO(body), inside)

    assert os.listdir(outside) == []
    assert (inside / "d/evil").read_bytes() == b"x"
    assert (inside / "abs").read_bytes() == b"y"


def test_an_entry_that_comes_again_replaces_the_first(tmp_path: Path) -> None:
    body = make_tar(
        entry("a", b"1"),
        entry("a", b"2"),
        entry("d/x", b"1"),
        entry("d", b"now a file"),
        entry("f", b"file"),
        entry("f/x", b"now a directory"),
    )

    unpack(io.BytesIO(body), tmp_path)

    assert (tmp_path / "a").read_bytes() == b"2"
    assert (tmp_path / "d").read_bytes() == b"now a file"
    assert (tmp_path / "f/x").read_bytes() == b"now a directory"


@pytest.mark.parametrize(
    "body",
    [
        b"not a tar at all" * 100,
        make_tar(entry("a", b"x" * 5000))[:3000],
        gzip.compress(b"x" * 9000)[:20],
        b"\x1f\x8bxx",
    ],
    ids=["no tar", "cut tar", "cut gzip", "no gzip"],
)
def test_damaged_archives_are_invalid_input(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(InvalidInput, match="the build context"):
        unpack(io.BytesIO(body), tmp_path)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "a/b", "b", "b/../a", "/c", "a/b/c"]), st.sampled_from("fdsl")), max_size=8
    )
)
def test_no_archive_escapes_or_crashes(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]]
) -> None:
    """Whatever comes in which order: it is unpacked inside or refused as invalid input."""
    base = tmp_path_factory.mktemp("law")
    inside = base / "context"
    inside.mkdir()
    kinds = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "s": tarfile.SYMTYPE, "l": tarfile.LNKTYPE}
    body = make_tar(*(entry(name, type=kinds[kind], linkname="a" if kind == "l" else "..") for name, kind in names))

    try:
        unpack(io.BytesIO(body), inside)
    except InvalidInput:
        pass

    assert os.listdir(base) == ["context"]


def test_a_missing_end_is_tolerated_but_not_within_a_file(tmp_path: Path) -> None:
    body = make_tar(entry("a", b"x" * 600))
    unpack(io.BytesIO(body[: 512 + 600]), tmp_path)
    assert (tmp_path / "a").read_bytes() == b"x" * 600
    for length in (512 + 599, 512 + 513, 512 + 512, 513):
        with pytest.raises(InvalidInput, match="the build context"):
            unpack(io.BytesIO(body[:length]), tmp_path)


def test_the_directory_is_removed_whatever_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), build_directory(tmp_path) as directory:
        (directory / "locked").mkdir(mode=0o000)
        raise RuntimeError("build failed")
    assert os.listdir(tmp_path / "contexts") == []

    (tmp_path / "contexts" / "context-left").mkdir()
    remove_leftovers(tmp_path)
    assert not (tmp_path / "contexts").exists()
    remove_leftovers(tmp_path)
