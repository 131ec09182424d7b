"""From a reference to the one image that is wanted: indexes, platforms, and what is no image at all."""

from __future__ import annotations

from dataclasses import dataclass

from buildtool.errors import Corrupt, NotFound
from buildtool.images.attached import is_attestation
from buildtool.oci import (
    Digest,
    ImageConfig,
    Manifest,
    Platform,
    Reference,
    best_platform,
    decode_config,
    decode_index,
    decode_manifest,
    host_platform,
    media_types,
)
from buildtool.registry.errors import RegistryRefused
from buildtool.registry.repository import Fetched, Repository

_MAX_NESTING = 4
_CONFIG_LIMIT = 16 << 20


@dataclass(frozen=True)
class Selected:
    """An image in a registry. `digest` is what the reference itself names: the index, where there is one, and
    `stated` are the manifests of statements about the image in that."""

    digest: Digest
    fetched: Fetched
    manifest: Manifest
    config_bytes: bytes
    config: ImageConfig
    stated: tuple[Digest, ...] = ()


async def select(
    repository: Repository, top: Fetched, platform: Platform | None, name: str, *, single: bool = False
) -> Selected:
    """The image for the platform (this machine's when None) and its config, all verified.

    `single`: an image that is alone under its name is good for every platform.

    Raises NotFound when there is none for it, Corrupt, RegistryRefused.
    """
    fetched = top
    stated: tuple[Digest, ...] = ()
    for _ in range(_MAX_NESTING):
        if fetched.media_type not in media_types.INDEXES:
            break
        index = decode_index(fetched.data)
        wanted = platform or host_platform()
        offered = [entry.platform for entry in index.manifests]
        place = best_platform(wanted, offered)
        if place is None and len(offered) == 1 and offered[0] is None:
            place = 0
        if place is None:
            raise NotFound(
                f"no matching manifest for {wanted} in the manifest list entries",
                hint="there are: " + (", ".join(sorted({str(one) for one in offered if one})) or "none"),
            )
        fetched = await repository.manifest(index.manifests[place].digest)
        stated = tuple(each.digest for each in index.manifests if is_attestation(each, fetched.digest))
    else:
        raise Corrupt(f"{name}: indexes within indexes, more than {_MAX_NESTING} deep")
    if fetched.media_type not in media_types.MANIFESTS:
        raise Corrupt(f"{name}: unsupported media type of a manifest: {fetched.media_type}")
    manifest = decode_manifest(fetched.data)
    if manifest.config.media_type not in media_types.CONFIGS:
        raise NotFound(f"{name} is no container image but an artifact ({_kind(manifest)})")
    config_bytes = await repository.small_blob(manifest.config, _CONFIG_LIMIT)
    config = decode_config(config_bytes)
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise Corrupt(
            f"{name}: its config names {len(config.rootfs.diff_ids)} layers, its manifest {len(manifest.layers)}"
        )
    if (
        platform is not None
        and not (single and fetched is top)
        and best_platform(platform, [config.platform]) is None
    ):
        raise NotFound(
            f"image with reference {name} was found but its platform ({config.platform}) does not match the "
            f"specified platform ({platform})"
        )
    for layer in manifest.layers:
        if not media_types.is_layer(layer.media_type):
            raise Corrupt(f"{name}: unsupported media type of a layer: {layer.media_type}")
    return Selected(top.digest, fetched, manifest, config_bytes, config, stated)


def _kind(manifest: Manifest) -> str:
    return manifest.artifact_type or manifest.config.media_type


def not_pullable(error: RegistryRefused, reference: Reference) -> NotFound:
    """Docker's words for a manifest that the registry does not give."""
    if error.status == 404:
        return NotFound(f"manifest for {reference.familiar} not found: {error.message}")
    return NotFound(
        f"pull access denied for {reference.familiar_repository}, repository does not exist or may require "
        f"'docker login': {error.message}"
    )
