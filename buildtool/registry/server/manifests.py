"""Manifests as they are pushed: read, checked for shape, and what they refer to. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from buildtool.oci import media_types
from buildtool.registry.server.errors import ApiError

LIMIT = 4 << 20
_SCHEMA1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
_Digest = Annotated[str, msgspec.Meta(pattern=r"\A(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})\Z")]
_MAX_REFERENCES = 10_000


class Reference(msgspec.Struct, rename="camel"):
    """A descriptor inside a manifest."""

    media_type: str
    digest: _Digest
    size: Annotated[int, msgspec.Meta(ge=0)]
    urls: list[str] | None = None
    artifact_type: str | None = None

    @property
    def may_be_elsewhere(self) -> bool:
        """A layer that is had from its owner, not from registries."""
        return "foreign" in self.media_type or "nondistributable" in self.media_type

    @property
    def is_blob(self) -> bool:
        """Whether it is no manifest though an index names it: caches (BuildKit's, ours) may be indexes of layers."""
        return "manifest" not in self.media_type and "index" not in self.media_type


class _Shape(msgspec.Struct, rename="camel"):
    schema_version: int = 0
    media_type: str | None = None
    artifact_type: str | None = None
    config: Reference | None = None
    layers: list[Reference] | None = None
    manifests: list[Reference] | None = None
    subject: Reference | None = None
    annotations: dict[str, str] | None = None
    fs_layers: Any = None


@dataclass(frozen=True)
class Parsed:
    """A manifest's own type, and what has to be there before it is accepted."""

    media_type: str
    blobs: list[Reference] = field(default_factory=list)
    children: list[Reference] = field(default_factory=list)
    subject: str = ""
    artifact_type: str = ""
    annotations: dict[str, str] | None = None


def parse(data: bytes, content_type: str) -> Parsed:
    """Read a pushed manifest or index. Raises ApiError MANIFEST_INVALID saying at which place it is wrong."""
    named = content_type.partition(";")[0].strip()
    if named in _SCHEMA1:
        raise _invalid("Docker's schema 1 manifests are not supported: push schema 2 or OCI manifests")
    try:
        shape = msgspec.json.decode(data, type=_Shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(f"the manifest is invalid: {error}") from None
    if shape.schema_version == 1 or shape.fs_layers is not None:
        raise _invalid("Docker's schema 1 manifests are not supported: push schema 2 or OCI manifests")
    if shape.schema_version != 2:
        raise _invalid(f"schemaVersion {shape.schema_version} is not supported: it must be 2")
    generic = named in ("", "application/json", "application/octet-stream")
    media_type = shape.media_type or ("" if generic else named)
    if not generic and named != media_type:
        raise _invalid(f"the Content-Type is {named}, the manifest's mediaType {media_type}")
    if media_type in media_types.MANIFESTS:
        return _manifest(shape, media_type)
    if media_type in media_types.INDEXES:
        return _index(shape, media_type)
    raise _invalid(f"the media type {media_type or '(none)'} is none of a manifest or index")


def descriptor_of(parsed: Parsed, digest: str, size: int) -> dict[str, Any]:
    """How a manifest stands in the list of its subject's referrers."""
    descriptor: dict[str, Any] = {"mediaType": parsed.media_type, "digest": digest, "size": size}
    if parsed.artifact_type:
        descriptor["artifactType"] = parsed.artifact_type
    if parsed.annotations:
        descriptor["annotations"] = parsed.annotations
    return descriptor


def _manifest(shape: _Shape, media_type: str) -> Parsed:
    if shape.config is None:
        raise _invalid("the manifest has no config")
    if shape.manifests is not None:
        raise _invalid("the manifest has a list of manifests, as only an index may")
    if shape.layers is None:
        raise _invalid("the manifest has no layers")
    _limit(shape.layers)
    return Parsed(
        media_type,
        blobs=[shape.config, *shape.layers],
        subject=shape.subject.digest if shape.subject else "",
        artifact_type=shape.artifact_type or shape.config.media_type,
        annotations=shape.annotations,
    )


def _index(shape: _Shape, media_type: str) -> Parsed:
    if shape.manifests is None:
        raise _invalid("the index has no list of manifests")
    if shape.config is not None or shape.layers is not None:
        raise _invalid("the index has a config or layers, as only a manifest may")
    _limit(shape.manifests)
    return Parsed(
        media_type,
        blobs=[entry for entry in shape.manifests if entry.is_blob],
        children=[entry for entry in shape.manifests if not entry.is_blob],
        subject=shape.subject.digest if shape.subject else "",
        artifact_type=shape.artifact_type or "",
        annotations=shape.annotations,
    )


def _limit(references: list[Reference]) -> None:
    if len(references) > _MAX_REFERENCES:
        raise _invalid(f"the manifest refers to more than {_MAX_REFERENCES} things")


def _invalid(message: str) -> ApiError:
    return ApiError("MANIFEST_INVALID", message)
