"""ADD: local tar archives are unpacked at the destination. Found out by their content, whatever they are called."""

from __future__ import annotations

import stat
from pathlib import Path

from buildtool.cache import Tree
from buildtool.cache.below import Below
from buildtool.cache.compression import decompress, detect
from buildtool.cache.tar_in import Unpacker
from buildtool.errors import InvalidInput
from buildtool.solve.selection import Entry

_BLOCK = 512


def is_archive(entry: Entry) -> bool:
    """Whether a selected file is a tar archive, plain or compressed with gzip, bzip2, xz or zstd."""
    if not stat.S_ISREG(entry.status.st_mode) or entry.content is not None:
        return False
    return is_tar(_path(entry))


def is_tar(path: Path) -> bool:
    """The same for any file."""
    with path.open("rb") as file:
        start = file.read(_BLOCK)
        file.seek(0)
        if not detect(start):
            return _is_header(start)
        try:
            return _is_header(next(iter(decompress(file)), b"")[:_BLOCK])
        except InvalidInput:
            return False


def _is_header(block: bytes) -> bool:
    """A tar header has the sum of its own bytes in it. Source: POSIX pax, ustar header block."""
    if len(block) < _BLOCK or not any(block):
        return False
    field = block[148:156].strip(b"\0 ")
    if not field or not all(48 <= byte <= 55 for byte in field):
        return False
    return sum(block[:148]) + sum(block[156:_BLOCK]) + 8 * 32 == int(field, 8)


def tree_at(tree: Tree, base: str) -> Tree:
    """What a tree has at a directory, as a tree of its own: symlinks do not lead out of it."""
    try:
        return Tree([Path(path) for path in reversed(tree.directories(base))])
    except (FileNotFoundError, NotADirectoryError):
        return Tree([])


def unpack_archive(
    entry: Entry, target: Path, below: Below, *, squash_ids: bool, owner: tuple[int, int] | None = None
) -> None:
    """Unpack into `target`, the draft's directory; `below` is what it lies on, `owner` whose everything becomes.

    Raises InvalidInput for a damaged or hostile one.
    """
    with _path(entry).open("rb") as file:
        try:
            unpacker = Unpacker(target, layer=False, squash_ids=squash_ids, below=below, owner=owner)
            unpacker.unpack(decompress(file))
        except InvalidInput as error:
            raise InvalidInput(f"ADD: {entry.source_name}: {error.message}", hint=error.hint) from error


def _path(entry: Entry) -> Path:
    return Path(entry.host, entry.source_name)
