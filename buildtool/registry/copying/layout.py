"""OCI image layouts: a folder with `oci-layout`, `index.json` and `blobs/<algorithm>/<hex>`.

Source: OCI image-spec v1.1, image-layout.md.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from buildtool.aio import offload
from buildtool.errors import Corrupt, InvalidInput, NotFound
from buildtool.oci import Descriptor, Digest, Index, decode_index, encode, is_digest, media_types, sha256
from buildtool.registry.copying.files import copy_verified, verify
from buildtool.registry.copying.place import Place, Report
from buildtool.registry.referrers import subject_of
from buildtool.registry.repository import MANIFEST_LIMIT, Fetched
from buildtool.registry.work import settled

REFERENCE = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_EMPTY = Index(2, media_types.INDEX, [])
_MANIFESTS = media_types.MANIFESTS | media_types.INDEXES


class LayoutPlace:
    """A layout to read, or to write: blobs first, `index.json` is replaced when all is there."""

    multi = True
    foreign = True

    def __init__(self, root: Path, *, write: bool = False) -> None:
        """Raises NotFound, InvalidInput for what is no layout."""
        self.root = root
        self._new: list[Descriptor] = []
        if write:
            _create(root)
        self.index = self._read()

    def _read(self) -> Index:
        try:
            _check_version((self.root / "oci-layout").read_bytes(), self.root)
            return decode_index((self.root / "index.json").read_bytes())
        except FileNotFoundError as error:
            what = Path(error.filename).name
            raise NotFound(f"{self.root} is no OCI layout: there is no {what} in it") from None
        except NotADirectoryError:
            raise InvalidInput(f"{self.root} is no folder", hint="for a tar archive write oci-archive:FILE") from None

    async def names(self) -> list[str]:
        found = {name for one in self.index.manifests if (name := _name_of(one))}
        return sorted(found)

    async def manifest(self, name: str) -> Fetched:
        descriptor = self._find(name)
        return await offload(self._fetched, descriptor)

    def _find(self, name: str) -> Descriptor:
        entries = [one for one in self.index.manifests if one.media_type in _MANIFESTS]
        if is_digest(name):
            known = [one for one in entries if one.digest == name]
            return known[0] if known else self._descriptor_of(Digest(name))
        wanted = [one for one in entries if not name or _name_of(one) == name]
        if len(wanted) == 1:
            return wanted[0]
        if name and not wanted:
            known_names = ", ".join(sorted({_name_of(one) for one in entries} - {""})) or "images without a name"
            raise NotFound(f"{self.root} has no image named {name!r}", hint=f"there are: {known_names}")
        named = [one for one in wanted if not self._is_referrer(one)]
        if len(named) == 1 or (named and len({one.digest for one in named}) == 1):
            return named[0]
        if not wanted:
            raise NotFound(f"{self.root} has no image in it")
        names = ", ".join(_name_of(one) or one.digest for one in wanted)
        raise InvalidInput(f"{self.root} has several images: say which", hint=f"there are: {names}")

    def _is_referrer(self, descriptor: Descriptor) -> bool:
        return not _name_of(descriptor) and subject_of(self._path(descriptor.digest).read_bytes()) is not None

    def _descriptor_of(self, digest: Digest) -> Descriptor:
        """A manifest that the index does not name: a child of one that it does."""
        data = self._document(digest)

        class Shape(msgspec.Struct, rename="camel"):
            media_type: str = media_types.MANIFEST
            manifests: list[msgspec.Raw] | None = None

        try:
            shape = msgspec.json.decode(data, type=Shape)
        except msgspec.DecodeError as error:
            raise Corrupt(f"{self.root}: manifest {digest} is malformed: {error}") from None
        media_type = media_types.INDEX if shape.manifests is not None else shape.media_type
        return Descriptor(shape.media_type if shape.media_type in _MANIFESTS else media_type, digest, len(data))

    def _fetched(self, descriptor: Descriptor) -> Fetched:
        data = self._document(descriptor.digest)
        if sha256(data) != descriptor.digest:
            raise Corrupt(f"{self.root}: manifest {descriptor.digest} has the digest {sha256(data)}")
        return Fetched(data, descriptor.media_type, descriptor.digest)

    def _document(self, digest: Digest) -> bytes:
        path = self._path(digest)
        try:
            if path.stat().st_size > MANIFEST_LIMIT:
                raise Corrupt(f"{self.root}: {digest} is too large for a manifest")
            return path.read_bytes()
        except FileNotFoundError:
            raise NotFound(f"{self.root}: there is no manifest {digest}") from None

    @asynccontextmanager
    async def blob(self, descriptor: Descriptor, report: Report) -> AsyncIterator[Path]:
        path = self._path(descriptor.digest)
        await settled(verify, path, descriptor)
        yield path

    async def referrers(self, subject: Digest) -> list[Descriptor]:
        def work() -> list[Descriptor]:
            entries = [one for one in self.index.manifests if one.media_type in _MANIFESTS]
            return [one for one in entries if subject_of(self._document(one.digest)) == subject]

        return await offload(work)

    async def has_blob(self, descriptor: Descriptor) -> bool:
        path = self._path(descriptor.digest)
        return path.exists() and path.stat().st_size == descriptor.size

    async def take_over(self, descriptor: Descriptor, source: Place) -> bool:
        return False

    async def put_blob(self, descriptor: Descriptor, path: Path, report: Report) -> None:
        await settled(copy_verified, path, self._path(descriptor.digest), descriptor, report)

    async def put_manifest(self, name: str, fetched: Fetched) -> None:
        path = self._path(fetched.digest)
        await settled(write_whole, path, fetched.data)
        if name or subject_of(fetched.data) is not None:
            annotations = {REFERENCE: name} if name else None
            self._new.append(Descriptor(fetched.media_type, fetched.digest, len(fetched.data), annotations))

    def name_nothing(self, fetched: Fetched) -> None:
        """Enter an image without a name."""
        self._new.append(Descriptor(fetched.media_type, fetched.digest, len(fetched.data)))

    async def finish(self) -> None:
        def work() -> None:
            with _locked(self.root):
                entries = self._read().manifests
                for new in self._new:
                    name = _name_of(new)
                    entries = [one for one in entries if not _replaces(new, name, one)] + [new]
                self.index = Index(2, media_types.INDEX, entries)
                write_whole(self.root / "index.json", encode(self.index))

        await settled(work)

    async def close(self) -> None:
        return None

    def _path(self, digest: Digest) -> Path:
        algorithm, _, encoded = digest.partition(":")
        return self.root / "blobs" / algorithm / encoded


def _replaces(new: Descriptor, name: str, old: Descriptor) -> bool:
    if name:
        return _name_of(old) == name or (old.digest == new.digest and not _name_of(old))
    return old.digest == new.digest


def _name_of(descriptor: Descriptor) -> str:
    return (descriptor.annotations or {}).get(REFERENCE, "")


def _create(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise InvalidInput(f"{root} is no folder")
    if root.is_dir() and not (root / "oci-layout").exists() and any(root.iterdir()):
        raise InvalidInput(f"{root} is not empty and no OCI layout: nothing is written there")
    (root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    if not (root / "oci-layout").exists():
        write_whole(root / "index.json", encode(_EMPTY))
        write_whole(root / "oci-layout", _LAYOUT)


def _check_version(data: bytes, root: Path) -> None:
    try:
        version = msgspec.json.decode(data)["imageLayoutVersion"]
    except (msgspec.DecodeError, KeyError, TypeError):
        raise InvalidInput(f"{root}/oci-layout is malformed") from None
    if version != "1.0.0":
        raise InvalidInput(f"{root} is a layout of version {version}: only 1.0.0 is known")


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One writer of index.json at a time."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write_whole(path: Path, data: bytes) -> None:
    """Complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
