"""A build cache in a directory, an OCI image layout: its index has the bundle's manifest, records are files.

Source: OCI image-spec v1.1, image-layout.md.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from buildtool.aio import offload
from buildtool.errors import BuildtoolError, Corrupt
from buildtool.oci import (
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    best_entries,
    decode_index,
    decode_manifest,
    encode,
    is_digest,
    media_types,
    sha256,
)
from buildtool.solve.caches.backend import Loaded

SCHEME = "layout"
RECORDS = "buildtool-cache"
_REF_NAME = "org.opencontainers.image.ref.name"
_LARGEST = 16 << 20
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class CacheLayout:
    """The cache of this tag in the directory (or, to be read, with this digest). `reset` empties it when written;
    `platforms` choose among the images of an index whose configs may have records in them.
    """

    def __init__(
        self,
        directory: Path,
        tag: str = "latest",
        digest: str = "",
        *,
        reset: bool = False,
        platforms: Collection[Platform] = (),
    ) -> None:
        self.name = str(directory)
        self.source = f"{SCHEME}://{directory}"
        self._directory = directory
        self._tag = tag or "latest"
        self._digest = digest
        self._reset = reset
        self._platforms = platforms

    def named(self, suffix: str) -> CacheLayout:
        """The same directory with another tag for the bundle."""
        return CacheLayout(self._directory, f"{self._tag}-{suffix}")

    async def load(self) -> list[Loaded]:
        """The bundle, or the configs of the image (of an index those for the platforms), under the tag."""
        return await offload(self._guarded, self._load)

    def _load(self) -> list[Loaded]:
        if not (self._directory / "index.json").exists():
            return []
        index = decode_index(_read(self._directory / "index.json"))
        wanted = [each for each in index.manifests if self._is_wanted(each)]
        chosen = wanted[-1:]
        if chosen and chosen[0].media_type in media_types.INDEXES:
            chosen = best_entries(decode_index(self._document(chosen[0])), self._platforms)
        manifests = [decode_manifest(self._document(each)) for each in chosen]
        return [(self._document(each.config), each.config.media_type, each.layers) for each in manifests]

    def _is_wanted(self, descriptor: Descriptor) -> bool:
        if self._digest:
            return descriptor.digest == self._digest
        return (descriptor.annotations or {}).get(_REF_NAME) == self._tag

    def _document(self, descriptor: Descriptor) -> bytes:
        data = _read(blob_path(self._directory, descriptor.digest))
        if sha256(data) != descriptor.digest:
            raise Corrupt(f"{self.name}: blob {descriptor.digest} has the digest {sha256(data)}")
        return data

    async def find(self, key: str) -> bytes | None:
        """The record under a key."""
        return await offload(self._guarded, lambda: self._find(key))

    def _find(self, key: str) -> bytes | None:
        path = self._record(key)
        return _read(path) if path.exists() else None

    async def has_blob(self, digest: Digest) -> bool:
        """Whether the blob is there."""
        return await offload(blob_path(self._directory, digest).exists)

    async def put_blob(self, blob: Descriptor, path: Path) -> None:
        """Copy a blob there."""

        def copy(target: Path) -> None:
            with path.open("rb") as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)

        await offload(self._guarded, lambda: self._put(blob_path(self._directory, blob.digest), copy))

    async def put_record(self, keys: Sequence[str], data: bytes, blob: Descriptor) -> None:
        """Write the record for each key."""

        def work() -> None:
            for key in keys:
                self._put(self._record(key), partial(_write, data))

        await offload(self._guarded, work)

    async def put_bundle(self, data: bytes, media_type: str, blobs: Sequence[Descriptor]) -> None:
        """Let the tag in index.json point at the bundle."""
        await offload(self._guarded, lambda: self._put_bundle(data, media_type, blobs))

    def _put_bundle(self, data: bytes, media_type: str, blobs: Sequence[Descriptor]) -> None:
        bundle = Descriptor(media_type, sha256(data), len(data))
        manifest = encode(Manifest(2, media_types.MANIFEST, bundle, list(blobs)))
        for document in (data, manifest):
            self._put(blob_path(self._directory, sha256(document)), partial(_write, document))
        named = Descriptor(media_types.MANIFEST, sha256(manifest), len(manifest), annotations={_REF_NAME: self._tag})
        with self._locked():
            path = self._directory / "index.json"
            known = decode_index(_read(path)).manifests if path.exists() and not self._reset else []
            others = [each for each in known if (each.annotations or {}).get(_REF_NAME) != self._tag]
            index = encode(Index(2, media_types.INDEX, [*others, named]))
            self._put(self._directory / "oci-layout", partial(_write, _LAYOUT))
            self._put(path, partial(_write, index))
            if self._reset:
                self._keep_only({bundle.digest, named.digest, *(each.digest for each in blobs)}, data)

    def _keep_only(self, digests: set[Digest], bundle: bytes) -> None:
        for path in (self._directory / "blobs/sha256").iterdir():
            if f"sha256:{path.name}" not in digests and len(path.name) == 64:
                path.unlink()
        kept = {name for record in json.loads(bundle)["records"] for name in (record["key"], record.get("content"))}
        for path in (self._directory / RECORDS).glob("*.json"):
            if f"sha256:{path.stem}" not in kept:
                path.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _record(self, key: str) -> Path:
        if not is_digest(key):
            raise Corrupt(f"{key!r} is no key")
        return self._directory / RECORDS / f"{key[7:]}.json"

    def _put(self, path: Path, write: Callable[[Path], Any]) -> None:
        """Complete or not at all; it belongs to whom the directory belongs to."""
        owner = self._directory.stat()
        missing = [each for each in path.parents if not each.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=".", dir=path.parent)
        os.close(fd)
        temporary = Path(name)
        try:
            write(temporary)
            temporary.chmod(0o644)
            if os.geteuid() == 0:
                for each in (temporary, *missing):
                    os.chown(each, owner.st_uid, owner.st_gid)
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _guarded(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except OSError as error:
            raise BuildtoolError(f"{error.filename or self.name}: {error.strerror}") from error


def blob_path(directory: Path, digest: str) -> Path:
    """Where a layout has a blob. Raises Corrupt for what is no digest."""
    if not is_digest(digest):
        raise Corrupt(f"{directory}: {digest!r} is no digest")
    return directory / "blobs/sha256" / digest[7:]


def _read(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST:
        raise Corrupt(f"{path}: too large for a document")
    return path.read_bytes()


def _write(data: bytes, target: Path) -> None:
    target.write_bytes(data)
