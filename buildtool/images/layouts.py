"""What images an archive holds: docker-archive (manifest.json) and OCI layout (index.json), alone or both in one.

Reads documents and compares digests; writes nothing.
Source: OCI image-spec v1.1, image-layout.md; the docker save format since 1.10.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from buildtool.cache.compression import detect
from buildtool.errors import Corrupt, InvalidInput
from buildtool.images.archive import Archive, Member
from buildtool.images.table import IMAGE_NAME, REFERENCE_NAME
from buildtool.oci import (
    Descriptor,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    Reference,
    best_platform,
    decode_config,
    decode_index,
    decode_manifest,
    hex_of,
    host_platform,
    media_types,
    parse_reference,
)

_ATTESTATION = "vnd.docker.reference.type"
_DEPTH = 8
_NAMED_BY_DIGEST = re.compile(r"(?:blobs/sha256/)?([a-f0-9]{64})(?:\.json|\.tar)?")
_OLD = "the archive is of the format before Docker 1.10 (repositories without manifest.json)"


@dataclass(frozen=True)
class FoundLayer:
    """A layer's bytes in the archive; `compression` as they begin ("", "gzip", "zstd", "bzip2", "xz")."""

    diff_id: Digest
    member: Member
    compression: str


@dataclass(frozen=True)
class FoundImage:
    """An image of the archive. `manifest` is there when the archive has one for exactly these layers."""

    config_bytes: bytes
    config: ImageConfig
    layers: list[FoundLayer]
    manifest: bytes | None
    names: list[Reference] = field(default_factory=list)


class _Item(msgspec.Struct):
    """An element of manifest.json."""

    config: str = msgspec.field(name="Config")
    layers: list[str] | None = msgspec.field(name="Layers", default=None)
    repo_tags: list[str] | None = msgspec.field(name="RepoTags", default=None)


def images_in(archive: Archive, platform: Platform | None = None, but: Collection[str] = ()) -> list[FoundImage]:
    """One image a name; of an image for several platforms the one for `platform` (the host's when None). The names
    `but` are left out where an OCI layout has them.

    Raises InvalidInput or Corrupt, naming what is missing or wrong.
    """
    table = archive.document("manifest.json")
    index = archive.document("index.json")
    if table is not None:
        return _docker_images(archive, table, index)
    if index is not None:
        return list(merged(_oci_images(archive, decode_index(index), platform, but)))
    if archive.find("repositories") is not None:
        raise InvalidInput(_OLD, hint="load it with a Docker before 28 and save it again")
    raise InvalidInput(
        "not an image archive: it has neither manifest.json nor index.json",
        hint="the tar of a root file system is made an image with import",
    )


def _docker_images(archive: Archive, table: bytes, index: bytes | None) -> list[FoundImage]:
    try:
        items = msgspec.json.decode(table, type=list[_Item])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"invalid manifest.json in the archive: {error}") from None
    if not items:
        raise InvalidInput("manifest.json in the archive names no image")
    manifests = dict(_manifests_by_config(archive, index)) if index is not None else {}
    found = []
    for item in items:
        config_member = _wanted(archive, item.config, "config")
        config_bytes = config_member.document()
        config = decode_config(config_bytes)
        members = [_wanted(archive, name, "layer") for name in item.layers or []]
        layers = _layers(config, members)
        manifest = manifests.get(config_member.digest)
        if manifest is not None and manifest[1] != [member.digest for member in members]:
            manifest = None
        names = [_tag(name) for name in item.repo_tags or []]
        found.append(FoundImage(config_bytes, config, layers, manifest[0] if manifest else None, names))
    return list(merged(found))


def _wanted(archive: Archive, name: str, what: str) -> Member:
    """A member that manifest.json names; where its name is a digest, its bytes must have it."""
    member = archive.find(name)
    if member is None:
        raise InvalidInput(f"the archive names the {what} {name!r} and does not contain it")
    digest = _NAMED_BY_DIGEST.fullmatch(name)
    compressed_layer = what == "layer" and not name.startswith("blobs/") and _compression(member)
    if digest and hex_of(member.digest) != digest[1] and not compressed_layer:
        raise Corrupt(f"the {what} {name} in the archive is damaged: its bytes have the digest {member.digest}")
    return member


