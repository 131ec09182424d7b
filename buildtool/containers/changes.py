"""What a container changed in its file system, from its writable layer. Source: Docker's `diff`, overlay rules."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from buildtool.cache.overlay import opaque_xattr
from buildtool.cache.trees import Tree
from buildtool.cache.whiteouts import is_whiteout

MODIFIED, ADDED, DELETED = 0, 1, 2


def changes(base: Tree, upper: Path) -> list[dict[str, Any]]:
    """The changes as the Engine API has them, in path order (blocking). `base` is everything below the layer."""
    found: dict[str, int] = {}
    _scan(base, str(upper), "", found, opaque_xattr())
    return [{"Path": path, "Kind": kind} for path, kind in sorted(found.items())]


def _scan(base: Tree, directory: str, prefix: str, found: dict[str, int], opaque: str) -> None:
    with os.scandir(directory) as entries:
        children = list(entries)
    for entry in children:
        path = f"{prefix}/{entry.name}"
        status = entry.stat(follow_symlinks=False)
        below = _below(base, path)
        if is_whiteout(status):
            if below is not None:
                found[path] = DELETED
                _mark_parent(prefix, found)
            continue
        directory_both = below is not None and stat.S_ISDIR(below.st_mode) and stat.S_ISDIR(status.st_mode)
        if below is None:
            found[path] = ADDED
            _mark_parent(prefix, found)
        elif not directory_both or not _same(below, status):
            found[path] = MODIFIED
            if not directory_both:
                _mark_parent(prefix, found)
        if stat.S_ISDIR(status.st_mode):
            if directory_both and _is_opaque(entry.path, opaque):
                _hidden(base, path, entry.path, found)
            _scan(base, entry.path, path, found, opaque)


def _mark_parent(prefix: str, found: dict[str, int]) -> None:
    if prefix:
        found.setdefault(prefix, MODIFIED)


def _hidden(base: Tree, path: str, directory: str, found: dict[str, int]) -> None:
    """The entries below that an opaque directory hides and does not have itself."""
    own = set(os.listdir(directory))
    for name in base.listdir(path):
        if name not in own:
            found[f"{path}/{name}"] = DELETED
    found.setdefault(path, MODIFIED)


def _below(base: Tree, path: str) -> os.stat_result | None:
    try:
        return base.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (
        before.st_mode == after.st_mode
        and (before.st_uid, before.st_gid) == (after.st_uid, after.st_gid)
        and before.st_mtime_ns == after.st_mtime_ns
    )


def _is_opaque(path: str, name: str) -> bool:
    try:
        return os.getxattr(path, name, follow_symlinks=False) == b"y"
    except OSError:
        return False
