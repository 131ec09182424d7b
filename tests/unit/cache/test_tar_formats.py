"""The formats of tar there are, and archives that are damaged."""

from __future__ import annotations

import io
import os
import random
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildtool.cache import extract
from buildtool.cache.tar_in import Unpacker
from buildtool.cache.tar_out import tar_tree
from buildtool.errors import BuildtoolError, InvalidInput
from tests.unit.cache.conftest import Tar, unpack
from tests.unit.cache.trees import contents


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_of_every_format(target: Path, format: int) -> None:
    name = "/".join(["d" * 60] * 3) if format == tarfile.USTAR_FORMAT else "/".join(["ü" * 60] * 20)
    unpack(Tar(format).file(name, b"x").add("l", tarfile.SYMTYPE, linkname="t" * 100), target)

    assert (target / name).read_bytes() == b"x"


def test_a_name_longer_than_the_kernel_takes_is_refused(target: Path) -> None:
    with pytest.raises(InvalidInput, match="too long"):
        unpack(Tar().file("x" * 300), target)
    with pytest.raises(InvalidInput, match="too long"):
        unpack(Tar().file("/".join(["x" * 200] * 30)), target)


@pytest.mark.parametrize(
    "options", ["--format=gnu", *(f"--format=pax --sparse-version={version}" for version in ("0.0", "0.1", "1.0"))]
)
def test_sparse_files_of_every_format(target: Path, options: str) -> None:
    source, result = target / "source", target / "result"
    source.mkdir()
    result.mkdir()
    with (source / "many").open("wb") as file:
        for number in range(60):
            file.seek(number * 100_000)
            file.write(b"piece %d" % number)
        file.truncate(20 << 20)
    with (source / "empty").open("wb") as file:
        file.truncate(1 << 30)
    (source / "after").write_text("after")
    data = subprocess.run(
        ["tar", "-C", str(source), "-S", *options.split(), "-cf", "-", "."], check=True, capture_output=True
    ).stdout

    unpack(data, result)

    assert len(data) < 4 << 20
    assert (result / "many").read_bytes() == (source / "many").read_bytes()
    assert os.lstat(result / "empty").st_size == 1 << 30
    assert os.lstat(result / "empty").st_blocks * 512 < 1 << 20
    assert (result / "after").read_text() == "after"


def test_zeros_of_a_plain_large_file_become_holes(target: Path) -> None:
    source, result = target / "source", target / "result"
    source.mkdir()
    result.mkdir()
    with (source / "f").open("wb") as file:
        file.write(b"start")
        file.truncate(64 << 20)

    Unpacker(result).unpack(tar_tree(source))

    assert os.lstat(result / "f").st_size == 64 << 20
    assert os.lstat(result / "f").st_blocks * 512 < 8 << 20
    assert (result / "f").read_bytes() == (source / "f").read_bytes()


def header(**changes: object) -> bytes:
    info = tarfile.TarInfo("f")
    for key, value in changes.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def record(assignment: bytes) -> bytes:
    length = next(n for n in range(1000) if n == len(b"%d %b\n" % (n, assignment)))
    return b"%d %b\n" % (length, assignment)


