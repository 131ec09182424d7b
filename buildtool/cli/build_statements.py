"""What a build has stated about its image, for files beside its outputs and the metadata file."""

from __future__ import annotations

from buildtool.client import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from buildtool.cli.call import Call

_FILES = {
    "https://slsa.dev/provenance/v1": "provenance.json",
    "https://slsa.dev/provenance/v0.2": "provenance.json",
    "https://spdx.dev/Document": "sbom.spdx.json",
    "https://cyclonedx.org/bom": "sbom.cdx.json",
}
_PROVENANCE = ("https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2")


def statements(call: Call, image: str) -> list[dict[str, Any]]:
    """In-toto statements; [] when the call asks for none."""
    if not (call.texts("attest") or call.given("provenance") or call.given("sbom")):
        return []
    found = call.client.get(f"/images/{quote_path(image)}/attestations", {"statement": True})
    return [each["Statement"] for each in found]


def file_names(found: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    """Files of the statements, for the root of an image's tree, under the names that BuildKit has for them."""
    import json

    seen: dict[str, int] = {}
    for statement in found:
        name = _FILES.get(statement["predicateType"])
        if name is not None:
            number = seen[name] = seen.get(name, -1) + 1
            stem, dot, rest = name.partition(".")
            name = f"{stem}-{number}{dot}{rest}" if number else name
            yield name, (json.dumps(statement, ensure_ascii=False) + "\n").encode()


def without_provenance(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The statements that do not tell how the image was built."""
    return [each for each in found if each["predicateType"] not in _PROVENANCE]


def provenance_of(found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The predicate that tells how the image was built."""
    return next((each["predicate"] for each in found if each["predicateType"] in _PROVENANCE), None)
