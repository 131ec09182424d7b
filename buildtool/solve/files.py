# ruff: noqa: PTH115
"""Where COPY takes files from: the build context, or the file tree of a stage or an image.

Both look the same to what selects and copies. Paths are relative to the source's root, clean, `/`-separated; "" is
the root.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from buildtool.buildfile import IgnoreRules
from buildtool.cache import Tree
from buildtool.solve.fingerprints import (
    Child,
    Directory,
    FileIndex,
    directory_digest,
    hash_file,
    line_of,
    special_digest,
)

_MAX_LINKS = 40
_KIND = 0o170000
_LEFT_OUT = frozenset((stat.S_IFDIR, stat.S_IFSOCK))
"""What is not among the files of a directory."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileSource(Protocol):
    """What files can be taken from. Raises FileNotFoundError and NotADirectoryError like the os functions."""

    owned: bool
    """Whether owners and extended attributes mean something; else everything belongs to root."""

    def children(self, path: str) -> list[Child]:
        """What a directory contains, sorted by name."""

    def find(self, path: str) -> Child:
        """One entry, not following it if it is a symlink."""

    def resolve(self, path: str) -> str:
        """The path with all symlinks followed inside the root."""

    def digest(self, path: str, child: Child) -> str:
        """The SHA-256 of a regular file, in hex."""

    def tree_digest(self, path: str) -> str:
        """The digest of a directory's contents: see fingerprints.directory_digest. Sockets are left out."""

    def is_ignored(self, path: str) -> bool:
        """Whether an ignore rule hides a path that is there."""


class TreeFiles:
    """The files of a stage or an image."""

    owned = True

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._digests: dict[str, str] = {}
        self._trees: dict[str, str] = {}

    def children(self, path: str) -> list[Child]:
        return self.tree.children("/" + path)

    def find(self, path: str) -> Child:
        if not path:
            return "", self.tree.lstat("/"), ""
        real = self.tree.real("/" + path)
        return real.name, os.lstat(real), str(real.parent)

    def resolve(self, path: str) -> str:
        return self.tree.resolve("/" + path, strict=True).lstrip("/")

    def digest(self, path: str, child: Child) -> str:
        known = self._digests.get(path)
        if known is None:
            known = self._digests[path] = hash_file(f"{child[2]}/{child[0]}")[0]
        return known

    def tree_digest(self, path: str) -> str:
        known = self._trees.get(path)
        if known is None:
            known = self._trees[path] = self._tree_digest(path)
        return known

    def _tree_digest(self, path: str) -> str:
        prefix = path + "/" if path else ""
        files: list[str] = []
        directories: list[str] = []
        for child in self.children(path):
            name, status, _ = child
            if stat.S_ISDIR(status.st_mode):
                directories.append(line_of(name, status, self.tree_digest(prefix + name), owned=True))
            elif stat.S_ISREG(status.st_mode):
                files.append(line_of(name, status, self.digest(prefix + name, child), owned=True))
            elif not stat.S_ISSOCK(status.st_mode):
                files.append(line_of(name, status, special_digest(child), owned=True))
        return directory_digest("\n".join(files).encode(errors="surrogateescape"), directories)

    def is_ignored(self, path: str) -> bool:
        return False


class NoFiles:
    """A build without a context: nothing is there."""

    owned = False

    def children(self, path: str) -> list[Child]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def find(self, path: str) -> Child:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def resolve(self, path: str) -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def tree_digest(self, path: str) -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def digest(self, path: str, child: Child) -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def is_ignored(self, path: str) -> bool:
        return False


