"""Archives nobody should send, and the odd ones that people do."""

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

from buildtool.cache import Tree, extract
from buildtool.cache.tar_in import Unpacker, clean
from buildtool.cache.tar_out import tar_tree
from buildtool.errors import BuildtoolError, InvalidInput
from tests.unit.cache.conftest import Tar
from tests.unit.cache.trees import contents


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The directory to unpack into, next to things that must not change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/victim").write_text("untouched")
    path = tmp_path / "target"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture(autouse=True)
def nothing_outside_changes(tmp_path: Path, target: Path) -> object:
    outside = tmp_path / "outside"
    before = contents(outside)
    yield
    assert contents(outside) == before
    assert sorted(os.listdir(tmp_path)) == ["outside", "target"]
    return None


def unpack(tar: Tar | bytes, target: Path, **options: object) -> Unpacker:
    unpacker = Unpacker(target, **options)  # type: ignore[arg-type]
    unpacker.unpack(iter([tar if isinstance(tar, bytes) else tar.bytes()]))
    return unpacker


@pytest.mark.parametrize(
    "name",
    ["../outside/new", "..", "a/../../outside/new", "/../outside/new", "./../outside/new", "a/b/../../../x", "../"],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
def test_a_name_that_leads_out_is_refused(target: Path, name: str, kind: bytes) -> None:
    with pytest.raises(InvalidInput, match="leads out"):
        unpack(Tar().add(name, kind, linkname="x"), target)


def test_absolute_and_untidy_names_are_taken_inside(target: Path) -> None:
    unpack(
        Tar().file("/etc/a").file("//etc//b").file("./etc/./c").file("etc/x/../d").directory("./").file("...e"),
        target,
    )

    assert sorted(contents(target)) == ["/...e", "/etc", "/etc/a", "/etc/b", "/etc/c", "/etc/d"]


@given(st.lists(st.sampled_from([b"a", b"b", b".", b"..", b"", b".c", b"d."]), max_size=6))
def test_cleaned_names_stay_inside(parts: list[bytes]) -> None:
    """Law: a cleaned name has no empty, "." or ".." component, and is where a walk through directories would end."""
    name = b"/".join(parts)
    depth = 0
    for part in parts:
        depth += {b"": 0, b".": 0, b"..": -1}.get(part, 1)
        if depth < 0:
            with pytest.raises(InvalidInput):
                clean(name)
            return

    cleaned = clean(name)

    assert not {b"", b".", b".."} & set(cleaned.split(b"/") if cleaned else [])
    assert cleaned == os.path.normpath(b"/" + name).lstrip(b"/")


@pytest.mark.parametrize(
    "link", ["../outside", "../../../../../../../../tmp", "/", "/outside", "../target/../outside"]
)
def test_a_symlink_never_leads_a_later_entry_out(tmp_path: Path, target: Path, link: str) -> None:
    absolute = link.replace("/outside", str(tmp_path / "outside"))
    tar = Tar().symlink("link", absolute).file("link/victim", b"overwritten").directory("link/dir").file("link/dir/f")

    unpack(tar, target)

    assert os.readlink(target / "link") == absolute


def test_a_chain_of_symlinks_stays_inside(target: Path) -> None:
    tar = Tar().directory("a").symlink("a/up", "..").symlink("a/up2", "up/..").symlink("b", "a/up2/../../outside")
    unpack(tar.file("b/victim", b"inside"), target)

    assert (target / "outside/victim").read_bytes() == b"inside"


def test_a_loop_of_symlinks_is_refused(target: Path) -> None:
    with pytest.raises(InvalidInput, match="symbolic links"):
        unpack(Tar().symlink("a", "b").symlink("b", "a").file("a/x"), target)


def test_a_file_replaces_a_symlink_instead_of_writing_through_it(tmp_path: Path, target: Path) -> None:
    victim = str(tmp_path / "outside/victim")
    unpack(
        Tar().symlink("f", victim).file("f", b"mine").symlink("d", str(tmp_path / "outside")).directory("d"), target
    )

    assert (target / "f").read_bytes() == b"mine"
    assert not (target / "d").is_symlink()


def test_a_directorys_late_attributes_do_not_follow_a_symlink_put_in_its_place(tmp_path: Path, target: Path) -> None:
    outside = str(tmp_path / "outside")
    tar = Tar().directory("d", mode=0o777, mtime=1).directory("d/victim", mode=0o777, mtime=1).file("d/x")
    unpack(tar.symlink("d", outside), target)

    assert os.readlink(target / "d") == outside
    again = Tar().directory("p/q", mode=0o777).symlink("p", outside).directory("p/victim-dir", mode=0o700)
    unpack(again, target)


@pytest.mark.parametrize("link", ["../outside/victim", "/../outside/victim", "a/../../outside/victim"])
def test_a_hard_link_out_is_refused(target: Path, link: str) -> None:
    with pytest.raises(InvalidInput, match="leads out"):
        unpack(Tar().link("stolen", link), target)


def test_a_hard_link_through_a_symlink_is_confined(tmp_path: Path, target: Path) -> None:
    with pytest.raises(InvalidInput, match="no file before it"):
        unpack(Tar().symlink("out", str(tmp_path / "outside")).link("stolen", "out/victim"), target)
    assert not os.path.lexists(target / "stolen")


def test_a_hard_link_to_a_symlink_links_the_symlink(tmp_path: Path, target: Path) -> None:
    unpack(Tar().symlink("s", str(tmp_path / "outside/victim")).link("h", "s").file("h2").link("h2", "/h2"), target)

    assert os.readlink(target / "h") == str(tmp_path / "outside/victim")
    assert os.lstat(target / "h").st_nlink == 2


def test_a_hard_link_to_nothing_or_to_a_directory_is_refused(target: Path) -> None:
    with pytest.raises(InvalidInput, match="no file before it"):
        unpack(Tar().link("a", "missing"), target)
    with pytest.raises(InvalidInput, match="the directory"):
        unpack(Tar().directory("d").link("a", "d"), target)
    with pytest.raises(InvalidInput, match="the directory"):
        unpack(Tar().link("a", "/"), target)


def test_a_hard_link_to_a_file_of_the_layers_below_copies_it_up(tmp_path: Path, target: Path) -> None:
    parent = target / "parent"
    parent.mkdir()
    (parent / "lib").mkdir(mode=0o700)
    (parent / "lib/f").write_text("below")
    os.chown(parent / "lib/f", 5, 6)
    layer = target / "layer"
    layer.mkdir()

    unpacker = unpack(Tar().link("bin", "lib/f"), layer, parents=Tree([parent]))

    assert unpacker.borrowed
    assert (layer / "bin").read_text() == "below"
    status = os.lstat(layer / "lib/f")
    assert (status.st_uid, status.st_gid, status.st_nlink) == (5, 6, 2)
    assert stat.S_IMODE(os.lstat(layer / "lib").st_mode) == 0o700
    other = target / "other"
    other.mkdir()
    with pytest.raises(InvalidInput, match="this layer deletes"):
        unpack(Tar().file("lib/.wh.f").link("bin", "lib/f"), other, parents=Tree([parent]))


def test_devices_are_made_with_their_numbers(target: Path) -> None:
    unpack(Tar().add("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666).add("p", tarfile.FIFOTYPE), target)

    status = os.lstat(target / "null")
    assert (stat.S_ISCHR(status.st_mode), status.st_rdev, stat.S_IMODE(status.st_mode)) == (
        True,
        os.makedev(1, 3),
        0o666,
    )
    assert stat.S_ISFIFO(os.lstat(target / "p").st_mode)


def test_an_impossible_device_is_refused(target: Path) -> None:
    with pytest.raises(InvalidInput, match="device number"):
        unpack(Tar().add("d", tarfile.CHRTYPE, devmajor=0o7777777, devminor=3), target)


def test_whiteouts_become_overlays(target: Path) -> None:
    unpack(Tar().file("d/.wh.gone").file("d/.wh..wh..opq").file(".wh..wh.plnk").file(".wh..wh.aufs"), target)

    status = os.lstat(target / "d/gone")
    assert (stat.S_ISCHR(status.st_mode), status.st_rdev) == (True, 0)
    assert os.getxattr(target / "d", "trusted.overlay.opaque") == b"y"
    assert os.listdir(target) == ["d"]


@pytest.mark.parametrize("name", [".wh..", ".wh...", ".wh.", "d/.wh..", "d/.wh..."])
def test_a_whiteout_of_nothing_or_of_a_dot_is_refused(target: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="a whiteout of"):
        unpack(Tar().file("d/x").file(name), target)
    assert (target / "d/x").exists()


def test_a_whiteout_is_only_about_the_layers_below(target: Path) -> None:
    unpack(Tar().file("f", b"new").file(".wh.f").file("d/x", b"new").file(".wh.d"), target)

    assert (target / "f").read_bytes() == b"new"
    assert (target / "d/x").read_bytes() == b"new"
    assert os.getxattr(target / "d", "trusted.overlay.opaque") == b"y"


@pytest.mark.parametrize("explicit", [True, False])
def test_a_directory_after_its_whiteout_is_opaque(target: Path, explicit: bool) -> None:
    tar = Tar().file(".wh.d").file(".wh.f")
    if explicit:
        tar.directory("d")
    unpack(tar.file("d/x").file("f", b"new"), target)

    assert os.getxattr(target / "d", "trusted.overlay.opaque") == b"y"
    assert (target / "f").read_bytes() == b"new"


def test_overlays_own_attributes_are_not_taken_from_an_archive(target: Path) -> None:
    headers = {
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.metacopy": "",
        "SCHILY.xattr.user.fine": "1",
        "LIBARCHIVE.xattr.user.also%20fine": "AAE=",
    }
    unpack(Tar().directory("d", pax_headers=headers).file("f", pax_headers=headers), target)

    for name in ("d", "f"):
        assert sorted(os.listxattr(target / name)) == ["user.also fine", "user.fine"]
    assert os.getxattr(target / "f", "user.also fine") == b"\0\1"


def test_implicit_directories_are_as_in_the_layers_below(tmp_path: Path, target: Path) -> None:
    parent, layer = target / "parent", target / "layer"
    layer.mkdir()
    (parent / "var/lib").mkdir(parents=True)
    (parent / "var").chmod(0o1777)
    os.chown(parent / "var", 7, 8)
    os.setxattr(parent / "var", "user.x", b"1")
    os.utime(parent / "var", (100, 100))

    unpacker = unpack(Tar().file("var/lib/f").file("new/f"), layer, parents=Tree([parent]))

    assert unpacker.borrowed
    status = os.lstat(layer / "var")
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == (0o1777, 7, 8, 100)
    assert os.getxattr(layer / "var", "user.x") == b"1"
    status = os.lstat(layer / "new")
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime) == (0o755, 0, 0)


def test_what_the_archive_says_itself_is_not_borrowed(target: Path) -> None:
    parent, layer = target / "parent", target / "layer"
    layer.mkdir()
    (parent / "var").mkdir(parents=True)

    assert not unpack(Tar().file("var/f").directory("var"), layer, parents=Tree([parent])).borrowed


def test_modes_times_and_owners_are_kept(target: Path) -> None:
    tar = (
        Tar().directory("d", mode=0o2555, mtime=1000, uid=3, gid=4).file("d/f", b"x", mode=0o4755, mtime=5.25, uid=5)
    )
    before = os.umask(0o077)
    try:
        unpack(tar.add("d/s", tarfile.SYMTYPE, linkname="f", mtime=7, uid=9), target)
    finally:
        os.umask(before)

    status = os.lstat(target / "d")
    assert (stat.S_IMODE(status.st_mode), status.st_mtime, status.st_uid, status.st_gid) == (0o2555, 1000, 3, 4)
    status = os.lstat(target / "d/f")
    assert (stat.S_IMODE(status.st_mode), status.st_mtime, status.st_uid, status.st_gid) == (0o4755, 5.25, 5, 0)
    status = os.lstat(target / "d/s")
    assert (status.st_mtime, status.st_uid) == (7, 9)


def test_ids_are_squashed_on_demand(target: Path) -> None:
    unpack(Tar().file("f", uid=1234, gid=5678), target, squash_ids=True)

    assert os.lstat(target / "f").st_uid == os.geteuid()


def test_later_entries_replace_earlier_ones(target: Path) -> None:
    tar = (
        Tar().directory("d").file("d/f", b"1").directory("d", mode=0o700).file("d/f", b"2").file("x").directory("x/")
    )
    unpack(tar.file("y/z").file("y", b"now a file"), target)

    assert (target / "d/f").read_bytes() == b"2"
    assert stat.S_IMODE(os.lstat(target / "d").st_mode) == 0o700
    assert (target / "x").is_dir()
    assert (target / "y").read_bytes() == b"now a file"


def test_something_below_a_file_is_refused(target: Path) -> None:
    with pytest.raises(InvalidInput, match="not a directory"):
        unpack(Tar().file("f").file("f/x"), target)


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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