def _tag(name: str) -> Reference:
    try:
        reference = parse_reference(name)
    except InvalidInput as error:
        raise InvalidInput(f"manifest.json in the archive: {error}") from None
    if reference.digest or not reference.tag:
        raise InvalidInput(f"manifest.json in the archive: {name!r} is no name with a tag")
    return reference


def _layers(config: ImageConfig, members: list[Member]) -> list[FoundLayer]:
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(members):
        raise InvalidInput(
            f"invalid manifest, layers length mismatch: expected {len(members)}, got {len(diff_ids)}",
            hint="manifest and image config do not belong together",
        )
    layers = []
    for diff_id, member in zip(diff_ids, members, strict=True):
        compression = _compression(member)
        if not compression and member.digest != diff_id:
            raise Corrupt(
                f"layer {member.name} in the archive has the diff_id {member.digest}, the config says {diff_id}"
            )
        layers.append(FoundLayer(diff_id, member, compression))
    return layers


def _compression(member: Member) -> str:
    with member.open() as file:
        return detect(file.read(6))


def _manifests_by_config(archive: Archive, index: bytes) -> Iterator[tuple[Digest, tuple[bytes, list[Digest]]]]:
    """The OCI manifests there are besides manifest.json; what is missing or wrong of them is passed over."""
    pending = list(decode_index(index).manifests)
    for descriptor in pending:
        member = archive.find(blob_name(descriptor.digest))
        if member is None or member.digest != descriptor.digest or len(pending) > 1000:
            continue
        try:
            if descriptor.media_type in media_types.INDEXES:
                pending.extend(decode_index(member.document()).manifests)
            elif descriptor.media_type in media_types.MANIFESTS:
                manifest = decode_manifest(member.document())
                yield manifest.config.digest, (member.document(), [layer.digest for layer in manifest.layers])
        except (Corrupt, InvalidInput):
            continue


def does_not_provide(name: str, wanted: Platform, offered: Iterable[Platform | None]) -> InvalidInput:
    """The error for an image that is not there for a platform."""
    has = ", ".join(sorted(str(p) for p in offered if p is not None)) or "none that is known"
    return InvalidInput(
        f"the archive's image {name or '(without a name)'} does not provide {wanted}", hint=f"it is for: {has}"
    )


def _oci_images(
    archive: Archive, index: Index, platform: Platform | None, but: Collection[str] = ()
) -> Iterator[FoundImage]:
    version = archive.document("oci-layout")
    if version is not None:
        _check_layout(version)
    if not index.manifests:
        raise InvalidInput("index.json in the archive names no image")
    artifacts = []
    images = 0
    for name, descriptors in by_name(index.manifests):
        reference = reference_of(name)
        if reference is not None and str(reference) in but:
            continue
        descriptor = descriptors[0]
        if platform is not None or len(descriptors) > 1:
            descriptor = _choose(archive, descriptors, platform, name)
        for _ in range(_DEPTH):
            if descriptor.media_type not in media_types.INDEXES:
                break
            nested = decode_index(blob_in(archive, descriptor, "index").document())
            descriptor = _choose(archive, nested.manifests, platform, name)
        else:
            raise InvalidInput(f"the indexes in the archive nest more than {_DEPTH} deep")
        manifest_bytes = blob_in(archive, descriptor, "manifest").document()
        manifest = decode_manifest(manifest_bytes)
        if manifest.config.media_type not in media_types.CONFIGS:
            artifacts.append(f"{descriptor.digest} ({manifest.artifact_type or manifest.config.media_type})")
            continue
        images += 1
        yield oci_image(archive, manifest_bytes, manifest, [] if reference is None else [reference])
    if not images and artifacts:
        raise InvalidInput(f"the archive holds no image, only artifacts: {', '.join(artifacts)}")


