"""Real stores on real file systems, and archives made with the standard library."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildtool.cache import Store, Tree
from buildtool.cache.tar_in import Unpacker
from tests.unit.cache.trees import contents


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as opened:
        yield opened


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with 6 MiB on it."""
    mount_point = tmp_path / "small"
    mount_point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(mount_point)], check=True)
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", "-l", str(mount_point)], check=True)


class Tar:
    """A tar archive being written entry by entry."""

    def __init__(self, format: int = tarfile.PAX_FORMAT) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w", format=format)

    def add(self, name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **attributes: object) -> Tar:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        info.size = len(data) if kind == tarfile.REGTYPE else 0
        for key, value in attributes.items():
            setattr(info, key, value)
        self._tar.addfile(info, io.BytesIO(data) if data else None)
        return self

    def file(self, name: str, data: bytes = b"", **attributes: object) -> Tar:
        return self.add(name, data=data, **attributes)

    def directory(self, name: str, **attributes: object) -> Tar:
        return self.add(name, tarfile.DIRTYPE, **attributes)

    def symlink(self, name: str, target: str) -> Tar:
        return self.add(name, tarfile.SYMTYPE, linkname=target)

    def link(self, name: str, target: str) -> Tar:
        return self.add(name, tarfile.LNKTYPE, linkname=target)

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()

    def stream(self) -> io.BytesIO:
        return io.BytesIO(self.bytes())


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """A directory to unpack into, next to things that must not change."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    before = contents(outside)
    path = tmp_path / "target"
    path.mkdir(mode=0o755)
    yield path
    assert contents(outside) == before
    assert sorted(os.listdir(tmp_path)) == ["outside", "target"]


def unpack(tar: Tar | bytes, target: Path, *, squash_ids: bool = False, parents: Tree | None = None) -> Unpacker:
    """Unpack a layer."""
    unpacker = Unpacker(target, squash_ids=squash_ids, parents=parents)
    unpacker.unpack(iter([tar if isinstance(tar, bytes) else tar.bytes()]))
    return unpacker
