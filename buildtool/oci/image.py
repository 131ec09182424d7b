"""The OCI image documents as plain values that round-trip to bytes.

Decoding ignores unknown keys (the specification requires it) and takes `null` for "not there", as Go writes it;
encoding is canonical (fixed order of fields, maps sorted by key, no spaces), so equal values have equal digests.
Docker's additions to the config (Healthcheck, OnBuild, Shell …) are fields like any other.
Source: OCI image-spec v1.1, manifest.md, image-index.md, config.md, descriptor.md.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from buildtool.errors import Corrupt
from buildtool.oci import media_types
from buildtool.oci.digest import CheckedDigest, Digest, sha256
from buildtool.oci.platform import Platform, best_platform, host_platform

T = TypeVar("T", bound=msgspec.Struct)
_Size = Annotated[int, msgspec.Meta(ge=0)]


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Names content by media type, digest and size in bytes."""

    media_type: str
    digest: CheckedDigest
    size: _Size
    annotations: dict[str, str] | None = None
    artifact_type: str | None = None
    platform: Platform | None = None
    urls: list[str] | None = None


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One image: a config and its layers, bottom first."""

    schema_version: int
    media_type: str
    config: Descriptor
    layers: list[Descriptor]
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Several manifests, one a platform."""

    schema_version: int
    media_type: str
    manifests: list[Descriptor]
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class HealthConfig(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """Docker's healthcheck; durations in nanoseconds, 0 = inherit."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """The `config` object of an image: the defaults of its containers."""

    user: str = ""
    exposed_ports: dict[str, dict[str, Any]] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] | None = None


class RootFS(msgspec.Struct, frozen=True):
    """`type` is always "layers"; diff_ids are the digests of the uncompressed layer tars, bottom first."""

    type: str
    diff_ids: list[CheckedDigest]


class History(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of an image's history."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The image configuration document; its digest is the image id."""

    architecture: str
    os: str
    rootfs: RootFS
    config: ContainerConfig | None = None
    created: str | None = None
    author: str = ""
    history: list[History] | None = None
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    cache: dict[str, Any] | None = msgspec.field(default=None, name="buildtool.cache.v1")
    """Records of the build cache about this image's layers (docs/cache.md, "Documents")."""

    @property
    def platform(self) -> Platform:
        return Platform(architecture=self.architecture, os=self.os, variant=self.variant)


def encode(document: msgspec.Struct) -> bytes:
    """The canonical bytes of a document."""
    return msgspec.json.encode(document, order="deterministic")


def decode_config(data: bytes) -> ImageConfig:
    """Decode an image config. Raises Corrupt with the JSON path of the first fault."""
    raw = _object(data, "image config")
    rootfs = raw.get("rootfs")
    if isinstance(rootfs, dict) and rootfs.get("diff_ids") is None:
        raw["rootfs"] = {**rootfs, "diff_ids": []}
    return _convert(raw, ImageConfig, "image config")


def decode_manifest(data: bytes) -> Manifest:
    """Decode an image manifest (OCI or Docker schema 2). Raises Corrupt with the JSON path of the first fault."""
    raw = _object(data, "image manifest")
    raw.setdefault("mediaType", media_types.MANIFEST)
    if raw.get("schemaVersion") == 1:
        raise Corrupt(
            "image manifest: schemaVersion 1 is not supported: only OCI manifests and Docker's schema 2 are"
        )
    manifest = _convert(raw, Manifest, "image manifest")
    if manifest.schema_version != 2:
        raise Corrupt(f"image manifest: schemaVersion {manifest.schema_version} is not supported")
    return manifest


def docker_manifest(data: bytes) -> bytes:
    """An image manifest with Docker's media types, which know no annotations: those are left out."""
    manifest = decode_manifest(data)

    def docker(descriptor: Descriptor) -> Descriptor:
        return msgspec.structs.replace(
            descriptor, media_type=media_types.to_docker(descriptor.media_type), annotations=None
        )

    layers = [docker(layer) for layer in manifest.layers]
    return encode(Manifest(2, media_types.DOCKER_MANIFEST, docker(manifest.config), layers))


def best_entries(index: Index, platforms: Collection[Platform]) -> list[Descriptor]:
    """The entries of an index that suit these platforms (this machine's when none is given) best, each once."""
    offered = [each.platform for each in index.manifests]
    places = [best_platform(platform, offered) for platform in platforms or [host_platform()]]
    return [index.manifests[place] for place in dict.fromkeys(places) if place is not None]


def decode_index(data: bytes) -> Index:
    """Decode an image index or manifest list. Raises Corrupt with the JSON path of the first fault."""
    raw = _object(data, "image index")
    raw.setdefault("mediaType", media_types.INDEX)
    return _convert(raw, Index, "image index")


def chain_id(diff_ids: Sequence[Digest]) -> Digest:
    """The identity of a stack of layers, bottom first.

    ChainID(L0) = L0; ChainID(L0…Ln) = SHA-256(ChainID(L0…Ln-1) + " " + Ln).
    Raises ValueError on an empty sequence.
    Source: OCI image-spec v1.1, config.md, "Layer ChainID".
    """
    if not diff_ids:
        raise ValueError("no layers have no chain_id")
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = sha256(f"{chain} {diff_id}".encode())
    return chain


def chain_ids(diff_ids: Sequence[Digest]) -> list[Digest]:
    """The chain_id of every prefix of a stack of layers: of the lowest alone, of the two lowest, … of all."""
    chains = list(diff_ids[:1])
    for diff_id in diff_ids[1:]:
        chains.append(chain_id([chains[-1], diff_id]))
    return chains


_MAPS: dict[str, Any] = {"Volumes": {}, "ExposedPorts": {}, "Labels": "", "annotations": ""}


def _object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object without its nulls: a null is a key that is not there, or a map's empty value."""
    try:
        raw = msgspec.json.decode(data)
        if not isinstance(raw, dict):
            raise Corrupt(f"invalid {what}: expected a JSON object, got {type(raw).__name__}")
        cleaned: dict[str, Any] = _without_nulls(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"invalid {what}: not a JSON document: {error}") from None
    return cleaned


def _without_nulls(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        empty = _MAPS.get(key)
        filled = {name: empty if item is None else _without_nulls(item, name) for name, item in value.items()}
        return {name: item for name, item in filled.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _convert(raw: dict[str, Any], kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise Corrupt(f"invalid {what}: {error}") from None