class ContextFiles:
    """The build context without what the ignore rules exclude.

    Every directory is listed at most once in the life of this object, so that a build sees one state of it.
    """

    owned = False

    def __init__(
        self,
        root: Path,
        rules: IgnoreRules,
        index: FileIndex,
        seen_as: Callable[[os.stat_result], os.stat_result] | None = None,
    ) -> None:
        """`seen_as` changes the status of everything, as for `index`."""
        self._seen_as = seen_as
        self.root = str(root)
        self.index = index
        self._ignore = _Ignore(rules) if rules.rules else None
        self.rules = rules
        self._listings: dict[str, list[Child]] = {}
        self._directories: dict[str, Directory] = {}
        self._below: dict[str, list[Child]] = {}
        self._digests: dict[str, dict[str, str]] = {}
        self._trees: dict[str, str] = {}

    def children(self, path: str) -> list[Child]:
        known = self._listings.get(path)
        if known is None:
            known = self._listings[path] = self._list(path)
        return known

    def _list(self, path: str) -> list[Child]:
        directory = f"{self.root}/{path}" if path else self.root
        # with a descriptor every stat has one name to look up
        fd = os.open(directory, _DIRECTORY if path else _DIRECTORY & ~os.O_NOFOLLOW)
        try:
            with os.scandir(fd) as entries:
                if self._ignore is None:
                    found = [(entry.name, entry.stat(follow_symlinks=False), directory) for entry in entries]
                else:
                    keeps = self._ignore.filter(path)
                    found = [
                        (entry.name, entry.stat(follow_symlinks=False), directory)
                        for entry in entries
                        if keeps(entry.name, entry.is_dir(follow_symlinks=False))
                    ]
        finally:
            os.close(fd)
        found.sort()  # names decide: each is there once
        if self._seen_as is not None:
            return [(name, self._seen_as(status), directory) for name, status, directory in found]
        return found

    def find(self, path: str) -> Child:
        if not path:
            status = os.lstat(self.root)
            return "", self._seen_as(status) if self._seen_as is not None else status, self.root
        parent, _, name = path.rpartition("/")
        for child in self.children(parent):
            if child[0] == name:
                return child
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def resolve(self, path: str) -> str:
        pending = path.split("/")[::-1]
        current: list[str] = []
        links = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                del current[-1:]
                continue
            here = "/".join([*current, name])
            child = self.find(here)
            if not stat.S_ISLNK(child[1].st_mode):
                current.append(name)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(f"{child[2]}/{name}")
            if target.startswith("/"):
                current = []
            pending.extend(target.split("/")[::-1])
        return "/".join(current)

    def digest(self, path: str, child: Child) -> str:
        parent, _, name = path.rpartition("/")
        digests = self._digests.get(parent)
        if digests is None:
            digests = self._digests[parent] = {
                key.decode(errors="surrogateescape"): digest.hex()
                for key, (_, digest) in self._looked(parent).known().items()
            }
        return digests[name]

    def tree_digest(self, path: str) -> str:
        known = self._trees.get(path)
        if known is None:
            known = self._trees[path] = self._tree_digest(path)
        return known

    def _tree_digest(self, path: str) -> str:
        prefix = path + "/" if path else ""
        section = self._looked(path).section
        below = [line_of(child[0], child[1], self.tree_digest(prefix + child[0])) for child in self._below[path]]
        return directory_digest(section, below)

    def _looked(self, path: str) -> Directory:
        looked = self._directories.get(path)
        if looked is None:
            files, others = self.children(path), []
            modes = [child[1].st_mode & _KIND for child in files]
            if _LEFT_OUT.intersection(modes):
                others = [child for child, mode in zip(files, modes, strict=True) if mode == stat.S_IFDIR]
                files = [child for child, mode in zip(files, modes, strict=True) if mode not in _LEFT_OUT]
            self._below[path] = others
            looked = self._directories[path] = self.index.look(path, files)
        return looked

    def is_ignored(self, path: str) -> bool:
        return os.path.lexists(f"{self.root}/{path}") and self.rules.excludes(path)


class _Ignore:
    """The rules, prepared for asking about many files of one directory.

    What a rule says of a directory holds for all below it, so of a file only its own match is left to find; one
    regular expression of all patterns tells that most files have none.
    """

    def __init__(self, rules: IgnoreRules) -> None:
        self.rules = rules
        patterns = (rule.regex.pattern if rule.regex is not None else re.escape(rule.pattern) for rule in rules.rules)
        self._any = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.DOTALL)

    def filter(self, directory: str) -> _Filter:
        """Whether to keep an entry of this directory, given its name and whether it is a directory."""
        prefix = directory + "/" if directory else ""
        parts = directory.split("/") if directory else []
        parents = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        excluded = False
        for rule in self.rules.rules:
            if rule.negated == excluded and any(rule.matches(parent) for parent in parents):
                excluded = not rule.negated
        matches, rules = self._any.fullmatch, self.rules

        def keeps(name: str, is_directory: bool) -> bool:
            path = prefix + name
            hidden = excluded if matches(path) is None else rules.excludes(path)
            return not hidden or (is_directory and rules.may_contain_included(path))

        return keeps


class _Filter(Protocol):
    def __call__(self, name: str, is_directory: bool, /) -> bool: ...
