# ruff: noqa: PTH101, PTH102, PTH108
"""Several layers made into one: the files are linked, not copied. Blocks."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence

from buildtool.cache import FullDisk, SnapshotId, Store
from buildtool.cache.overlay import opaque_xattr


def execute_squash(store: Store, chain: Sequence[SnapshotId], layers: int) -> SnapshotId:
    """The snapshot that stands for the last `layers` ones of the chain: what is in a later one counts."""
    with store.snapshots.prepare(chain[:-layers]) as draft, FullDisk(draft.directory):
        for snapshot in chain[-layers:]:
            _pour(str(store.snapshots.fs(snapshot)), str(draft.fs), store.squash_ids)
        return draft.commit()


def _pour(source: str, target: str, squash_ids: bool) -> None:
    """Put what a layer has over what is there already."""
    with os.scandir(source) as entries:
        found = list(entries)
    for entry in found:
        path = f"{target}/{entry.name}"
        if not entry.is_dir(follow_symlinks=False):
            _make_room(path)
            os.link(entry.path, path, follow_symlinks=False)
            continue
        if _hides(entry.path) or not _is_directory(path):
            _make_room(path)
            os.mkdir(path, 0o700)
        _pour(entry.path, path, squash_ids)
    _finish(source, target, squash_ids)


def _finish(source: str, target: str, squash_ids: bool) -> None:
    status = os.lstat(source)
    if not squash_ids:
        os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _hides(path: str) -> bool:
    """Whether a directory hides what layers below have at its place."""
    name = opaque_xattr()
    return name in os.listxattr(path)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _make_room(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        shutil.rmtree(path)
