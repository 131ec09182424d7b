"""Statements about an image that comes from elsewhere: in an archive of images, or from a registry."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from buildtool.errors import Corrupt, InvalidInput
from buildtool.images.archive import Archive
from buildtool.images.attached import IN_TOTO, is_attestation
from buildtool.oci import Descriptor, Digest, decode_index, decode_manifest, hex_of, media_types

_MOST = 1000


class _Subject(msgspec.Struct):
    digest: dict[str, str] = {}


class _Statement(msgspec.Struct, rename="camel"):
    predicate_type: str
    predicate: msgspec.Raw
    subject: list[_Subject] = []


def predicates_in(archive: Archive, manifest: Digest) -> Iterator[tuple[str, bytes]]:
    """Types and predicates that the archive's indexes have for a manifest; what of them is damaged is passed over."""
    index = archive.document("index.json")
    pending = list(decode_index(index).manifests) if index is not None else []
    for entry in pending:
        if len(pending) > _MOST:
            return
        data = _document(archive, entry)
        if data is None:
            continue
        try:
            if entry.media_type in media_types.INDEXES:
                pending.extend(decode_index(data).manifests)
            elif is_attestation(entry, manifest):
                for layer in decode_manifest(data).layers:
                    if layer.media_type == IN_TOTO:
                        yield from predicate_in(_document(archive, layer), manifest)
        except (Corrupt, InvalidInput):
            continue


def _document(archive: Archive, descriptor: Descriptor) -> bytes | None:
    member = archive.find(f"blobs/sha256/{hex_of(descriptor.digest)}")
    return member.document() if member is not None and member.digest == descriptor.digest else None


def predicate_in(data: bytes | None, manifest: Digest) -> Iterator[tuple[str, bytes]]:
    """The type and the predicate of a statement (JSON); nothing when it is damaged or not about this manifest."""
    try:
        statement = msgspec.json.decode(data or b"", type=_Statement)
    except msgspec.DecodeError:
        return
    if any(subject.digest.get("sha256") == hex_of(manifest) for subject in statement.subject):
        yield statement.predicate_type, bytes(statement.predicate)
