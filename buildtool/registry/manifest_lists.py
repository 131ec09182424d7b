"""Manifest lists in the making: images of registries put together under one name, for several platforms.

Each entry is a file, `<folder>/<list>/<manifest>`, as Docker's client keeps them; nothing goes to a registry before
the list is pushed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec

from buildtool.errors import InvalidInput, NotFound
from buildtool.oci import (
    Reference,
    decode_config,
    decode_index,
    decode_manifest,
    media_types,
    parse_reference,
    sha256,
)
from buildtool.registry.copying.layout import write_whole
from buildtool.registry.repository import Fetched, Repository


class ListedPlatform(msgspec.Struct, omit_defaults=True, rename="camel"):
    """A platform as indexes have it."""

    architecture: str = ""
    os: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")
    variant: str = ""


class ListedDescriptor(msgspec.Struct, omit_defaults=True, rename="camel"):
    """A descriptor with such a platform."""

    media_type: str
    digest: str
    size: int
    platform: ListedPlatform | None = None


class _ListedIndex(msgspec.Struct):
    manifests: list[ListedDescriptor]


class Listed(msgspec.Struct, rename="pascal"):
    """One manifest of a list: where it is, and for which platform."""

    ref: str
    descriptor: ListedDescriptor
    raw: bytes

    @property
    def reference(self) -> Reference:
        return parse_reference(self.ref)


class ManifestLists:
    """The lists in one folder. Blocking."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self, name: str) -> bool:
        """Whether a list of this name has been begun."""
        return self._list(name).is_dir()

    def entries(self, name: str) -> list[Listed]:
        """Its manifests, in the order of their names. Raises NotFound."""
        folder = self._list(name)
        if not folder.is_dir():
            raise NotFound(f"No such manifest: {_full(name)}", hint="begin it with: manifest create LIST MANIFEST…")
        return [msgspec.json.decode(path.read_bytes(), type=Listed) for path in sorted(folder.iterdir())]

    def add(self, name: str, listed: Listed) -> None:
        """Add a manifest, or replace the one of the same reference."""
        write_whole(self._list(name) / _safe(listed.ref), msgspec.json.encode(listed))

    def annotate(self, name: str, manifest: str, changes: dict[str, Any]) -> None:
        """Change the platform of a manifest. Raises NotFound, InvalidInput for a combination nobody runs."""
        wanted = _full(manifest)
        for listed in self.entries(name):
            if listed.ref == wanted or listed.descriptor.digest == manifest:
                known = listed.descriptor.platform or ListedPlatform()
                platform = msgspec.structs.replace(known, **changes)
                if not platform.os or not platform.architecture:
                    raise InvalidInput(f"manifest entry for {manifest} has no os and architecture: set both")
                descriptor = msgspec.structs.replace(listed.descriptor, platform=platform)
                self.add(name, msgspec.structs.replace(listed, descriptor=descriptor))
                return
        raise NotFound(f"manifest for image {manifest} does not exist in {name}")

    def remove(self, name: str) -> None:
        """Forget a list. Raises NotFound."""
        self.entries(name)
        shutil.rmtree(self._list(name))

    def document(self, name: str) -> Fetched:
        """The list as it will be pushed: an OCI index when all its manifests are OCI's, else Docker's list.

        Raises InvalidInput for an entry without a platform.
        """
        entries = self.entries(name)
        for listed in entries:
            platform = listed.descriptor.platform
            if platform is None or not platform.os or not platform.architecture:
                raise InvalidInput(
                    f"manifest {listed.ref} must have an OS and Architecture to be pushed to a registry",
                    hint=f"buildtool manifest annotate --os OS --arch ARCH {name} {listed.ref}",
                )
        oci = all(listed.descriptor.media_type in (media_types.MANIFEST, media_types.INDEX) for listed in entries)
        media_type = media_types.INDEX if oci else media_types.DOCKER_LIST
        descriptors = [listed.descriptor for listed in entries]
        data = msgspec.json.encode({"schemaVersion": 2, "mediaType": media_type, "manifests": descriptors})
        return Fetched(data, media_type, sha256(data))

    def _list(self, name: str) -> Path:
        return self.folder / _safe(_full(name))


async def listed_manifests(repository: Repository, reference: Reference) -> list[Listed]:
    """What a reference adds to a list: its manifest, or all that its index names. Raises NotFound, Corrupt."""
    top = await repository.wanted_manifest(reference.digest or reference.tag)
    if top.media_type not in media_types.INDEXES:
        return [await _listed(repository, str(reference), top, None)]
    found = []
    decode_index(top.data)  # every digest in it is one
    for entry in msgspec.json.decode(top.data, type=_ListedIndex).manifests:
        child = await repository.manifest(entry.digest)
        ref = f"{reference.repository}@{entry.digest}"
        found.append(await _listed(repository, ref, child, entry.platform))
    return found


async def _listed(repository: Repository, ref: str, fetched: Fetched, platform: ListedPlatform | None) -> Listed:
    if platform is None:
        config = decode_manifest(fetched.data).config
        if config.media_type in media_types.CONFIGS:
            found = decode_config(await repository.small_blob(config))
            platform = ListedPlatform(found.architecture, found.os, found.os_version, None, found.variant)
    descriptor = ListedDescriptor(fetched.media_type, fetched.digest, len(fetched.data), platform)
    return Listed(ref, descriptor, fetched.data)


def _full(name: str) -> str:
    return str(parse_reference(name).with_default_tag())


def _safe(name: str) -> str:
    """A reference as a file's name, Docker's way."""
    return name.replace(":", "-").replace("/", "_")
