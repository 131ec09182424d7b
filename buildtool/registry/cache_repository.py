"""A build cache in a repository: its bundle under a tag, each record under a tag of its own, layers as blobs.

A record is the annotation of a manifest that names its layer, so that registries keep the layer as long as the
record; putting one is a single request, and machines that put different ones are in nobody's way.
Source: OCI image-spec v1.1, manifest.md, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from yarl import URL

from buildtool.errors import Corrupt
from buildtool.oci import (
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    Reference,
    best_entries,
    decode_index,
    decode_manifest,
    encode,
    media_types,
    sha256,
)
from buildtool.registry.errors import Missing, RegistryUnreachable
from buildtool.registry.repository import Fetched, Repository
from buildtool.registry.transport import BROKEN
from buildtool.registry.uploads import begin, upload, with_digest

RECORD_ANNOTATION = "dev.buildtool.cache.record"
RECORD_ARTIFACT = "application/vnd.buildtool.cache.record.v1+json"
_NOTHING = b"{}"
_TAG_PART = 60
_Loaded = tuple[bytes, str, list[Descriptor]]


class CacheRepository:
    """One reference's cache. With `as_index` the bundle's manifest is an index, as BuildKit's `image-manifest=false`.

    `platforms` choose among the images of an index whose configs may have records in them.
    """

    def __init__(
        self,
        repository: Repository,
        reference: Reference,
        *,
        as_index: bool = False,
        platforms: Collection[Platform] = (),
    ) -> None:
        self.name = reference.familiar
        self.source = f"registry://{reference.repository}"
        self._repository = repository
        self._reference = reference
        self._as_index = as_index
        self._platforms = platforms
        self._has_nothing = False
        self._once = asyncio.Lock()

    def named(self, suffix: str) -> CacheRepository:
        """The same repository with another tag for the bundle."""
        tag = f"{self._reference.tag[:_TAG_PART]}-{suffix}"
        reference = Reference(self._reference.domain, self._reference.path, tag)
        return CacheRepository(self._repository, reference, as_index=self._as_index, platforms=self._platforms)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Tells of a connection that breaks as of a registry that cannot be reached."""
        try:
            yield
        except BROKEN as error:
            raise RegistryUnreachable(f"{self.name}: the connection broke: {error}") from error

    async def load(self) -> list[_Loaded]:
        """The bundle, or the configs of the image (of an index those for the platforms), under the reference."""
        with self._answering():
            return await self._load()

    async def _load(self) -> list[_Loaded]:
        try:
            top = await self._repository.manifest(self._reference.digest or self._reference.tag)
        except Missing:
            return []
        if top.media_type in media_types.INDEXES:
            index = decode_index(top.data)
            bundle = next((each for each in index.manifests if _is_own(each)), None)
            if bundle is not None:
                layers = [each for each in index.manifests if each is not bundle]
                return [(await self._repository.small_blob(bundle), bundle.media_type, layers)]
            entries = best_entries(index, self._platforms)
            return list(await asyncio.gather(*(self._image(each) for each in entries)))
        return [await self._config(top)]

    async def _image(self, entry: Descriptor) -> _Loaded:
        return await self._config(await self._repository.manifest(entry.digest))

    async def _config(self, fetched: Fetched) -> _Loaded:
        manifest = decode_manifest(fetched.data)
        return await self._repository.small_blob(manifest.config), manifest.config.media_type, manifest.layers

    async def find(self, key: str) -> bytes | None:
        """The record under a key."""
        try:
            with self._answering():
                found = await self._repository.manifest(self._tag(key))
        except Missing:
            return None
        text = (decode_manifest(found.data).annotations or {}).get(RECORD_ANNOTATION)
        if text is None:
            raise Corrupt(f"{self.name}: {self._tag(key)} is no record of a cache")
        return text.encode()

    async def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has the blob."""
        with self._answering():
            return await self._repository.has_blob(digest)

    async def put_blob(self, blob: Descriptor, path: Path) -> None:
        """Upload a blob."""
        with self._answering():
            await upload(self._repository, path, blob.digest, lambda sent: None)

    async def put_record(self, keys: Sequence[str], data: bytes, blob: Descriptor) -> None:
        """Put the record's manifest under a tag for each key."""
        async with self._once:
            if not self._has_nothing:
                await self._put_small(_NOTHING)
                self._has_nothing = True
        manifest = Manifest(
            2,
            media_types.MANIFEST,
            Descriptor(media_types.EMPTY, sha256(_NOTHING), len(_NOTHING)),
            [blob],
            artifact_type=RECORD_ARTIFACT,
            annotations={RECORD_ANNOTATION: data.decode()},
        )
        document = encode(manifest)
        with self._answering():
            for key in keys:
                await self._repository.put_manifest(self._tag(key), document, media_types.MANIFEST)

    async def put_bundle(self, data: bytes, media_type: str, blobs: Sequence[Descriptor]) -> None:
        """Let the tag point at the bundle."""
        await self._put_small(data)
        bundle = Descriptor(media_type, sha256(data), len(data))
        manifest: Manifest | Index
        if self._as_index:
            manifest = Index(2, media_types.INDEX, [bundle, *blobs])
        else:
            manifest = Manifest(2, media_types.MANIFEST, bundle, list(blobs))
        with self._answering():
            await self._repository.put_manifest(self._reference.tag, encode(manifest), manifest.media_type)

    async def _put_small(self, data: bytes) -> None:
        digest = sha256(data)
        with self._answering():
            if await self._repository.has_blob(digest):
                return
            location: URL = await begin(self._repository)
            async with self._repository.connection.request(
                "PUT",
                with_digest(location, digest),
                scopes=self._repository.scopes,
                headers={"Content-Type": "application/octet-stream", "Content-Length": str(len(data))},
                body=data,
                ok=(201, 204),
                what=f"upload of blob {digest}",
            ):
                return

    def _tag(self, key: str) -> str:
        return f"{self._reference.tag[:_TAG_PART]}-{key.removeprefix('sha256:')}"


def _is_own(descriptor: Descriptor) -> bool:
    return descriptor.media_type.startswith("application/vnd.buildtool.cache.")
