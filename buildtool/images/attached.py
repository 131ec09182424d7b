"""Attestations beside an image: a manifest of statements, and the index that names it and the image.

The manifest is an OCI artifact with the image's manifest as its subject: a registry lists it among the referrers, and
those who look for BuildKit's attestation manifests find it in the index.
Source: moby/buildkit, docs/attestations/attestation-storage.md, in the form of an OCI artifact; OCI image-spec v1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from buildtool.images.attestations import Attestations
from buildtool.images.model import Image
from buildtool.oci import Descriptor, Digest, Index, Manifest, Platform, Reference, encode, media_types, sha256

IN_TOTO = "application/vnd.in-toto+json"
ARTIFACT_TYPE = "application/vnd.docker.attestation.manifest.v1+json"
PREDICATE_TYPE = "in-toto.io/predicate-type"
REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"
ATTESTATION_MANIFEST = "attestation-manifest"
_EMPTY = b"{}"


@dataclass(frozen=True, slots=True)
class Attached:
    """What is written beside an image. `manifest` is the statements' own, `descriptor` what an index
    names that by, `blobs` are what it names."""

    index: bytes
    manifest: bytes
    blobs: tuple[bytes, ...]
    descriptor: Descriptor

    @property
    def documents(self) -> dict[Digest, bytes]:
        """Everything but the index, by digest."""
        return {sha256(data): data for data in (*self.blobs, self.manifest)}


def attach(
    attestations: Attestations, image: Image, manifest: Descriptor, names: Sequence[Reference] = ()
) -> Attached | None:
    """The documents for an image whose manifest this is; None for an image that nothing is stated about."""
    statements = attestations.statements(image, manifest.digest, names)
    if not statements:
        return None
    layers = [
        Descriptor(IN_TOTO, sha256(data), len(data), annotations={PREDICATE_TYPE: predicate_type})
        for predicate_type, data in statements
    ]
    subject = Descriptor(manifest.media_type, manifest.digest, manifest.size)
    config = Descriptor(media_types.EMPTY, sha256(_EMPTY), len(_EMPTY))
    stated = encode(Manifest(2, media_types.MANIFEST, config, layers, artifact_type=ARTIFACT_TYPE, subject=subject))
    marks = {REFERENCE_DIGEST: str(manifest.digest), REFERENCE_TYPE: ATTESTATION_MANIFEST}
    descriptor = Descriptor(
        media_types.MANIFEST,
        sha256(stated),
        len(stated),
        annotations=marks,
        platform=Platform(architecture="unknown", os="unknown"),
    )
    own = Descriptor(manifest.media_type, manifest.digest, manifest.size, platform=image.config.platform)
    index = encode(Index(2, media_types.INDEX, [own, descriptor]))
    return Attached(index, stated, (_EMPTY, *(data for _, data in statements)), descriptor)


def is_attestation(entry: Descriptor, manifest: Digest | None = None) -> bool:
    """Whether an index's entry is a manifest of statements (about this manifest)."""
    marks = entry.annotations or {}
    return marks.get(REFERENCE_TYPE) == ATTESTATION_MANIFEST and manifest in (None, marks.get(REFERENCE_DIGEST))
