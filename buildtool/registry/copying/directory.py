"""`dir:`: one image as plain files: `manifest.json`, blobs named by their hex digits, and for an index's children
`<hex>.manifest.json`.

Source: containers-transports(5), "dir:path".
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from buildtool.errors import InvalidInput, NotFound
from buildtool.oci import Descriptor, Digest, hex_of, is_digest, sha256
from buildtool.registry.copying.files import copy_verified, verify
from buildtool.registry.copying.layout import write_whole
from buildtool.registry.copying.place import Place, Report
from buildtool.registry.repository import Fetched, media_type_of
from buildtool.registry.work import settled

_VERSION = b"Directory Transport Version: 1.1\n"


class DirectoryPlace:
    """A folder for one image (or index), to look into and to test with."""

    multi = True
    foreign = True

    def __init__(self, root: Path, *, write: bool = False) -> None:
        self.root = root
        self._top: Fetched | None = None
        if write:
            if root.is_dir() and any(root.iterdir()) and not (root / "version").exists():
                raise InvalidInput(f"{root} is not empty and no such directory: nothing is written there")
            try:
                root.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                raise InvalidInput(f"{root} is no folder") from None
        elif not (root / "manifest.json").is_file():
            raise NotFound(f"{root} holds no image: there is no manifest.json in it")

    async def names(self) -> list[str]:
        return []

    async def manifest(self, name: str) -> Fetched:
        top = self._read(self.root / "manifest.json")
        if not is_digest(name) or top.digest == name:
            return top
        return self._read(self.root / f"{hex_of(Digest(name))}.manifest.json")

    def _read(self, path: Path) -> Fetched:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFound(f"{path} is missing") from None
        return Fetched(data, media_type_of(data), sha256(data))

    @asynccontextmanager
    async def blob(self, descriptor: Descriptor, report: Report) -> AsyncIterator[Path]:
        path = self.root / hex_of(descriptor.digest)
        await settled(verify, path, descriptor)
        yield path

    async def referrers(self, subject: Digest) -> list[Descriptor]:
        return []

    async def has_blob(self, descriptor: Descriptor) -> bool:
        path = self.root / hex_of(descriptor.digest)
        return path.exists() and path.stat().st_size == descriptor.size

    async def take_over(self, descriptor: Descriptor, source: Place) -> bool:
        return False

    async def put_blob(self, descriptor: Descriptor, path: Path, report: Report) -> None:
        await settled(copy_verified, path, self.root / hex_of(descriptor.digest), descriptor, report)

    async def put_manifest(self, name: str, fetched: Fetched) -> None:
        await settled(write_whole, self.root / f"{hex_of(fetched.digest)}.manifest.json", fetched.data)
        self._top = fetched

    async def finish(self) -> None:
        """The manifest that was put last is the image's own: children come before their index."""
        if self._top is not None:
            await settled(write_whole, self.root / "manifest.json", self._top.data)
            (self.root / f"{hex_of(self._top.digest)}.manifest.json").unlink(missing_ok=True)
        await settled(write_whole, self.root / "version", _VERSION)

    async def close(self) -> None:
        return None
