"""A build context as a tar, for daemons that do not see the directory themselves."""

from __future__ import annotations

import json
import os
import stat
import tarfile

from buildtool.buildfile.ignore import IgnoreRules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from buildtool.cli.build_input import BuildInput

_READ = 1 << 20
_BLOCK = 512


def headed_tar(document: dict[str, Any], source: BuildInput) -> Iterator[bytes]:
    """The request's line of JSON, then the context's tar (an empty one when there is no context)."""
    yield json.dumps(document | {"context": None}).encode() + b"\n"
    if source.archive is not None:
        from buildtool.cli.archives import read_parts

        yield source.begun
        yield from read_parts(source.archive)
        return
    yield from context_tar(source)


def context_tar(source: BuildInput, *, extra: dict[str, bytes] | None = None) -> Iterator[bytes]:
    """The directory's files but the ignored ones, sorted, owned by root, then `extra` files; the end of the archive.

    Sockets are left out. A file that grows or shrinks meanwhile is cut or filled up: its header was already sent.
    """
    if source.directory:
        rules = IgnoreRules.parse(source.ignore or "", source.ignore_name or ".dockerignore")
        kept = frozenset(os.path.relpath(path, source.directory) for path in _always_kept(source))
        yield from _directory(source.directory, "", rules, kept)
    for name, data in (extra or {}).items():
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o600
        yield info.tobuf(tarfile.PAX_FORMAT) + data + _padding(len(data))
    yield bytes(2 * _BLOCK)


def _always_kept(source: BuildInput) -> list[str]:
    """The Buildfile and the ignore file go along even when they are ignored: the daemon needs them."""
    return [path for path in (source.path, source.ignore_name) if path]


def _directory(root: str, folder: str, rules: IgnoreRules, kept: frozenset[str]) -> Iterator[bytes]:
    for name in sorted(os.listdir(os.path.join(root, folder))):
        path = f"{folder}/{name}" if folder else name
        full = os.path.join(root, path)
        found = os.lstat(full)
        is_directory = stat.S_ISDIR(found.st_mode)
        ignored = rules.excludes(path) and path not in kept
        if not ignored and not stat.S_ISSOCK(found.st_mode):
            yield from _member(full, path, found)
        if is_directory and (not ignored or rules.may_contain_included(path) or _holds(path, kept)):
            yield from _directory(root, path, rules, kept)


def _holds(folder: str, kept: frozenset[str]) -> bool:
    return any(path.startswith(f"{folder}/") for path in kept)


def _member(full: str, path: str, found: os.stat_result) -> Iterator[bytes]:
    info = tarfile.TarInfo(path)
    info.mode, info.mtime = stat.S_IMODE(found.st_mode), found.st_mtime
    if stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(found.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(full)
    elif stat.S_ISFIFO(found.st_mode):
        info.type = tarfile.FIFOTYPE
    elif stat.S_ISREG(found.st_mode):
        info.size = found.st_size
    else:
        info.type = tarfile.BLKTYPE if stat.S_ISBLK(found.st_mode) else tarfile.CHRTYPE
        info.devmajor, info.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
    if info.size:
        yield from _content(full, info.size)


def _content(full: str, size: int) -> Iterator[bytes]:
    left = size
    with open(full, "rb") as file:
        while left and (part := file.read(min(_READ, left))):
            left -= len(part)
            yield part
    while left:
        part = bytes(min(_READ, left))
        left -= len(part)
        yield part
    if size % _BLOCK:
        yield _padding(size)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
