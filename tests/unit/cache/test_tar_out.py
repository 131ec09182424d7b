from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings

from buildtool.cache import remove_tree
from buildtool.cache.tar_in import Unpacker
from buildtool.cache.tar_out import tar_tree
from buildtool.errors import InvalidInput
from tests.unit.cache.trees import OPERATIONS, contents, perform


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    path.mkdir()
    path.chmod(0o755)
    return path


def archive(root: Path, epoch: int | None = None) -> tarfile.TarFile:
    return tarfile.TarFile(fileobj=io.BytesIO(b"".join(tar_tree(root, epoch))))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(OPERATIONS)
def test_round_trip(operations: list[tuple[object, ...]]) -> None:
    """Law: unpacking what was packed gives the same tree, and packing that gives the same bytes.

    And two other readers of tar agree: GNU tar unpacks the same tree, Python's tarfile lists the same names.
    """
    with TemporaryDirectory(prefix="cache-tar-") as temporary:
        original, ours, theirs = (Path(temporary, name) for name in ("original", "ours", "theirs"))
        for directory in (original, ours, theirs):
            directory.mkdir()
            directory.chmod(0o755)
        perform(original, operations)
        data = b"".join(tar_tree(original))

        Unpacker(ours).unpack(iter([data[:700], data[700:701], data[701:]]))

        assert contents(ours) == contents(original)
        assert b"".join(tar_tree(ours)) == data
        command = ["tar", "-C", str(theirs), "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-"]
        subprocess.run(command, input=data, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
        assert contents(theirs) == contents(original)
        names = {"/" + name for name in tarfile.TarFile(fileobj=io.BytesIO(data)).getnames()}
        assert names == set(contents(original))


def test_names_are_sorted_by_bytes_and_directories_come_first(tree: Path) -> None:
    for name in ("b", "a.b", "a", "a/z", "a/B", "ü", "B"):
        (tree / name).mkdir(exist_ok=True)

    assert archive(tree).getnames() == ["B", "a", "a/B", "a/z", "a.b", "b", "ü"]


def test_the_order_in_which_files_were_made_does_not_matter(tree: Path) -> None:
    made = []
    for names in (["a", "b", "c"], ["c", "a", "b"]):
        root = tree / "".join(names)
        root.mkdir()
        for name in names:
            (root / name).write_text(name)
            os.utime(root / name, (5, 5))
        made.append(b"".join(tar_tree(root)))

    assert made[0] == made[1]


def test_whiteouts_and_opaque_directories_become_wh_files(tree: Path) -> None:
    (tree / "d").mkdir()
    (tree / "d/new").write_text("x")
    os.setxattr(tree / "d", "trusted.overlay.opaque", b"y")
    os.mknod(tree / "d/a", 0o020000, 0)
    os.mknod(tree / "gone", 0o020000, 0)

    assert archive(tree).getnames() == [".wh.gone", "d", "d/.wh..wh..opq", "d/.wh.a", "d/new"]


def test_overlays_bookkeeping_and_host_labels_stay_here(tree: Path) -> None:
    path = tree / "f"
    path.write_text("x")
    os.setxattr(path, "trusted.overlay.origin", b"host")
    os.setxattr(path, "user.overlay.redirect", b"/elsewhere")
    os.setxattr(path, "trusted.other", b"host")
    os.setxattr(path, "user.kept", b"\x00binary\n=")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(path, "security.capability", capability)

    headers = archive(tree).getmember("f").pax_headers

    assert set(headers) == {"SCHILY.xattr.security.capability", "SCHILY.xattr.user.kept"}


def test_times_are_clamped_to_the_epoch_and_in_whole_seconds(tree: Path) -> None:
    for name, time in (("old", 100.9), ("new", 5000)):
        (tree / name).write_text(name)
        os.utime(tree / name, (time, time))

    assert {m.name: m.mtime for m in archive(tree, 1000)} == {"old": 100, "new": 1000}
    assert {m.name: m.mtime for m in archive(tree)} == {"old": 100, "new": 5000}


def pyc(flags: int, mtime: int) -> bytes:
    return b"\xa7\r\r\n" + flags.to_bytes(4, "little") + mtime.to_bytes(4, "little") + b"\x05\0\0\0" + b"code"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (pyc(0, 5000), pyc(0, 1000)),  # its source's time was clamped
        (pyc(0, 900), pyc(0, 900)),  # it was not
        (pyc(1, 5000), pyc(1, 5000)),  # checked by hash
        (b"short", b"short"),
    ],
)
def test_a_pyc_names_the_time_that_its_source_gets(tree: Path, before: bytes, after: bytes) -> None:
    (tree / "m.pyc").write_bytes(before)
    (tree / "m.data").write_bytes(before)
    packed = archive(tree, 1000)

    pyc_file, other = packed.extractfile("m.pyc"), packed.extractfile("m.data")

    assert pyc_file is not None
    assert pyc_file.read() == after
    assert other is not None
    assert other.read() == before


