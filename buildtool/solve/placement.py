"""Where the selected files go in a file tree: the destination resolved, collisions found, before anything is
written.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from buildtool.cache import Tree
from buildtool.errors import InvalidInput
from buildtool.graph import Copy
from buildtool.solve.ownership import Owner
from buildtool.solve.selection import Entry, Selection

_USUAL = {"/tmp": 0o1777, "/var/tmp": 0o1777, "/root": 0o700}
"""Modes that directories have in every image, for layers made without a look into one."""
_OVERLAY = ("trusted.overlay.", "user.overlay.")


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A directory on the way to the destination. `mode` None: it is not there and will be made."""

    name: str
    mode: int | None
    owner: Owner
    xattrs: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Placement:
    """`base` is the directory the files go into (no symlink in it), `ancestors` the way there, itself included.

    `rename` is the name of a single file: the last one, when a wildcard finds several for a destination that is none.
    """

    base: str
    ancestors: tuple[Ancestor, ...]
    rename: str | None = None

    def facts(self, owner: Owner | None) -> dict[str, Any]:
        """What of the tree below the result depends on, as JSON: part of the content key."""
        return {
            "base": self.base,
            "ancestors": [
                [a.mode, *a.owner, *((name, value.hex()) for name, value in a.xattrs)] if a.mode is not None else None
                for a in self.ancestors
            ],
            "rename": self.rename,
            "owner": owner,
        }


def ancestors_of(tree: Tree, path: str) -> tuple[Ancestor, ...]:
    """The directories on the way to `path` (resolved), itself included. Raises InvalidInput when one is a file."""
    found: list[Ancestor] = []
    current = ""
    missing = False
    for name in path.strip("/").split("/") if path != "/" else ():
        current += "/" + name
        status = None if missing else _lstat(tree, current)
        if status is None:
            missing = True
            found.append(Ancestor(name, None, (0, 0)))
            continue
        if not stat.S_ISDIR(status.st_mode):
            raise InvalidInput(f"cannot copy to non-directory: {current}")
        attributes = xattrs_of(tree.real(current))
        found.append(Ancestor(name, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid), attributes))
    return tuple(found)


def _usual(ancestors: tuple[Ancestor, ...]) -> tuple[Ancestor, ...]:
    """The way of a layer that is made from nothing: /tmp is made as everybody knows it."""
    paths = ["/" + "/".join(each.name for each in ancestors[: number + 1]) for number in range(len(ancestors))]
    return tuple(replace(each, mode=_USUAL.get(path)) for each, path in zip(ancestors, paths, strict=True))


def xattrs_of(path: str | Path) -> tuple[tuple[str, bytes], ...]:
    """Extended attributes worth keeping: all but those the overlay or a security module made."""
    kept = []
    for name in os.listxattr(path, follow_symlinks=False):
        if not name.startswith(_OVERLAY) and name != "security.selinux":
            kept.append((name, os.getxattr(path, name, follow_symlinks=False)))
    return tuple(sorted(kept))


def place(tree: Tree, step: Copy, selection: Selection, *, directory: bool = False) -> Placement:
    """Resolve the destination in the tree copied onto, which is a directory in any case with `directory`.

    Raises InvalidInput when files and directories collide.
    """
    wanted = step.destination
    base = (wanted.rstrip("/") or "/") if step.link else tree.resolve(wanted.rstrip("/") or "/")
    status = _lstat(tree, base)
    exists_as_directory = base == "/" or (status is not None and stat.S_ISDIR(status.st_mode))
    roots = selection.roots

    def way(path: str) -> tuple[Ancestor, ...]:
        return _usual(ancestors_of(tree, path)) if step.link else ancestors_of(tree, path)

    into = directory or wanted.endswith("/") or exists_as_directory or step.parents or wanted == "/"
    if not into and not any(root.is_directory for root in roots):
        parent, _, name = base.rpartition("/")
        return Placement(parent or "/", way(parent or "/"), rename=name)
    if not into and not roots[0].is_directory:
        raise InvalidInput(
            f"the sources match {len(roots)} files: the destination must be a directory and end with a /"
        )
    placement = Placement(base, way(base))
    if exists_as_directory:
        for root in roots:
            _check(tree, base, root)
    return placement


def _check(tree: Tree, directory: str, entry: Entry) -> None:
    """Refuse a directory over a file and a file over a directory, in what both trees have."""
    path = f"{directory.rstrip('/')}/{entry.name}" if entry.name else directory
    status = _lstat(tree, path)
    if status is None:
        return
    if not entry.is_directory:
        if stat.S_ISDIR(status.st_mode):
            raise InvalidInput(f"cannot replace the directory {path} with a file")
        return
    if not stat.S_ISDIR(status.st_mode):
        raise InvalidInput(
            f"cannot copy to non-directory: {path}",
            hint=_link_hint(tree, path) if stat.S_ISLNK(status.st_mode) else "",
        )
    there = {name for name, _, _ in tree.children(path)}
    for child in entry.children:
        if child.name in there:
            _check(tree, path, child)


def _link_hint(tree: Tree, path: str) -> str:
    target = tree.readlink(path)
    return f"it is a symlink to {target}; copy into that directory instead"


def _lstat(tree: Tree, path: str) -> os.stat_result | None:
    try:
        return tree.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
