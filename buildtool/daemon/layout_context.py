"""`oci-layout://`: an image out of an OCI layout directory, brought into the store for a build. Blocking.

Source: OCI image-spec v1.1, image-layout.md.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from buildtool.errors import InvalidInput, NotFound
from buildtool.images import Images
from buildtool.oci import Platform

_REF_NAME = "org.opencontainers.image.ref.name"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LARGEST = 16 << 20
_ID = re.compile(r"sha256:[0-9a-f]{64}")


def load_layout(images: Images, directory: Path, tag: str, digest: str, platform: Platform | None) -> str:
    """The id of the image that the layout has under a digest or tag (`latest` when neither is given).

    Raises NotFound when it has none, InvalidInput or Corrupt for a layout that is damaged.
    """
    index = _document(directory / "index.json", directory)
    descriptor = _choose(index, tag or "latest", digest, directory)
    descriptor = {key: value for key, value in descriptor.items() if key != "annotations"}  # it gets no name here
    with tempfile.TemporaryFile(dir=images.store.root / "ingest") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            _put(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _put(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode())
            for blob in dict.fromkeys(_blobs(directory, descriptor, 0)):
                path = _blob(directory, blob)
                if path.is_file():  # what is not there is for other platforms
                    archive.add(path, f"blobs/sha256/{blob[7:]}", recursive=False)
        file.seek(0)
        told = images.load(cast(BinaryIO, file), platform=platform, quiet=True)
        said = "".join(str(each.get("stream", "")) for each in told)
    found = _ID.search(said)
    if found is None:
        raise InvalidInput(f"{directory}: the layout's {digest or tag or 'latest'} is no image")
    return found[0]


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


def _blobs(directory: Path, descriptor: dict[str, Any], depth: int) -> Iterator[str]:
    digest = str(descriptor.get("digest"))
    if not _DIGEST.fullmatch(digest) or depth > 4:
        raise InvalidInput(f"{directory}: the layout names {digest!r}, which is no digest of it")
    yield digest
    path = _blob(directory, digest)
    kind = str(descriptor.get("mediaType", ""))
    if not path.is_file() or not ("manifest" in kind or "index" in kind):
        return
    document = _document(path, directory)
    for each in document.get("manifests") or ():
        yield from _blobs(directory, each, depth + 1)
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
