"""`oci-layout://`: an image out of an OCI layout directory, brought into the store for a build. Blocking.

Source: OCI image-spec v1.1, image-layout.md.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from buildtool.errors import InvalidInput, NotFound
from buildtool.images import Images
from buildtool.oci import Platform, best_platform, parse_platform

_REF_NAME = "org.opencontainers.image.ref.name"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LARGEST = 16 << 20
_ID = re.compile(r"sha256:[0-9a-f]{64}")
_DEPTH = 4
_FIELDS = ("mediaType", "digest", "size")


def load_layout(images: Images, directory: Path, tag: str, digest: str, platforms: Collection[Platform]) -> list[str]:
    """The ids of the images that the layout has under a digest or tag (`latest` when neither is given): of an index
    those for these platforms, else its first one.

    Raises NotFound when it has none, InvalidInput or Corrupt for a layout that is damaged.
    """
    index = _document(directory / "index.json", directory)
    chosen = _of_platforms(list(_images(directory, _choose(index, tag or "latest", digest, directory), 0)), platforms)
    manifests = [{key: each[key] for key in _FIELDS if key in each} for each in chosen]  # without names
    with tempfile.TemporaryFile(dir=images.store.root / "ingest") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            _put(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _put(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())
            for blob in dict.fromkeys(blob for each in manifests for blob in _blobs(directory, each)):
                if _blob(directory, blob).is_file():
                    archive.add(_blob(directory, blob), f"blobs/sha256/{blob[7:]}", recursive=False)
        file.seek(0)
        told = images.load(cast(BinaryIO, file), quiet=True)
        said = "".join(str(each.get("stream", "")) for each in told)
    found = _ID.findall(said)
    if not found:
        raise InvalidInput(f"{directory}: the layout's {digest or tag or 'latest'} is no image")
    return found


def _choose(index: dict[str, Any], tag: str, digest: str, directory: Path) -> dict[str, Any]:
    descriptors = [each for each in index.get("manifests") or () if isinstance(each, dict)]
    for each in descriptors:
        if digest and each.get("digest") == digest:
            return each
        name = str((each.get("annotations") or {}).get(_REF_NAME, ""))
        if not digest and tag in (name, name.rpartition(":")[2]):
            return each
    if digest and _DIGEST.fullmatch(digest) and _blob(directory, digest).is_file():
        data = _document(_blob(directory, digest), directory)
        kind = str(data.get("mediaType") or "application/vnd.oci.image.manifest.v1+json")
        return {"mediaType": kind, "digest": digest, "size": _blob(directory, digest).stat().st_size}
    names = sorted(str((each.get("annotations") or {}).get(_REF_NAME, each.get("digest"))) for each in descriptors)
    hint = f"it has: {', '.join(names) or 'nothing'}"
    raise NotFound(f"{directory}: the layout has no {digest or tag!r}", hint=hint)


def _images(directory: Path, descriptor: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    """The image manifests that a descriptor means, those that are in the layout; statements about them are none."""
    digest = str(descriptor.get("digest"))
    if not _DIGEST.fullmatch(digest) or depth > _DEPTH:
        raise InvalidInput(f"{directory}: the layout names {digest!r}, which is no digest of it")
    platform = descriptor.get("platform")
    if isinstance(platform, dict) and platform.get("os") == "unknown":
        return
    if "index" not in (kind := str(descriptor.get("mediaType", ""))) and "manifest.list" not in kind:
        if not depth or _blob(directory, digest).is_file():
            yield descriptor
        return
    for each in _document(_blob(directory, digest), directory).get("manifests") or ():
        if isinstance(each, dict):
            yield from _images(directory, each, depth + 1)


def _of_platforms(found: list[dict[str, Any]], platforms: Collection[Platform]) -> list[dict[str, Any]]:
    offered = [_platform(each.get("platform")) for each in found]
    places = {best_platform(platform, offered) for platform in platforms}
    return [each for place, each in enumerate(found) if place in places] or found[:1]


def _platform(document: object) -> Platform | None:
    if not isinstance(document, dict):
        return None
    parts = (str(document.get(key) or "") for key in ("os", "architecture", "variant"))
    try:
        return parse_platform("/".join(part for part in parts if part))
    except InvalidInput:
        return None


def _blobs(directory: Path, descriptor: dict[str, Any]) -> Iterator[str]:
    """A manifest, its config and its layers."""
    yield descriptor["digest"]
    document = _document(_blob(directory, descriptor["digest"]), directory)
    for each in (document.get("config"), *(document.get("layers") or ())):
        if isinstance(each, dict) and _DIGEST.fullmatch(str(each.get("digest"))):
            yield str(each["digest"])


def _blob(directory: Path, digest: str) -> Path:
    return directory / "blobs/sha256" / digest.removeprefix("sha256:")


def _document(path: Path, directory: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise InvalidInput(f"{path}: too large for a JSON document")
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"{directory} is no OCI layout: it has no {path.name}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{path}: not a JSON object")
    return found


def _put(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