def oci_image(archive: Archive, data: bytes, manifest: Manifest, names: list[Reference]) -> FoundImage:
    """The image of a manifest and its bytes. Raises InvalidInput or Corrupt for what is missing or damaged."""
    config_bytes = blob_in(archive, manifest.config, "config").document()
    config = decode_config(config_bytes)
    members = []
    for layer in manifest.layers:
        if not media_types.is_layer(layer.media_type):
            raise InvalidInput(f"layer {layer.digest} in the archive has the unknown media type {layer.media_type!r}")
        members.append(blob_in(archive, layer, "layer"))
    return FoundImage(config_bytes, config, _layers(config, members), data, names)


def _check_layout(data: bytes) -> None:
    try:
        document: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    version = document.get("imageLayoutVersion") if isinstance(document, dict) else None
    if not isinstance(version, str) or not version.startswith("1."):
        raise InvalidInput(f"oci-layout in the archive has the unknown version {version!r}")


def by_name(descriptors: Iterable[Descriptor]) -> Iterator[tuple[str, list[Descriptor]]]:
    """The top-level descriptors; those of one name and several digests together, they are a choice of platforms."""
    groups: dict[str, dict[Digest, Descriptor]] = {}
    for descriptor in descriptors:
        if is_attestation(descriptor):
            continue
        annotations = descriptor.annotations or {}
        name = annotations.get(IMAGE_NAME) or annotations.get(REFERENCE_NAME) or ""
        groups.setdefault(name, {})[descriptor.digest] = descriptor
    for name, group in groups.items():
        if name:
            yield name, list(group.values())
        else:
            yield from ((name, [descriptor]) for descriptor in group.values())


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether it is of statements about an image."""
    if descriptor.platform is not None and descriptor.platform.os == "unknown":
        return True
    return _ATTESTATION in (descriptor.annotations or {})


def _choose(archive: Archive, offered: list[Descriptor], platform: Platform | None, name: str) -> Descriptor:
    candidates = [descriptor for descriptor in offered if not is_attestation(descriptor)]
    wanted = platform or host_platform()
    platforms = [_platform_of(archive, descriptor, wanted) for descriptor in candidates]
    place = best_platform(wanted, platforms)
    if place is None and platform is None and len(candidates) == 1:
        place = 0
    if place is None:
        raise does_not_provide(name, wanted, platforms)
    return candidates[place]


def _platform_of(archive: Archive, descriptor: Descriptor, wanted: Platform) -> Platform | None:
    """The descriptor's own platform, else its image config's. An index has none: it may well have what is wanted."""
    if descriptor.platform is not None:
        return descriptor.platform
    if descriptor.media_type in media_types.INDEXES:
        return wanted
    manifest = archive.find(blob_name(descriptor.digest))
    if manifest is None:
        return None
    config = archive.find(blob_name(decode_manifest(manifest.document()).config.digest))
    return None if config is None else decode_config(config.document()).platform


def reference_of(name: str) -> Reference | None:
    """The name an annotation gives: `repository[:tag]`. A bare tag (`latest`) names no image."""
    if "/" not in name and ":" not in name:
        return None
    try:
        reference = parse_reference(name)
    except InvalidInput:
        return None
    return Reference(reference.domain, reference.path, reference.tag).with_default_tag()


def blob_name(digest: Digest) -> str:
    """The member that has the blob."""
    return f"blobs/sha256/{hex_of(digest)}"


def blob_in(archive: Archive, descriptor: Descriptor, what: str) -> Member:
    """The blob of a descriptor, verified. Raises InvalidInput when it is not there, Corrupt when it is another."""
    member = archive.find(blob_name(descriptor.digest))
    if member is None:
        raise InvalidInput(f"the archive does not contain the {what} {descriptor.digest}")
    if member.digest != descriptor.digest:
        raise Corrupt(f"the {what} {descriptor.digest} in the archive is damaged: its digest is {member.digest}")
    if member.size != descriptor.size:
        raise Corrupt(f"the {what} {descriptor.digest} in the archive has {member.size} bytes, not {descriptor.size}")
    return member


def merged(images: Iterable[FoundImage]) -> Iterator[FoundImage]:
    """One image for every config: the names of all its mentions together."""
    merged: dict[bytes, FoundImage] = {}
    for image in images:
        known = merged.setdefault(image.config_bytes, image)
        known.names.extend(name for name in image.names if name not in known.names)
    return iter(merged.values())
