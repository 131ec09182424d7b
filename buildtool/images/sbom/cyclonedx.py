"""A bill as a CycloneDX 1.6 document.

Source: ECMA-424 (CycloneDX 1.6) and its JSON schema.
"""

from __future__ import annotations

from typing import Any

from buildtool import __version__
from buildtool.images.sbom.bill import Bill, Package
from buildtool.images.sbom.documents import Subject
from buildtool.images.sbom.licenses import declared, license_id
from buildtool.oci import sha256


def to_cyclonedx(bill: Bill, subject: Subject) -> dict[str, Any]:
    """The document: the image, the distribution it is of, its packages."""
    digest = subject.digest or subject.id
    components = [_operating_system(bill)] if bill.distribution.id else []
    components += [_component(package) for package in bill.packages]
    metadata: dict[str, Any] = {
        "timestamp": subject.created,
        "tools": {"components": [{"type": "application", "name": "buildtool", "version": __version__}]},
        "component": {
            "bom-ref": digest,
            "type": "container",
            "name": subject.name,
            "version": digest,
            "hashes": [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}],
        },
    }
    if bill.faults:
        metadata["properties"] = [{"name": "buildtool:unreadable", "value": fault} for fault in bill.faults]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{subject.uuid}",
        "version": 1,
        "metadata": metadata,
        "components": components,
        "dependencies": [{"ref": digest, "dependsOn": [component["bom-ref"] for component in components]}],
    }


def _operating_system(bill: Bill) -> dict[str, Any]:
    distribution = bill.distribution
    return {
        "bom-ref": f"os:{distribution.qualifier}",
        "type": "operating-system",
        "name": distribution.id,
        "version": distribution.version,
        "description": distribution.name,
    }


def _component(package: Package) -> dict[str, Any]:
    mark = sha256(f"{package.purl} {package.found_in}".encode())[7:19]
    fields: dict[str, Any] = {
        "bom-ref": f"{package.purl}#{mark}",
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "properties": [{"name": "buildtool:found-in", "value": package.found_in}],
    }
    if package.namespace:
        fields["group"] = package.namespace
    if package.source:
        fields["properties"].append({"name": "buildtool:built-from", "value": package.source})
    if package.supplier:
        fields["publisher"] = package.supplier
    if licenses := _licenses(package):
        fields["licenses"] = licenses
    return fields


def _licenses(package: Package) -> list[dict[str, Any]]:
    """One expression where SPDX knows all of it; else each license by its identifier or its name."""
    found = declared(package.licenses)
    if found is None:
        return []
    if not found.unknown:
        return [{"expression": found.expression}]
    names = dict.fromkeys(package.licenses)
    return [{"license": {"id": known} if (known := license_id(name)) else {"name": name}} for name in names]
