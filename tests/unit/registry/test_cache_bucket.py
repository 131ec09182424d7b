"""A build cache in an S3 bucket, against a server that speaks S3 (moto)."""

from __future__ import annotations

import secrets
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from buildtool.errors import BuildtoolError, Corrupt
from buildtool.oci import Descriptor, media_types, sha256
from buildtool.registry.cache_bucket import BUNDLE, BucketLayers, CacheBucket
from buildtool.registry.downloads import GrowingBlob
from buildtool.registry.progress import Progress
from tests.unit.registry.conftest import Side, s3_options

KEY = sha256(b"key")


@pytest.fixture
def layers() -> BucketLayers:
    return BucketLayers()


@pytest.fixture
def cache(s3: str, layers: BucketLayers) -> CacheBucket:
    name = f"b{secrets.token_hex(8)}"
    with urllib.request.urlopen(urllib.request.Request(f"{s3}/{name}", method="PUT")):
        bucket = layers.open(f"{name}/ci", s3_options(s3))
    return CacheBucket(bucket, f"{name}/ci", ["one", "two"], "blobs/", "manifests/")


async def test_bundles_records_and_layers(
    cache: CacheBucket, layers: BucketLayers, make_side: Callable[..., Side], tmp_path: Path
) -> None:
    assert await cache.load() == [] and await cache.find(KEY) is None
    data = b"x" * 3_000_000
    blob = Descriptor(media_types.LAYER_GZIP, sha256(data), len(data))
    (tmp_path / "blob").write_bytes(data)
    assert not await cache.has_blob(blob.digest)
    await cache.put_blob(blob, tmp_path / "blob")
    await cache.put_record([KEY, sha256(b"content")], b"record", blob)
    await cache.put_bundle(b"bundle", BUNDLE, [blob])
    assert await cache.has_blob(blob.digest)
    assert await cache.find(KEY) == await cache.find(sha256(b"content")) == b"record"
    assert await cache.load() == [(b"bundle", BUNDLE, [])]
    other = CacheBucket(cache._bucket, "elsewhere", ["none", "two"], "blobs/", "manifests/")
    assert await other.load() == [(b"bundle", BUNDLE, [])]

    store = make_side("fresh").store
    source = cache.source.partition("://")[2]
    growing = GrowingBlob()
    await layers.fetch(source, blob, store.blobs, Progress(lambda _: None, ""), growing)
    growing.close()
    assert store.blobs.read(blob.digest) == data


async def test_layers_that_are_missing_or_damaged(
    cache: CacheBucket, layers: BucketLayers, make_side: Callable[..., Side], tmp_path: Path
) -> None:
    side = make_side("fresh")
    source = cache.source.partition("://")[2]
    (tmp_path / "blob").write_bytes(b"good")
    blob = Descriptor(media_types.LAYER_GZIP, sha256(b"evil"), 4)
    for expected in (BuildtoolError, Corrupt):
        growing = GrowingBlob()
        with pytest.raises(expected):
            await layers.fetch(source, blob, side.store.blobs, Progress(lambda _: None, ""), growing)
        growing.close()
        await cache.put_blob(blob, tmp_path / "blob")
    assert side.is_clean()
