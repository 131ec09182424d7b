# ruff: noqa: PTH115
"""What an archive that is unpacked onto a tree takes from it: remembered, so that it can be compared with another.

Only directories that the archive does not mention, and files that it links to without having them, are looked at.
The answers decide what is looked at next: a tree that gives the same answers to the same questions makes the archive
the same layer.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any, TypeAlias

from buildtool.cache.tar_headers import owner_of
from buildtool.cache.trees import Tree

Fact: TypeAlias = list[Any] | None
"""As JSON: None for nothing there, ["link", target], ["file"], ["directory"|"content", mode, uid, gid, xattrs…]."""

Reads: TypeAlias = list[list[Any]]
"""[path, whether the content was read, the answer] each, in order."""

_CHUNK = 1 << 20
_OVERLAY = ("trusted.overlay.", "user.overlay.")


class Below:
    """A tree, and what was asked of it."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.reads: Reads = []
        self._known: dict[tuple[str, bool], Fact] = {}

    def ask(self, path: str, *, content: bool = False) -> Fact:
        """About the entry at a path whose directories are no symlinks."""
        key = (path, content)
        if key not in self._known:
            self._known[key] = _fact(self.tree, path, content)
            self.reads.append([path, content, self._known[key]])
        return self._known[key]


def answers(tree: Tree, reads: Reads) -> bool:
    """Whether a tree gives the same answers."""
    return all(_fact(tree, path, content) == fact for path, content, fact in reads)


def _fact(tree: Tree, path: str, content: bool) -> Fact:
    try:
        real = tree.real(path)
        status = os.lstat(real)
    except OSError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return ["link", os.readlink(real)]
    attributes: list[Any] = [stat.S_IMODE(status.st_mode), *owner_of(status)]
    if not stat.S_ISDIR(status.st_mode) and not (content and stat.S_ISREG(status.st_mode)):
        return ["file"]
    for name in sorted(os.listxattr(real, follow_symlinks=False)):
        if not name.startswith(_OVERLAY):
            attributes += [name, os.getxattr(real, name, follow_symlinks=False).hex()]
    if stat.S_ISDIR(status.st_mode):
        return ["directory", *attributes]
    hasher = hashlib.sha256()
    with real.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return ["content", *attributes, status.st_mtime_ns, hasher.hexdigest()]
