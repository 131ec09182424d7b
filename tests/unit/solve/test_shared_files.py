"""What all RUN steps share on disk, made by whichever step is first."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from buildtool.solve import run_mounts
from buildtool.solve.run_mounts import SharedFiles


def test_steps_that_make_one_file_at_once_all_have_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is replaced while a step mounts it cannot be mounted any more: ENOENT."""
    meeting = Barrier(4)
    write = run_mounts._write_file

    def late(path: Path, content: bytes, mode: int) -> None:
        write(path, content, mode)
        meeting.wait(10)  # nobody finds the others' file before making one

    monkeypatch.setattr(run_mounts, "_write_file", late)
    shared = SharedFiles(tmp_path / "shared")

    def make(_number: int) -> os.stat_result:
        return shared.file(b"nameserver 127.0.0.1\n").stat()

    with ThreadPoolExecutor(4) as pool:
        found = {status.st_ino for status in pool.map(make, range(4))}
    assert len(found) == 1
    assert [path.read_bytes() for path in (tmp_path / "shared").iterdir()] == [b"nameserver 127.0.0.1\n"]


def test_steps_that_make_one_tree_at_once_leave_one(tmp_path: Path) -> None:
    shared = SharedFiles(tmp_path / "shared")
    with ThreadPoolExecutor(4) as pool:
        places = set(pool.map(lambda _: shared.points([("/etc/hosts", False), ("/proc", True)]), range(8)))
    (place,) = places
    assert (place / "etc/hosts").is_file()
    assert (place / "proc").is_dir()
    assert list((tmp_path / "shared").iterdir()) == [place]