def test_a_hard_link_points_to_the_first_name(tree: Path) -> None:
    (tree / "z").write_text("x")
    os.link(tree / "z", tree / "a")

    first, second = archive(tree)

    assert (first.name, first.type) == ("a", tarfile.REGTYPE)
    assert (second.name, second.type, second.linkname, second.size) == ("z", tarfile.LNKTYPE, "a", 0)


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 157, 255, 256, 257, 400, 1000])
@pytest.mark.parametrize("letter", ["n", "ü"])
def test_long_names_and_targets(tree: Path, length: int, letter: str) -> None:
    parts, rest = [], length
    while rest > 60:
        parts.append(letter * 49)
        rest -= 50
    parts.append(letter * rest)
    name = "/".join(parts)
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).symlink_to("t" * length)

    member = archive(tree).getmember(name)

    assert member.linkname == "t" * length


def test_a_long_single_name_has_no_prefix_to_split_at(tree: Path) -> None:
    (tree / ("x" * 200)).mkdir()
    (tree / ("x" * 200) / "y").write_text("y")

    assert archive(tree).getnames() == ["x" * 200, "x" * 200 + "/y"]


def test_names_that_are_no_utf8_survive(tree: Path) -> None:
    name = b"\xff\xfe" * 60
    (tree / os.fsdecode(name)).write_text("x")
    target = tree.parent / "target"
    target.mkdir()

    Unpacker(target).unpack(tar_tree(tree))

    assert os.listdir(os.fsencode(target)) == [name]


def test_large_ids_and_early_times_are_told_by_pax(tree: Path) -> None:
    (tree / "f").write_text("x")
    os.chown(tree / "f", 4_000_000_000, 3_000_000)
    os.utime(tree / "f", (-5, -5))

    member = archive(tree).getmember("f")

    assert (member.uid, member.gid, member.mtime) == (4_000_000_000, 3_000_000, -5)


def test_a_file_with_holes_is_packed_without_reading_them(tree: Path) -> None:
    size = 3 << 30
    with (tree / "sparse").open("wb") as file:
        file.truncate(size)
        for offset in (0, 5 << 20, size - 3):
            file.seek(offset)
            file.write(b"end")

    total, interesting = 0, {}
    for chunk in tar_tree(tree):
        position = chunk.find(b"end")
        if position >= 0:
            interesting[total + position - 512] = True
        total += len(chunk)

    assert total == 512 + size + 1024
    assert set(interesting) == {0, 5 << 20, size - 3}


def test_the_root_is_mentioned_when_it_is_not_plain(tree: Path) -> None:
    tree.chmod(0o1777)

    member = archive(tree).getmembers()[0]

    assert (member.name.rstrip("/"), stat.S_IMODE(member.mode), member.type) == (".", 0o1777, tarfile.DIRTYPE)


def test_a_socket_is_left_out(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))

    assert archive(tree).getnames() == []


def test_a_file_that_would_be_a_whiteout_is_refused(tree: Path) -> None:
    (tree / "d").mkdir()
    (tree / "d/.wh.passwd").write_text("x")

    with pytest.raises(InvalidInput, match=r"d/\.wh\.passwd"):
        list(tar_tree(tree))
    assert b"passwd" in b"".join(tar_tree(tree, layer=False))


def test_an_empty_tree_is_two_empty_blocks(tree: Path) -> None:
    tree.chmod(0o755)

    assert b"".join(tar_tree(tree)) == bytes(1024)


def test_a_path_longer_than_the_kernel_takes_is_refused(tree: Path) -> None:
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        child = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = child
    os.close(fd)

    with pytest.raises(InvalidInput, match="longer than the kernel takes"):
        list(tar_tree(tree))
    remove_tree(tree)
