"""Attestations in registries: pushed with an image, and read from beside one.

Source: moby/buildkit, docs/attestations/attestation-storage.md; OCI distribution-spec v1.1, "Listing Referrers".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from buildtool.cache import Lease
from buildtool.errors import BuildtoolError, Corrupt
from buildtool.images import Image, Images
from buildtool.images.attached import ARTIFACT_TYPE, IN_TOTO, PREDICATE_TYPE, Attached, attach, is_attestation
from buildtool.images.loaded_statements import predicate_in
from buildtool.oci import Descriptor, Digest, Reference, decode_index, decode_manifest, media_types, sha256
from buildtool.registry.referrers import referrers
from buildtool.registry.repository import Fetched, Repository
from buildtool.registry.selection import Selected
from buildtool.registry.transport import BROKEN
from buildtool.registry.work import settled, together

log = logging.getLogger(__name__)

_LIMIT = 64 << 20
Bring = Callable[[Descriptor], Coroutine[Any, Any, Descriptor]]
"""See that the repository has a blob of the store."""


async def push_attestations(
    images: Images,
    repository: Repository,
    bring: Bring,
    image: Image,
    manifest: bytes,
    reference: Reference,
    lease: Lease,
) -> bytes | None:
    """Push the manifest and its attestations by digest; the index of both, which the tag is to name then.

    None, and nothing is pushed, for an image that nothing is stated about. Raises RegistryRefused.
    """
    descriptor = Descriptor(decode_manifest(manifest).media_type, sha256(manifest), len(manifest))
    attached = await settled(_attach, images, image, descriptor, reference, lease)
    if attached is None:
        return None
    blobs = [Descriptor(IN_TOTO, digest, len(data)) for digest, data in attached.documents.items()]
    stated = sha256(attached.manifest)
    await together([bring(blob) for blob in blobs if blob.digest != stated])
    await repository.put_manifest(descriptor.digest, manifest, descriptor.media_type)
    await repository.put_manifest(stated, attached.manifest, media_types.MANIFEST)
    return attached.index


def _attach(
    images: Images, image: Image, manifest: Descriptor, reference: Reference, lease: Lease
) -> Attached | None:
    attached = attach(images.attestations, image, manifest, [reference])
    if attached is not None:
        for digest, data in attached.documents.items():
            lease.blob(digest)
            images.store.blobs.put(data)
    return attached


async def read_statements(repository: Repository, top: Fetched, image: Digest) -> list[tuple[str, bytes]]:
    """Predicate types and in-toto statements about an image of a registry: in the index that its name means, else
    among its referrers. `image` is its manifest. Raises RegistryRefused, Corrupt.
    """
    entries = decode_index(top.data).manifests if top.media_type in media_types.INDEXES else []
    about = [entry.digest for entry in entries if is_attestation(entry, image)]
    if not about:
        about = [entry.digest for entry in await referrers(repository, image, ARTIFACT_TYPE)]
    found: dict[str, bytes] = {}
    for kind, data in await _statements(repository, about):
        found.setdefault(kind, data)
    return sorted(found.items())


async def _statements(repository: Repository, manifests: Sequence[Digest]) -> list[tuple[str, bytes]]:
    """Predicate types and statements that manifests of statements name."""
    layers = [
        layer
        for digest in manifests
        for layer in decode_manifest((await repository.manifest(digest)).data).layers
        if layer.media_type == IN_TOTO
    ]
    documents = await together([repository.small_blob(layer, _LIMIT) for layer in layers])
    return [
        ((layer.annotations or {}).get(PREDICATE_TYPE) or _type_of(data), data)
        for layer, data in zip(layers, documents, strict=True)
    ]


async def keep_statements(images: Images, repository: Repository, selected: Selected) -> None:
    """What stands beside a pulled image in its index is kept with it, unless something is stated about it here.

    It is nothing that a pull fails for: what cannot be had, or is not about this image, is passed over.
    """
    image = selected.manifest.config.digest
    if not selected.stated:
        return
    known = await settled(images.attestations.of, image)
    if known:
        return
    try:
        found = await _statements(repository, selected.stated)
    except (BuildtoolError, *BROKEN) as error:
        log.warning("statements about %s are not kept: %s", image, error)
        return
    await settled(_keep, images, image, selected.fetched.digest, [data for _, data in found])


def _keep(images: Images, image: Digest, manifest: Digest, statements: Sequence[bytes]) -> None:
    seen: dict[str, int] = {}
    for kind, predicate in (each for data in statements for each in predicate_in(data, manifest)):
        number = seen[kind] = seen.get(kind, -1) + 1
        images.attestations.put(image, kind, predicate, str(number) if number else "")


def _type_of(statement: bytes) -> str:
    return str(statement_document(statement).get("predicateType", ""))


def statement_document(statement: bytes) -> dict[str, Any]:
    """A statement, decoded. Raises Corrupt for what is no JSON object."""
    try:
        document = msgspec.json.decode(statement)
    except msgspec.DecodeError as error:
        raise Corrupt(f"an attestation is no JSON document: {error}") from None
    if not isinstance(document, dict):
        raise Corrupt("an attestation is no JSON object")
    return document
