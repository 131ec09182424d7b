# ruff: noqa: PTH112, PTH115
"""A merged view of snapshots without mounting: what an overlay of them would show.

Paths inside the tree are strings from its root ("/usr/lib" or "usr/lib"; results begin with "/"); bytes that are
no UTF-8 are surrogate-escaped. Nothing is ever read outside the given directories, whatever the symlinks say.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from buildtool.cache.overlay import opaque_xattr
from buildtool.cache.whiteouts import is_whiteout

_MAX_LINKS = 40


class Tree:
    """The merged view of `fs_paths` (bottom first). They must not change while it lives: directories are remembered.

    Raises what the os functions raise: FileNotFoundError, NotADirectoryError, OSError(ELOOP)…
    """

    def __init__(self, fs_paths: Sequence[Path], *, immutable: bool = False) -> None:
        """`immutable`: the directories never change any more (committed snapshots). What their roots hold is then
        remembered for all trees, and a look through a hundred layers touches only those that have the name.
        """
        self._immutable = immutable
        self._opaque = opaque_xattr()
        self._directories: dict[str, tuple[str, ...]] = {"/": tuple(str(path) for path in reversed(fs_paths))}

    def lstat(self, path: str) -> os.stat_result:
        """The status of the entry itself; symlinks before the last component are followed."""
        return os.lstat(self._entry(path))

    def exists(self, path: str) -> bool:
        """Whether the path leads to something, symlinks followed."""
        try:
            self.resolve(path, strict=True)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                return False
            raise
        return True

    def real(self, path: str) -> Path:
        """The host path of the topmost entry with this name (the last component is not followed)."""
        return Path(self._entry(path))

    def readlink(self, path: str) -> str:
        """The target of a symlink, as it stands."""
        return os.readlink(self._entry(path))

    def listdir(self, path: str) -> list[str]:
        """The sorted names in a directory (symlinks followed)."""
        return sorted(self._names(self._merged(self.resolve(path, strict=True), path)))

    def directories(self, path: str) -> tuple[str, ...]:
        """The host directories that make up the directory at the path (symlinks followed), topmost first.

        They are what an overlay of this directory alone needs as lower directories.
        """
        return self._merged(self.resolve(path, strict=True), path)

    def children(self, path: str) -> list[tuple[str, os.stat_result, str]]:
        """Name, status and host directory of every entry of the directory at the path, sorted by name."""
        found: dict[str, tuple[os.stat_result, str] | None] = {}
        for directory in self.directories(path):
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name not in found:
                        status = entry.stat(follow_symlinks=False)
                        found[entry.name] = None if is_whiteout(status) else (status, directory)
        return [(name, *found[name]) for name in sorted(found) if found[name] is not None]  # type: ignore[misc]

    def open(self, path: str) -> BinaryIO:
        """The regular file at the path (symlinks followed), for reading."""
        real = self._entry(self.resolve(path, strict=True))
        if not stat.S_ISREG(os.lstat(real).st_mode):
            number = errno.EISDIR if os.path.isdir(real) else errno.EINVAL
            raise OSError(number, "not a regular file", path)
        return os.fdopen(os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")

    def read_text(self, path: str, default: str = "") -> str:
        """The file's text, or the default when there is no such file. What is no UTF-8 is surrogate-escaped."""
        try:
            with self.open(path) as file:
                return file.read().decode(errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return default

    def resolve(self, path: str, *, strict: bool = False) -> str:
        """The path with all symlinks followed inside the root: absolute targets and ".." never lead out of it.

        What does not exist is appended as it stands, or with `strict` raises FileNotFoundError. Raises OSError(ELOOP)
        after 40 links, NotADirectoryError when something follows a file.
        """
        return self._resolve(path, strict=strict, follow_last=True)

    def walk(self, path: str = "/") -> Iterator[tuple[str, os.stat_result]]:
        """The entry and everything below it, each directory before its contents, names sorted by their bytes."""
        start = self._resolve(path, strict=True, follow_last=False)
        yield from self._walk(start, os.lstat(self._entry(start)))

    def _walk(self, path: str, status: os.stat_result) -> Iterator[tuple[str, os.stat_result]]:
        pending = [(path, status)]
        while pending:
            path, status = pending.pop()
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                children = self._children(self._merged(path, path))
                prefix = path.rstrip("/") + "/"
                names = sorted(children, key=os.fsencode, reverse=True)
                pending.extend((prefix + name, children[name]) for name in names)

    def _children(self, directories: tuple[str, ...]) -> dict[str, os.stat_result]:
        found: dict[str, os.stat_result | None] = {}
        for directory in directories:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name in found:
                        continue
                    status = entry.stat(follow_symlinks=False)
                    found[entry.name] = None if is_whiteout(status) else status
        return {name: status for name, status in found.items() if status is not None}

    def _names(self, directories: tuple[str, ...]) -> list[str]:
        if len(directories) == 1:
            with os.scandir(directories[0]) as entries:
                return [entry.name for entry in entries if not _hides(entry)]
        return list(self._children(directories))

    def _merged(self, resolved: str, shown: str) -> tuple[str, ...]:
        """The layers' directories that make up the directory at a resolved path."""
        known = self._directories.get(resolved)
        if known is not None:
            return known
        parent, _, name = resolved.rpartition("/")
        real, status, directories = self._look(self._merged(parent or "/", shown), name)
        if real is None or status is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), shown)
        if not directories:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), shown)
        self._directories[resolved] = directories
        return directories

    def _look(self, parents: tuple[str, ...], name: str) -> tuple[str | None, os.stat_result | None, tuple[str, ...]]:
        """The topmost entry of this name, and for a directory all that are merged with it."""
        top: str | None = None
        top_status: os.stat_result | None = None
        merged: list[str] = []
        known = self._immutable and parents is self._directories["/"]
        for parent in parents:
            if known and name not in _names_in(parent):
                continue
            path = f"{parent}/{name}"
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if top is None:
                if is_whiteout(status):
                    break
                top, top_status = path, status
            if not stat.S_ISDIR(status.st_mode):
                break
            merged.append(path)
            if len(merged) <= len(parents) and self._is_opaque(path):
                break
        return top, top_status, tuple(merged)

    def _is_opaque(self, path: str) -> bool:
        try:
            return os.getxattr(path, self._opaque, follow_symlinks=False) == b"y"
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.ENOTSUP):
                return False
            raise

    def _entry(self, path: str) -> str:
        """The host path of an entry whose last component is not followed. Raises FileNotFoundError."""
        resolved = self._resolve(path, strict=True, follow_last=False)
        if resolved == "/":
            return self._root()
        parent, _, name = resolved.rpartition("/")
        real = self._look(self._merged(parent or "/", path), name)[0]
        if real is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return real

    def _root(self) -> str:
        layers = self._directories["/"]
        if not layers:
            raise FileNotFoundError(errno.ENOENT, "no layers", "/")
        return layers[0]

    def _resolve(self, path: str, *, strict: bool, follow_last: bool) -> str:
        pending = path.split("/")[::-1]
        must_be_directory = path.endswith(("/", "/."))
        current: list[str] = []
        links = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if current:
                    current.pop()
                continue
            real, status, _ = self._look(self._merged("/" + "/".join(current), path), name)
            if real is None or status is None:
                if strict:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
                return "/" + "/".join(_lexical([*current, name, *pending[::-1]]))
            last = not any(part not in ("", ".") for part in pending)
            if stat.S_ISLNK(status.st_mode) and (follow_last or not last or must_be_directory):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(real)
                if target.startswith("/"):
                    current = []
                pending.extend(target.split("/")[::-1])
                continue
            if not stat.S_ISDIR(status.st_mode) and not last:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            current.append(name)
        return "/" + "/".join(current)


@lru_cache(maxsize=8192)
def _names_in(directory: str) -> frozenset[str]:
    return frozenset(os.listdir(directory))


def _lexical(parts: list[str]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if part == "..":
            if kept:
                kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    return kept


def _hides(entry: os.DirEntry[str]) -> bool:
    if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False) or entry.is_symlink():
        return False
    return is_whiteout(entry.stat(follow_symlinks=False))
