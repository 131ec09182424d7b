"""What `cache_from` and `cache_to` of a build request mean; nothing is reached."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from buildtool.daemon.build_caches import CacheSpec, caches
from buildtool.daemon.build_contexts import ContextPlace
from buildtool.errors import BuildtoolError, InvalidInput
from buildtool.images.forms import Compression
from buildtool.registry.cache_bucket import BucketLayers
from buildtool.solve.caches.layout import CacheLayout
from buildtool.solve.caches.options import Caches


def read(origins: list[CacheSpec] | None = None, targets: list[CacheSpec] | None = None, **options: Any) -> Caches:
    registries: Any = SimpleNamespace(remote_layers=SimpleNamespace(buckets=BucketLayers()))
    return caches(lambda: registries, origins or [], targets or [], **{"auth": {}, "platform": "", **options})


def spec(type: str, place: Path | None = None, **attributes: str) -> CacheSpec:
    found = None if place is None else ContextPlace(str(place), place.stat().st_dev, place.stat().st_ino)
    return CacheSpec(type=type, attributes={n.replace("_", "-"): v for n, v in attributes.items()}, place=found)


def test_names_modes_and_limits() -> None:
    found = read(
        [spec("registry", ref="host/a:b", timeout="1m30s"), spec("registry", ref="app")],
        [
            spec("registry", ref="host/a:b"),
            spec("registry", ref="host/a:c", mode="max", compression="zstd", compression_level="9", mounts="a;b",
                 ignore_error="false", force_compression="true", timeout="5s"),
        ],
    )  # fmt: skip
    assert [(each.name, each.seconds) for each in found.origins] == [
        ("registry host/a:b", 90.0), ("registry app:latest", 20.0),
    ]  # fmt: skip
    plain, full = found.targets
    assert (plain.mode, plain.compression, plain.ignore_errors, plain.mounts) == ("min", Compression(), True, ())
    assert (full.mode, full.compression) == ("max", Compression("zstd", 9, force=True))
    assert (full.ignore_errors, full.mounts, full.seconds) == (False, ("a", "b"), 5.0)
    assert not found.inline and read([], [spec("inline")]).inline and read(inline=True).inline


async def test_a_directory_is_looked_at_when_it_is_opened(tmp_path: Path) -> None:
    (target,) = read([], [spec("local", tmp_path, dest="x", tag="t", reset="true")]).targets
    assert target.name == "directory x" and isinstance(await target.open(), CacheLayout)
    moved = CacheSpec(type="local", attributes={"src": "x"}, place=ContextPlace(str(tmp_path), 0, 0))
    (origin,) = read([moved]).origins
    with pytest.raises(BuildtoolError, match="another directory"):
        await origin.open()


async def test_a_bucket_with_its_names_and_prefixes() -> None:
    pytest.importorskip("obstore")
    given = CacheSpec(
        type="s3",
        attributes={
            "bucket": "b", "prefix": "ci/", "name": "x;y", "region": "eu-1", "endpoint_url": "http://127.0.0.1:1",
            "access_key_id": "k", "secret_access_key": "s", "blobs_prefix": "layers/",
        },
    )  # fmt: skip
    (origin,) = read([given]).origins
    assert origin.name == "s3 b/ci"
    backend = await origin.open()
    assert backend.source == "s3://b/ci#layers/" and backend.named("m").source == backend.source


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (spec("gha"), "type=gha is not possible here"),
        (spec("registry"), "ref is missing"),
        (spec("registry", ref="a@sha256:" + "0" * 64), "is a digest"),
        (spec("registry", ref="a", level="1"), "unknown attribute 'level'"),
        (spec("registry", ref="a", mode="all"), "unknown mode"),
        (spec("registry", ref="a", compression="zstd", compression_level="23"), "levels 0 to 22"),
        (spec("local", dest="x"), "dest is missing"),
        (spec("s3"), "bucket is missing"),
        (spec("inline", mode="max"), "It takes nothing else"),
    ],
)
def test_what_cannot_be_meant(wrong: CacheSpec, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read([], [wrong])
    assert words in f"{refused.value} {refused.value.hint}"