def pax(body: bytes) -> bytes:
    return header(type=b"x", size=len(body)) + body + bytes(-len(body) % 512) + header()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"garbage" * 1000, "checksum"),
        (header()[:511], "truncated"),
        (header(size=1000) + b"x" * 999, "truncated"),
        (header()[:148] + b"000000\0 " + header()[156:], "checksum"),
        (header(size=1 << 70), "size"),
        (header(type=b"x", size=1 << 40), "extended header of"),
        (header(type=b"L", size=1 << 40), "extended header of"),
        (header(type=b"x", size=2 << 20) + bytes(2 << 20), "extended header of"),
        (header(type=b"x", size=12) + b"12 path=abc\n" + bytes(500), "without its entry"),
        (pax(b"nonsense"), "PAX"),
        (pax(b"99999999 path=x\n"), "PAX"),
        (pax(b"0 =\n"), "PAX"),
        (pax(b"-5 path=x\n"), "PAX"),
        (pax(record(b"size=-1")), "size"),
        (pax(record(b"size=99999999999999999999")), "size"),
        (pax(record(b"mtime=nan")), "time"),
        (pax(record(b"mtime=1e99")), "time"),
        (pax(record(b"path=a\0b/c")), "NUL"),
        (pax(record(b"uid=99999999999")), "owner"),
        (pax(record(b"GNU.sparse.map=5,10,1,1")), "PAX|sparse"),
        (pax(record(b"GNU.sparse.map=0,999999")), "PAX|sparse"),
        (header(type=b"Z"), "unknown type"),
        (header(type=b"2"), "without target"),
        (header(uid=-5), "owner"),
        (header()[:108] + b"0000009\0" + header()[116:], "checksum|owner"),
    ],
)
def test_malformed_archives_are_refused(target: Path, data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        unpack(data, target)


def test_a_sparse_map_that_promises_too_much_is_refused(target: Path) -> None:
    body = record(b"GNU.sparse.major=1") + record(b"GNU.sparse.minor=0") + record(b"GNU.sparse.realsize=1000")
    prefix = header(type=b"x", size=len(body)) + body + bytes(-len(body) % 512)
    for content in (b"99999999999\n", b"x\n", b"1\n0\n99999\n", b"1\n-5\n3\n", b"1" * 512, b"2\n50\n10\n0\n10\n"):
        with pytest.raises(InvalidInput, match=r"sparse"):
            unpack(prefix + header(size=512) + content.ljust(512, b"\0") + bytes(1024), target)


def test_an_archive_may_end_without_its_end_mark_and_have_anything_after_it(target: Path) -> None:
    unpack(header(), target)
    unpack(header() + bytes(1024) + b"anything" * 1000, target)
    unpack(b"", target)
    unpack(bytes(10240), target)

    assert os.listdir(target) == ["f"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_damaged_archives_are_refused_or_unpacked_but_never_anything_else(target: Path, seed: int) -> None:
    """Law: any bytes give a tree or a BuildtoolError, and nothing outside the target changes (see the fixture)."""
    rng = random.Random(seed)
    tar = Tar(rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    tar.directory("d").file("d/f", b"x" * 600).symlink("l", "../outside").file("l/victim").link("h", "d/f")
    data = bytearray(tar.file("ü" * 70, pax_headers={"SCHILY.xattr.user.x": "1"}).file(".wh.w").bytes())
    for _ in range(rng.randrange(1, 6)):
        block = rng.randrange(0, len(data) // 512 - 2) * 512
        data[block + rng.randrange(512)] = rng.choice([0, 32, 46, 47, 48, 49, 55, 128, 255, rng.randrange(256)])
        if rng.random() < 0.8:  # a valid checksum lets the damage through to the rest
            checksum = sum(data[block : block + 148]) + 256 + sum(data[block + 156 : block + 512])
            data[block + 148 : block + 156] = b"%06o\0 " % checksum
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)) :]
    try:
        unpack(bytes(data), target)
    except BuildtoolError:
        pass


def test_a_plain_archive_has_no_whiteouts(target: Path) -> None:
    extract(iter([Tar().file("d/.wh.f", b"x").file("d/f").bytes()]), target)

    assert sorted(os.listdir(target / "d")) == [".wh.f", "f"]


def test_names_of_gnu_tar_and_of_a_volume_header(target: Path) -> None:
    source, result = target / "source", target / "result"
    (source / ("n" * 150)).mkdir(parents=True)
    (source / ("n" * 150) / "f").write_text("x")
    (source / "l").symlink_to("t" * 200)
    result.mkdir()
    command = ["tar", "-C", str(source), "--format=gnu", "-V", "label", "-cf", "-", "."]

    unpack(subprocess.run(command, check=True, capture_output=True).stdout, result)

    assert contents(result).keys() == contents(source).keys()


def test_ids_and_sizes_in_base_256(target: Path) -> None:
    unpack(Tar(tarfile.GNU_FORMAT).file("f", b"x", uid=3_000_000_000, mtime=-10), target)

    status = os.lstat(target / "f")
    assert (status.st_uid, status.st_mtime) == (3_000_000_000, -10)


def test_a_time_beyond_all_clocks_is_refused(target: Path) -> None:
    archive = bytearray(Tar(tarfile.GNU_FORMAT).add("l", tarfile.SYMTYPE, linkname="t").bytes())
    archive[136:148] = b"\xff" + bytes(11)  # -2**88 in base 256
    archive[148:156] = b"%06o\0 " % (sum(archive[:148]) + sum(archive[156:512]) + 8 * 32)
    with pytest.raises(InvalidInput, match="bad time"):
        unpack(bytes(archive), target)


def test_an_old_archive_without_magic(target: Path) -> None:
    def v7(name: bytes) -> bytes:
        block = bytearray(512)
        block[: len(name)] = name
        block[100:108] = b"   755 \0"
        block[124:136] = b"          0 "
        block[148:156] = b" " * 8
        block[148:156] = b"%6o\0 " % sum(block)
        return bytes(block)

    unpack(v7(b"dir/") + v7(b"dir/file") + bytes(1024), target)

    assert (target / "dir").is_dir()
    assert stat.S_IMODE(os.lstat(target / "dir/file").st_mode) == 0o755


def test_the_source_is_read_to_its_end(target: Path) -> None:
    source = io.BytesIO(Tar().file("f").bytes() + bytes(100_000))

    Unpacker(target).unpack(iter(lambda: source.read(4096), b""))

    assert source.read() == b""
