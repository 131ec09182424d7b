"""The archives of `cp`: made of local files, and unpacked here without trusting them."""

from __future__ import annotations

import copy
import os
import tarfile

from buildtool.errors import Corrupt, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildtool.client import Response

_BLOCK = 512
_READ = 1 << 20


class BodyReader:
    """A response's body as the file that tarfile reads."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer at the end."""
        parts, have = [self._rest], len(self._rest)
        while have < size and (data := self._response.read_some()):
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]


def rebase(name: str, root: str, new_root: str) -> str:
    """A member's name with the archive's root renamed."""
    if not new_root:
        return name
    if name.rstrip("/") in (root, ""):
        return new_root
    return f"{new_root}/{name.removeprefix(root).lstrip('/')}"


def extract(response: Response, folder: str, *, rename: str, keep_owners: bool) -> int:
    """Unpack an archive from a container into `folder` and return the bytes of its files.

    `rename` is the name of its root here ("" = its own). Nothing is written outside of `folder`, whatever the archive
    says: names with `..` and names that lead through a symbolic link are refused. Raises Corrupt for such archives.
    """
    if not os.path.isdir(folder):
        raise InvalidInput(f"no such directory: {folder!r}")
    total, root = 0, None
    try:
        with tarfile.open(fileobj=BodyReader(response), mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                root = member.name.split("/")[0] if root is None else root
                member.name = rebase(member.name, root, rename)
                if member.islnk():
                    member.linkname = rebase(member.linkname, root, rename)
                _extract_member(archive, member, folder, keep_owners)
                total += member.size
    except tarfile.TarError as error:
        raise Corrupt(f"the archive from the container cannot be unpacked: {error}") from error
    return total


def _extract_member(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: str, keep_owners: bool) -> None:
    _refuse_escape(folder, member.name)
    if member.islnk():
        _refuse_escape(folder, member.linkname)
    place = os.path.join(folder, member.name)
    if not member.isdir() and os.path.lexists(place):
        if os.path.isdir(place) and not os.path.islink(place):
            raise InvalidInput(f"cannot overwrite directory {place!r} with a file")
        os.unlink(place)

    if not keep_owners:
        member = copy.copy(member)
        member.uid, member.gid, member.uname, member.gname = os.geteuid(), os.getegid(), "", ""
    # What the archive may name was checked above; Python before 3.11.4 has no extraction filters.
    archive.extraction_filter = lambda info, _path: info
    archive.extract(member, folder, numeric_owner=True)


def _refuse_escape(folder: str, name: str) -> None:
    parts = name.split("/")
    place = folder
    for position, part in enumerate(parts):
        place = os.path.join(place, part)
        inner = position < len(parts) - 1
        if part == ".." or not parts[0] or (inner and os.path.islink(place)):
            raise Corrupt(
                f"the archive from the container is refused: {name!r} would be written outside of {folder!r}"
            )


def local_archive(source: str, name: str, sizes: list[int]) -> Iterator[bytes]:
    """The tar of a local file or directory, its root called `name`; the files' sizes are appended to `sizes`."""
    for path, member_name in _walk(source, name):
        info = _member(path, member_name)
        if info is None:
            continue
        yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
        if info.size:
            sizes.append(info.size)
            yield from _content(path, info.size)
    yield bytes(2 * _BLOCK)


def _walk(source: str, name: str) -> Iterator[tuple[str, str]]:
    yield source, name
    if os.path.isdir(source) and not os.path.islink(source):
        for entry in sorted(os.listdir(source)):
            yield from _walk(os.path.join(source, entry), f"{name}/{entry}")


def _member(path: str, name: str) -> tarfile.TarInfo | None:
    """The header; None for what an archive cannot hold (sockets)."""
    with tarfile.TarFile(fileobj=open(os.devnull, "wb"), mode="w") as maker:
        info: tarfile.TarInfo | None = maker.gettarinfo(path, arcname=name)
    if info is not None and info.islnk():
        info.type, info.size = tarfile.REGTYPE, os.lstat(path).st_size
    return info


def _content(path: str, size: int) -> Iterator[bytes]:
    left = size
    with open(path, "rb") as file:
        while left and (part := file.read(min(_READ, left))):
            left -= len(part)
            yield part
    if left:
        raise InvalidInput(f"{path} became shorter while it was copied")
    yield bytes(-size % _BLOCK)
