"""What a build has stated about its image, for files beside its outputs and the metadata file."""

from __future__ import annotations

import os

from buildtool.client import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_FILES = {
    "https://slsa.dev/provenance/v1": "provenance.json",
    "https://spdx.dev/Document": "sbom.spdx.json",
    "https://cyclonedx.org/bom": "sbom.cdx.json",
}
_PROVENANCE = "https://slsa.dev/provenance/v1"


def statements(call: Call, image: str) -> dict[str, dict[str, Any]]:
    """In-toto statements by predicate type; {} when the call asks for none."""
    if not (call.texts("attest") or call.given("provenance") or call.given("sbom")):
        return {}
    found = call.client.get(f"/images/{quote_path(image)}/attestations", {"statement": True})
    return {each["PredicateType"]: each["Statement"] for each in found}


def write_statements(found: dict[str, dict[str, Any]], folder: str) -> None:
    """A file each in the root of a `local` output, under the names that BuildKit has for them."""
    import json

    for predicate_type, statement in found.items():
        name = _FILES.get(predicate_type)
        if name is not None:
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                json.dump(statement, file, ensure_ascii=False)
                file.write("\n")


def provenance_of(found: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The predicate that tells how the image was built."""
    statement = found.get(_PROVENANCE)
    return None if statement is None else statement["predicate"]
