"""What entries become, above all those that nobody should send."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.cache import Tree
from buildtool.cache.tar_entries import clean
from buildtool.errors import InvalidInput
from tests.unit.cache.conftest import Tar, unpack
from tests.unit.cache.trees import contents


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
