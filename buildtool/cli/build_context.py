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


def upload(document: dict[str, Any], source: BuildInput) -> tuple[Iterator[bytes], str]:
    """A build request with its contexts in it, and its media type: a line of JSON, then the context's tar (an empty
    one when there is no context), then one for each named context that is a directory (docs/api.md).
    """
    named = {name: each for name, each in document.get("contexts", {}).items() if each.get("place")}
    if not named:
        return _headed(document, _context(source)), "application/vnd.buildtool.build+tar"
    document = document | {"contexts": document["contexts"] | {name: _sent(each) for name, each in named.items()}}

    def parts() -> Iterator[bytes]:
        yield from _framed(_context(source))
        for name, each in document["contexts"].items():
            if name in named:
                yield from _framed(_named_tar(named[name]["place"]["path"], each["ignore"]))

    return _headed(document, parts()), "application/vnd.buildtool.build+tars"


def _headed(document: dict[str, Any], body: Iterator[bytes]) -> Iterator[bytes]:
    yield json.dumps(document | {"context": None}).encode() + b"\n"
    yield from body


def _sent(context: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in context.items() if name != "place"}
    return {"ignore": None} | rest | {"sent": True}


def _context(source: BuildInput) -> Iterator[bytes]:
    if source.archive is None:
        yield from context_tar(source)
        return
    from buildtool.cli.archives import read_parts

    yield source.begun
    yield from read_parts(source.archive)


def _named_tar(directory: str, ignore: str | None) -> Iterator[bytes]:
    yield from _directory(directory, "", IgnoreRules.parse(ignore or "", ".dockerignore"), frozenset(), {})
    yield bytes(2 * _BLOCK)


def _framed(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The parts, put together to larger ones, each behind its length; a length of 0 is the end."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= _READ:
            yield b"".join((size.to_bytes(4, "big"), *held))
            held, size = [], 0
    last = (size.to_bytes(4, "big"), *held) if size else ()
    yield b"".join((*last, bytes(4)))


def context_tar(source: BuildInput, *, extra: dict[str, bytes] | None = None) -> Iterator[bytes]:
    """The directory's files but the ignored ones, sorted, owned by root, then `extra` files; the end of the archive.

    Sockets are left out. A file that grows or shrinks meanwhile is cut or filled up: its header was already sent.
    """
    if source.directory:
        rules = IgnoreRules.parse(source.ignore or "", source.ignore_name or ".dockerignore")
        kept = frozenset(os.path.relpath(path, source.directory) for path in _always_kept(source))
        yield from _directory(source.directory, "", rules, kept, {})
    for name, data in (extra or {}).items():
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o600
        yield info.tobuf(tarfile.PAX_FORMAT) + data + _padding(len(data))
    yield bytes(2 * _BLOCK)


def _always_kept(source: BuildInput) -> list[str]:
    """The Buildfile and the ignore file go along even when they are ignored: the daemon needs them."""
    return [path for path in (source.path, source.ignore_name) if path]


def _directory(
    root: str, folder: str, rules: IgnoreRules, kept: frozenset[str], links: dict[tuple[int, int], str]
) -> Iterator[bytes]:
    """`links` are the names of files that have others, by device and inode: these go as links."""
    for name in sorted(os.listdir(os.path.join(root, folder))):
        path = f"{folder}/{name}" if folder else name
        full = os.path.join(root, path)
        found = os.lstat(full)
        is_directory = stat.S_ISDIR(found.st_mode)
        ignored = rules.excludes(path) and path not in kept
        if not ignored and not stat.S_ISSOCK(found.st_mode):
            first = links.setdefault((found.st_dev, found.st_ino), path) if _has_links(found) else path
            yield from _member(full, path, found) if first == path else _link(path, first)
        if is_directory and (not ignored or rules.may_contain_included(path) or _holds(path, kept)):
            yield from _directory(root, path, rules, kept, links)


def _has_links(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink > 1


def _link(path: str, first: str) -> Iterator[bytes]:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = tarfile.LNKTYPE, first
    yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")


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
