"""What is stated about images, kept with them: how an image was built, what it holds.

Kept are the predicates; the statement that binds one to a manifest is made when that manifest is written (saved or
pushed), because its digest depends on how the layers are compressed then.
Source: in-toto Attestation Framework, spec/v1/statement.md; SLSA v1.1, provenance.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from buildtool.cache.store import Store
from buildtool.images.model import Image
from buildtool.oci import Digest, Platform, Reference, hex_of

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
_KIND = "attestations"


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The attestations that a build is to make. `sbom` are forms of documents, `provenance` is "", "min" or "max".

    `without` are the predicate types that the image is not to have any more; `vcs` (`source`, `revision`) is what the
    client knows of its own directory: a hint, verified by nobody.
    """

    sbom: tuple[str, ...] = ()
    provenance: str = ""
    builder_id: str = ""
    reproducible: bool = False
    without: tuple[str, ...] = ()
    vcs: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Attestation:
    """One predicate about an image: its type, and the blob that it lies in."""

    predicate_type: str
    digest: Digest


class Attestations:
    """The attestations of one store's images. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._documents = store.state.documents(_KIND)

    def of(self, image_id: Digest) -> list[Attestation]:
        """Those of an image, sorted by predicate type."""
        known = self._documents.get(image_id) or {}
        return [Attestation(kind, Digest(digest)) for kind, digest in sorted(known.items())]

    def put(self, image_id: Digest, predicate_type: str, predicate: bytes) -> None:
        """State something about an image; what was stated of that type before is replaced."""
        with self._store.leases.hold("attestation"), self._store.state.transaction():
            known = self._documents.get(image_id) or {}
            known[predicate_type] = self._store.blobs.put(predicate)
            self._documents.put(image_id, known)

    def drop(self, image_id: Digest, predicate_types: Collection[str]) -> None:
        """State nothing of these types any more."""
        with self._store.state.transaction():
            known = self._documents.get(image_id) or {}
            left = {kind: digest for kind, digest in known.items() if kind not in predicate_types}
            if left != known:
                self._documents.put(image_id, left)

    def predicate(self, image_id: Digest, predicate_type: str) -> bytes | None:
        """The predicate of a type (JSON); None when the image has none."""
        found = next((each for each in self.of(image_id) if each.predicate_type == predicate_type), None)
        return None if found is None else self._store.blobs.read(found.digest)

    def blobs(self, images: Collection[Digest]) -> Iterator[Digest]:
        """What gc must keep for these images' sake."""
        for image_id, known in self._documents.items():
            if image_id in images:
                yield from (Digest(digest) for digest in known.values())

    def statements(self, image: Image, manifest: Digest, names: Sequence[Reference] = ()) -> list[tuple[str, bytes]]:
        """Predicate types and in-toto statements about the manifest of an image."""
        return [
            (each.predicate_type, self._statement(each, image.config.platform, manifest, names))
            for each in self.of(image.id)
        ]

    def _statement(
        self, each: Attestation, platform: Platform, manifest: Digest, names: Sequence[Reference]
    ) -> bytes:
        digest = {"sha256": hex_of(manifest)}
        subjects = [{"name": image_url(name, platform), "digest": digest} for name in names]
        return msgspec.json.encode(
            {
                "_type": STATEMENT,
                "subject": subjects or [{"name": "_", "digest": digest}],
                "predicateType": each.predicate_type,
                "predicate": msgspec.Raw(self._store.blobs.read(each.digest)),
            }
        )


def image_url(reference: Reference, platform: Platform) -> str:
    """The package URL of an image: `pkg:docker/NAME@TAG?platform=…`. Source: purl-spec, type docker."""
    version = f"@{quote(reference.tag, safe='')}" if reference.tag else ""
    digest = f"digest={reference.digest}&" if reference.digest else ""
    name = quote(reference.familiar_repository, safe="/:")
    return f"pkg:docker/{name}{version}?{digest}platform={quote(str(platform), safe='')}"
