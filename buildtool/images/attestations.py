"""What is stated about images, kept with them: how an image was built, what it holds.

Kept are the predicates; the statement that binds one to a manifest is made when that manifest is written (saved or
pushed), because its digest depends on how the layers are compressed then.
Source: in-toto Attestation Framework, spec/v1/statement.md; SLSA v1.1, provenance.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from buildtool.cache.store import Store
from buildtool.images.model import Image
from buildtool.oci import Digest, Platform, Reference, hex_of

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
PROVENANCE_V02 = "https://slsa.dev/provenance/v0.2"
_KIND = "attestations"
_NAMED = "#"


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The attestations that a build is to make. `sbom` are forms of documents, `generator` the scanner image that is
    to make them (in its own form), `provenance` is "", "min" or "max", `version` v1 or v0.2.

    `without` are the predicate types that the image is not to have any more; `vcs` (`source`, `revision`) is what the
    client knows of its own directory: a hint, verified by nobody.
    """

    sbom: tuple[str, ...] = ()
    generator: str = ""
    provenance: str = ""
    version: Literal["v1", "v0.2"] = "v1"
    builder_id: str = ""
    reproducible: bool = False
    without: tuple[str, ...] = ()
    vcs: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Attestation:
    """One predicate about an image: its type, and the blob that it lies in. Of one type there may be several, each
    with a name.
    """

    predicate_type: str
    digest: Digest
    name: str = ""


class Attestations:
    """The attestations of one store's images. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._documents = store.state.documents(_KIND)

    def of(self, image_id: Digest) -> list[Attestation]:
        """Those of an image, sorted by predicate type and name."""
        known = self._documents.get(image_id) or {}
        found = []
        for key, digest in sorted(known.items()):
            kind, _, name = key.partition(_NAMED)
            found.append(Attestation(kind, Digest(digest), name))
        return found

    def put(self, image_id: Digest, predicate_type: str, predicate: bytes, name: str = "") -> None:
        """State something about an image; without a name, all that was stated of that type before is replaced."""
        with self._store.leases.hold("attestation"), self._store.state.transaction():
            known = self._documents.get(image_id) or {}
            if not name:
                known = _without(known, [predicate_type])
            known[f"{predicate_type}{_NAMED}{name}" if name else predicate_type] = self._store.blobs.put(predicate)
            self._documents.put(image_id, known)

    def drop(self, image_id: Digest, predicate_types: Collection[str]) -> None:
        """State nothing of these types any more."""
        with self._store.state.transaction():
            known = self._documents.get(image_id) or {}
            left = _without(known, predicate_types)
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


def _without(known: dict[str, Any], predicate_types: Collection[str]) -> dict[str, Any]:
    return {key: digest for key, digest in known.items() if key.partition(_NAMED)[0] not in predicate_types}


def image_url(reference: Reference, platform: Platform) -> str:
    """The package URL of an image: `pkg:docker/NAME@TAG?platform=…`. Source: purl-spec, type docker."""
    version = f"@{quote(reference.tag, safe='')}" if reference.tag else ""
    digest = f"digest={reference.digest}&" if reference.digest else ""
    name = quote(reference.familiar_repository, safe="/:")
    return f"pkg:docker/{name}{version}?{digest}platform={quote(str(platform), safe='')}"
