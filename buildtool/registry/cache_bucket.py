"""A build cache in an S3 bucket: bundles under names, records and layers under their digests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from buildtool.aio import offload
from buildtool.cache import BlobStore
from buildtool.errors import BuildtoolError, Corrupt
from buildtool.oci import Descriptor, Digest, hex_of
from buildtool.registry.downloads import GrowingBlob
from buildtool.registry.progress import Progress
from buildtool.registry.server.bucket import Bucket
from buildtool.registry.work import settled

S3 = "s3"
"""The scheme of such sources: what follows is the bucket, a slash and the prefix."""
BUNDLE = "application/vnd.buildtool.cache.bundle.v1+json"


class CacheBucket:
    """The cache of these names below a prefix of a bucket; the first name that there is is read, all are written."""

    def __init__(self, bucket: Bucket, place: str, names: Sequence[str], blobs: str, manifests: str) -> None:
        self.name = f"s3 {place}"
        self.source = f"{S3}://{place}#{blobs}"
        self._bucket = bucket
        self._names = names
        self._blobs = blobs
        self._manifests = manifests

    def named(self, suffix: str) -> CacheBucket:
        """The same bucket with other names of the bundle."""
        names = [f"{name}-{suffix}" for name in self._names]
        place = self.name.partition(" ")[2]
        return CacheBucket(self._bucket, place, names, self._blobs, self._manifests)

    async def load(self) -> list[tuple[bytes, str, list[Descriptor]]]:
        """The bundle."""
        for name in self._names:
            data = await offload(self._bucket.read, f"{self._manifests}{name}")
            if data is not None:
                return [(data, BUNDLE, [])]
        return []

    async def find(self, key: str) -> bytes | None:
        """The record under a key."""
        return await offload(self._bucket.read, self._record(key))

    async def has_blob(self, digest: Digest) -> bool:
        """Whether the blob is there."""
        return await offload(self._bucket.head, f"{self._blobs}{digest}") is not None

    async def put_blob(self, blob: Descriptor, path: Path) -> None:
        """Upload a blob."""
        await settled(self._bucket.upload, f"{self._blobs}{blob.digest}", path)

    async def put_record(self, keys: Sequence[str], data: bytes, blob: Descriptor) -> None:
        """Store the record under each key."""
        for key in keys:
            await settled(self._bucket.write, self._record(key), data)

    async def put_bundle(self, data: bytes, media_type: str, blobs: Sequence[Descriptor]) -> None:
        """Store the bundle under all names."""
        for name in self._names:
            await settled(self._bucket.write, f"{self._manifests}{name}", data)

    def _record(self, key: str) -> str:
        return f"{self._manifests}records/{hex_of(Digest(key))}"


class BucketLayers:
    """Fetches layers that are in such caches: buckets that were opened are known to it, others by the environment."""

    def __init__(self) -> None:
        self._known: dict[str, Bucket] = {}

    def open(self, place: str, options: dict[str, str]) -> Bucket:
        """The bucket and prefix with these options of obstore. Raises InvalidInput, Unavailable."""
        bucket = self._known[place] = Bucket.open(f"{S3}://{place}", options, retries=2)
        return bucket

    async def fetch(
        self, source: str, wanted: Descriptor, blobs: BlobStore, progress: Progress, growing: GrowingBlob
    ) -> None:
        """Copy a blob into the store, as `downloads.download` does. Raises BuildtoolError, Corrupt."""
        place, _, prefix = source.partition("#")
        bucket = self._known.get(place)
        if bucket is None:
            bucket = await offload(self.open, place, {})
        try:
            with blobs.ingest(wanted.digest, wanted.size) as ingest:
                growing.begin(ingest)
                chunks = bucket.stream(f"{prefix}{wanted.digest}")
                while data := await settled(next, chunks, b""):
                    await settled(ingest.write, data)
                    growing.grown(ingest.written)
                    progress.update("Downloading", ingest.written, wanted.size)
                if ingest.written != wanted.size or ingest.digest() != wanted.digest:
                    raise Corrupt(f"blob {wanted.digest} of {S3}://{place} has the digest {ingest.digest()}")
                growing.end()
                await settled(ingest.commit)
        except FileNotFoundError as error:
            growing.end(error)
            raise BuildtoolError(f"{S3}://{place} does not have the blob {wanted.digest}") from error
        except BaseException as error:
            growing.end(error)
            raise
