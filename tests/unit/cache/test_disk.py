from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from buildtool.cache import Store
from buildtool.cache.disk import FullDisk, mounts_below, remove_tree, spread_directories, tree_usage, write_file
from buildtool.errors import StoreFull


def test_removing_a_tree_removes_symlinks_but_not_what_they_lead_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("x")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/dir").symlink_to(outside)
    (tree / "sub/file").symlink_to(outside / "keep")
    os.mknod(tree / "whiteout", 0o020000, 0)
    os.mkfifo(tree / "fifo")

    remove_tree(tree)

    assert not tree.exists()
    assert (outside / "keep").read_text() == "x"


def test_removing_what_is_missing_or_a_file_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "missing")
    (tmp_path / "file").write_text("x")
    remove_tree(tmp_path / "file")

    assert os.listdir(tmp_path) == []


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        child = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = child
    os.close(fd)

    assert tree_usage(tree) > 0
    remove_tree(tree)

    assert not tree.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_is_store_full(tmp_path: Path, number: int) -> None:
    with pytest.raises(StoreFull, match=str(tmp_path)), FullDisk(tmp_path):
        raise OSError(number, "full")


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), FullDisk(tmp_path):
        raise PermissionError(errno.EPERM, "no")
    with pytest.raises(sqlite3.OperationalError), FullDisk(tmp_path):
        raise sqlite3.OperationalError("something else")


def test_a_small_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    write_file(path, b"one")
    write_file(path, b"two")

    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["index.json"]


def test_mounts_below_a_directory_are_seen(tmp_path: Path, small_disk: Path) -> None:
    assert mounts_below(tmp_path) == [str(small_disk)]
    assert mounts_below(small_disk) == [str(small_disk)]
    assert mounts_below(tmp_path / "other") == []


def test_snapshots_are_laid_far_from_each_other_where_the_file_system_can(tmp_path: Path) -> None:
    if shutil.which("lsattr") is None or shutil.which("chattr") is None:
        pytest.skip("needs lsattr and chattr (e2fsprogs)")
    probe = tmp_path / "probe"
    probe.mkdir()
    if subprocess.run(["chattr", "+T", str(probe)], check=False, capture_output=True).returncode:
        pytest.skip("the file system of the test's folder has no +T")

    with Store.open(tmp_path / "store") as store:
        directory = store.snapshots.directory
        with store.snapshots.prepare() as draft:
            flags = [subprocess.check_output(["lsattr", "-d", str(path)], text=True).split()[0]
                     for path in (directory, draft.directory)]  # fmt: skip

    assert ["T" in found for found in flags] == [True, False]  # the advice is about the folder's children only


def test_a_file_system_without_such_advice_is_left_alone(tmp_path: Path) -> None:
    spread_directories(Path("/proc"))

    spread_directories(tmp_path)
    spread_directories(tmp_path)
