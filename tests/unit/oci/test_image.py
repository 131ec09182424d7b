"""The image documents: round trips, canonical bytes, precise refusals."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.errors import Corrupt
from buildtool.oci import (
    ContainerConfig,
    Descriptor,
    Digest,
    HealthConfig,
    History,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    RootFS,
    chain_id,
    chain_ids,
    decode_config,
    decode_index,
    decode_manifest,
    encode,
    media_types,
    sha256,
)

_digests = st.binary(max_size=8).map(sha256)
_text = st.text(st.characters(codec="utf-8"), max_size=12)
_labels = st.dictionaries(_text, _text, max_size=4)
_sets: st.SearchStrategy[dict[str, dict[str, Any]]] = st.dictionaries(_text, st.just({}), max_size=3)
_argv = st.one_of(st.none(), st.lists(_text, max_size=3))
_configs = st.builds(
    ImageConfig,
    architecture=st.sampled_from(["amd64", "arm64"]),
    os=st.just("linux"),
    rootfs=st.builds(RootFS, type=st.just("layers"), diff_ids=st.lists(_digests, max_size=3)),
    config=st.one_of(
        st.none(),
        st.builds(
            ContainerConfig,
            user=_text,
            exposed_ports=st.one_of(st.none(), _sets),
            env=_argv,
            entrypoint=_argv,
            cmd=_argv,
            healthcheck=st.one_of(st.none(), st.builds(HealthConfig, test=_argv, interval=st.integers(0, 2**62))),
            volumes=st.one_of(st.none(), _sets),
            working_dir=_text,
            on_build=_argv,
            labels=st.one_of(st.none(), _labels),
            stop_timeout=st.one_of(st.none(), st.integers(0, 100)),
            shell=_argv,
        ),
    ),
    created=st.one_of(st.none(), st.just("2024-01-02T03:04:05Z")),
    author=_text,
    history=st.one_of(
        st.none(),
        st.lists(st.builds(History, created_by=_text, comment=_text, empty_layer=st.booleans()), max_size=3),
    ),
)
_descriptors = st.builds(
    Descriptor,
    media_type=st.sampled_from([media_types.LAYER, media_types.LAYER_GZIP]),
    digest=_digests,
    size=st.integers(0, 2**60),
    annotations=st.one_of(st.none(), _labels),
    platform=st.one_of(st.none(), st.builds(Platform, architecture=st.just("amd64"), os=st.just("linux"))),
)


@given(_configs)
def test_a_config_round_trips(config: ImageConfig) -> None:
    """Law: decode(encode(c)) = c, and encode(decode(b)) = b for our own bytes."""
    data = encode(config)
    assert decode_config(data) == config
    assert encode(decode_config(data)) == data


@given(_descriptors, st.lists(_descriptors, max_size=3))
def test_a_manifest_round_trips(config: Descriptor, layers: list[Descriptor]) -> None:
    """Law: decode(encode(m)) = m."""
    manifest = Manifest(2, media_types.MANIFEST, config, layers)
    assert decode_manifest(encode(manifest)) == manifest


@given(st.lists(_descriptors, max_size=3))
def test_an_index_round_trips(manifests: list[Descriptor]) -> None:
    """Law: decode(encode(i)) = i."""
    index = Index(2, media_types.INDEX, manifests, annotations={"b": "1", "a": "2"})
    assert decode_index(encode(index)) == index


@given(st.dictionaries(_text, _text, min_size=2, max_size=5))
def test_equal_values_have_equal_bytes(labels: dict[str, str]) -> None:
    """Law: the order in which a map was filled does not show in the document's digest."""
    backwards = dict(reversed(labels.items()))
    empty = RootFS("layers", [])
    one, other = (
        ImageConfig("amd64", "linux", empty, config=ContainerConfig(labels=value)) for value in (labels, backwards)
    )
    assert encode(one) == encode(other)


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_called_corrupt(data: bytes) -> None:
    """Law: no decoder lets another exception than Corrupt out."""
    for decode in (decode_config, decode_manifest, decode_index):
        with pytest.raises(Corrupt):
            decode(data)


def test_deep_nesting_is_corrupt_and_no_crash() -> None:
    with pytest.raises(Corrupt):
        decode_index(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@given(st.lists(_digests, min_size=1, max_size=5))
def test_the_chain_id_is_the_specs(diff_ids: list[Digest]) -> None:
    """Law: ChainID(L0…Ln) = SHA-256(ChainID(L0…Ln-1) + " " + Ln); one layer is its own chain."""
    expected: str = diff_ids[0]
    for diff_id in diff_ids[1:]:
        expected = "sha256:" + hashlib.sha256(f"{expected} {diff_id}".encode()).hexdigest()
    assert chain_id(diff_ids) == expected
    assert chain_ids(diff_ids) == [chain_id(diff_ids[: n + 1]) for n in range(len(diff_ids))]


def test_no_layers_have_no_chain_id() -> None:
    with pytest.raises(ValueError, match="no layers"):
        chain_id([])
    assert chain_ids([]) == []


def test_nulls_are_taken_as_go_writes_them() -> None:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "author": None,
        "rootfs": {"type": "layers", "diff_ids": None},
        "config": {
            "Env": None,
            "Volumes": {"/data": None},
            "Labels": {"a": None},
            "OnBuild": None,
            "Unknown": [None],
        },
        "history": None,
    }
    config = decode_config(json.dumps(document).encode())
    assert config.rootfs.diff_ids == []
    assert config.config == ContainerConfig(volumes={"/data": {}}, labels={"a": ""})


def test_media_type_may_be_missing() -> None:
    descriptor = {"mediaType": media_types.CONFIG, "digest": sha256(b""), "size": 0}
    manifest = decode_manifest(json.dumps({"schemaVersion": 2, "config": descriptor, "layers": []}).encode())
    assert manifest.media_type == media_types.MANIFEST


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schemaVersion": 1}, "schemaVersion 1 is not supported"),
        ({"schemaVersion": 3}, "schemaVersion 3 is not supported"),
        ({"config": {"mediaType": "x", "digest": "sha256:../../etc", "size": 1}}, "$.config.digest"),
        ({"config": {"mediaType": "x", "digest": sha256(b"") + "\n", "size": 1}}, "$.config.digest"),
        ({"config": {"mediaType": "x", "digest": sha256(b""), "size": -1}}, "$.config.size"),
        ({"layers": [{"mediaType": "x", "size": 1}]}, "$.layers[0]"),
        ({"layers": {}}, "$.layers"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_json_path(change: dict[str, Any], message: str) -> None:
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": media_types.CONFIG, "digest": sha256(b""), "size": 0},
        "layers": [],
    }
    with pytest.raises(Corrupt) as caught:
        decode_manifest(json.dumps({**document, **change}).encode())
    assert message in str(caught.value)


def test_layer_media_types_know_their_compression() -> None:
    for compression in ("", "gzip", "zstd"):
        media_type = media_types.layer_type(compression)
        assert media_types.is_layer(media_type)
        assert media_types.compression_of(media_type) == compression
    assert media_types.to_oci(media_types.DOCKER_LAYER_GZIP) == media_types.LAYER_GZIP
    assert media_types.is_layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    assert not media_types.is_layer(media_types.LAYER + "+brotli")
    assert not media_types.is_layer(media_types.CONFIG)
