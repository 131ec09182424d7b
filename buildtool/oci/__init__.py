"""Types of the OCI image specification as plain values: digests, references, descriptors, manifests, configs."""

from buildtool.oci import media_types
from buildtool.oci.digest import CheckedDigest, Digest, hex_of, is_digest, parse_digest, sha256
from buildtool.oci.image import (
    ContainerConfig,
    Descriptor,
    HealthConfig,
    History,
    ImageConfig,
    Index,
    Manifest,
    RootFS,
    best_entries,
    chain_id,
    chain_ids,
    decode_config,
    decode_index,
    decode_manifest,
    docker_manifest,
    encode,
)
from buildtool.oci.platform import Platform, best_platform, host_platform, parse_platform, parse_platforms
from buildtool.oci.reference import Reference, parse_reference

__all__ = [
    "CheckedDigest",
    "ContainerConfig",
    "Descriptor",
    "Digest",
    "HealthConfig",
    "History",
    "ImageConfig",
    "Index",
    "Manifest",
    "Platform",
    "Reference",
    "RootFS",
    "best_entries",
    "best_platform",
    "chain_id",
    "chain_ids",
    "decode_config",
    "decode_index",
    "decode_manifest",
    "docker_manifest",
    "encode",
    "hex_of",
    "host_platform",
    "is_digest",
    "media_types",
    "parse_digest",
    "parse_platform",
    "parse_platforms",
    "parse_reference",
    "sha256",
]
