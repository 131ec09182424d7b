"""Media types of the OCI image specification and of Docker's registry v2 formats."""

from __future__ import annotations

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = LAYER + "+gzip"
LAYER_ZSTD = LAYER + "+zstd"
EMPTY = "application/vnd.oci.empty.v1+json"

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD = DOCKER_LAYER + ".zstd"

INDEXES = frozenset({INDEX, DOCKER_LIST})
MANIFESTS = frozenset({MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset({CONFIG, DOCKER_CONFIG})


_TO_OCI = {
    DOCKER_LIST: INDEX,
    DOCKER_MANIFEST: MANIFEST,
    DOCKER_CONFIG: CONFIG,
    DOCKER_LAYER: LAYER,
    DOCKER_LAYER_GZIP: LAYER_GZIP,
    DOCKER_LAYER_ZSTD: LAYER_ZSTD,
}
_TO_DOCKER = {oci: docker for docker, oci in _TO_OCI.items()}
_LAYER_MARKS = (
    LAYER,
    DOCKER_LAYER,
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
)


def to_oci(media_type: str) -> str:
    """The OCI media type of the same format; a type that is no Docker type stays what it is."""
    return _TO_OCI.get(media_type, media_type)


def to_docker(media_type: str) -> str:
    """Docker's media type of the same format; a type that has none stays what it is."""
    return _TO_DOCKER.get(media_type, media_type)


def is_layer(media_type: str) -> bool:
    """Whether this is a layer tar, in any compression this project reads."""
    return any(
        media_type == mark or media_type[len(mark) :] in _SUFFIXES
        for mark in _LAYER_MARKS
        if media_type.startswith(mark)
    )


_SUFFIXES = frozenset({"+gzip", ".gzip", "+zstd", ".zstd"})


def layer_type(compression: str) -> str:
    """The OCI media type of a layer compressed with `""`, `"gzip"` or `"zstd"`."""
    return {"": LAYER, "gzip": LAYER_GZIP, "zstd": LAYER_ZSTD}[compression]


def compression_of(layer_media_type: str) -> str:
    """`""`, `"gzip"` or `"zstd"`: how a layer of this media type is compressed."""
    if layer_media_type.endswith(("+gzip", ".gzip")):
        return "gzip"
    if layer_media_type.endswith(("+zstd", ".zstd")):
        return "zstd"
    return ""
