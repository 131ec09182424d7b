"""Attestations in registries: pushed with an image, and read from beside one.

Source: moby/buildkit, docs/attestations/attestation-storage.md; OCI distribution-spec v1.1, "Listing Referrers".
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from buildtool.cache import Lease
from buildtool.errors import Corrupt
from buildtool.images import Image, Images
from buildtool.images.attached import ARTIFACT_TYPE, IN_TOTO, PREDICATE_TYPE, Attached, attach, is_attestation
from buildtool.oci import Descriptor, Digest, Reference, decode_index, decode_manifest, media_types, sha256
from buildtool.registry.referrers import referrers
from buildtool.registry.repository import Fetched, Repository
from buildtool.registry.work import settled, together

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
    for digest in about:
        for layer in decode_manifest((await repository.manifest(digest)).data).layers:
            if layer.media_type == IN_TOTO:
                data = await repository.small_blob(layer, _LIMIT)
                found.setdefault((layer.annotations or {}).get(PREDICATE_TYPE) or _type_of(data), data)
    return sorted(found.items())


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
