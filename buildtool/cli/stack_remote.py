"""Stacks in registries: put there by `publish`, read by `-f oci://REFERENCE`. It needs no daemon."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildtool.cli.handlers.remote import login_of, with_transport
from buildtool.errors import InvalidInput, NotFound
from buildtool.oci import Descriptor, Reference, parse_reference
from buildtool.registry.errors import Missing
from buildtool.registry.repository import Repository
from buildtool.registry.transport import Transport
from buildtool.registry.uploads import upload
from buildtool.stacks.artifact import MANIFEST, layers_of, manifest, unpacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildtool.stacks.artifact import Part

PREFIX = "oci://"


def fetch_stack(address: str) -> str:
    """The path of the compose file of `oci://REFERENCE`; the files are kept by the manifest's digest.

    Raises InvalidInput, Missing, Corrupt, RegistryUnreachable.
    """
    reference = _reference(address)

    async def work(transport: Transport) -> str:
        async with _repository(transport, reference, "pull") as repository:
            try:
                found = await repository.manifest(reference.digest or reference.tag)
            except Missing:
                raise NotFound(f"there is no stack {reference} in its registry") from None
            digest = found.digest.removeprefix("sha256:")
            # The last folder's name is the project's, when neither the file nor the caller has one.
            folder = f"{_cache()}/{digest}/{reference.path.rpartition('/')[2]}"
            if os.path.isfile(f"{folder}/compose.yaml"):
                return f"{folder}/compose.yaml"
            layers = layers_of(json.loads(found.data), str(reference))
            contents = [await repository.small_blob(_descriptor(layer)) for layer in layers]
            _keep(unpacked(list(zip(layers, contents, strict=True)), str(reference)), folder)
            return f"{folder}/compose.yaml"

    return with_transport(work)


def push_stack(name: str, parts: Sequence[Part], *, old: bool = False) -> str:
    """Put the artifact into a registry; the digest of its manifest."""
    reference = _reference(name)
    document = manifest(parts, old=old)

    async def work(transport: Transport) -> str:
        async with _repository(transport, reference, "pull", "push") as repository:
            with tempfile.TemporaryDirectory(prefix="buildtool-publish-") as folder:
                for content in {part.digest: part.content for part in parts}.values():
                    await _put(repository, content, Path(folder))
                await _put(repository, b"{}", Path(folder))
            return await repository.put_manifest(reference.digest or reference.tag, document, MANIFEST)

    return with_transport(work)


def _reference(text: str) -> Reference:
    found = parse_reference(text.removeprefix(PREFIX).removeprefix("oci:")).with_default_tag()
    if found.digest and not text.startswith("oci:"):
        raise InvalidInput(f"cannot publish to a digest: {text}", hint="Name a tag: REPOSITORY[:TAG]")
    return found


@asynccontextmanager
async def _repository(transport: Transport, reference: Reference, *actions: str) -> AsyncIterator[Repository]:
    connection = await transport.connect(reference.domain, login_of(reference.domain))
    yield Repository(connection, reference.path, *actions)


async def _put(repository: Repository, content: bytes, folder: Path) -> None:
    from buildtool.oci import sha256

    digest = sha256(content)
    if not await repository.has_blob(digest):
        path = folder / digest.removeprefix("sha256:")
        path.write_bytes(content)
        await upload(repository, path, digest, lambda _done: None)


def _descriptor(layer: dict[str, Any]) -> Descriptor:
    return Descriptor(media_type=layer["mediaType"], digest=layer["digest"], size=layer["size"])


def _cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return f"{base}/buildtool/published"


def _keep(files: dict[str, bytes], folder: str) -> None:
    """All of the files, or nothing."""
    parent = os.path.dirname(folder)
    os.makedirs(os.path.dirname(parent), mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=os.path.dirname(parent)) as new:
        inner = f"{new}/{os.path.basename(folder)}"
        os.mkdir(inner, 0o700)
        for name, content in files.items():
            Path(inner, name).write_bytes(content)
        try:
            os.makedirs(parent, mode=0o700, exist_ok=True)
            os.rename(inner, folder)
        except FileExistsError:
            return
        except OSError:
            if not os.path.isdir(folder):
                raise
            shutil.rmtree(inner)
