"""The kinds of SBOM documents there are, and how one is made of an image."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from buildtool.images.sbom.bill import Bill

FORMATS = ("spdx", "cyclonedx")
PREDICATE_TYPES = {"spdx": "https://spdx.dev/Document", "cyclonedx": "https://cyclonedx.org/bom"}
"""Source: in-toto/attestation, spec/predicates/spdx.md and cyclonedx.md."""
_NAMESPACE = uuid.UUID("8a2d6f4e-0d0c-5b1b-9c7e-6a4f0f2f9d11")


@dataclass(frozen=True, slots=True)
class Subject:
    """The image that a document is about. `created` is its own time (RFC 3339): documents have no other.

    `digest` names its manifest, "" when it has none yet.
    """

    name: str
    id: str
    created: str
    digest: str = ""

    @property
    def uuid(self) -> uuid.UUID:
        """The same for the same image, under whatever name."""
        return uuid.uuid5(_NAMESPACE, self.id)


def make_sbom(form: str, bill: Bill, subject: Subject) -> dict[str, Any]:
    """The document in one of FORMATS."""
    from buildtool.images.sbom.cyclonedx import to_cyclonedx
    from buildtool.images.sbom.spdx import to_spdx

    return {"spdx": to_spdx, "cyclonedx": to_cyclonedx}[form](bill, subject)
