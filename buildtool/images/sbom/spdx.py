"""A bill as an SPDX 2.3 document.

Source: SPDX specification 2.3, clauses 6 to 11, and its JSON schema.
"""

from __future__ import annotations

import re
from typing import Any

from buildtool import __version__
from buildtool.images.sbom.bill import Bill, Package
from buildtool.images.sbom.documents import Subject
from buildtool.images.sbom.licenses import Licenses, declared
from buildtool.oci import sha256

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9.-]+")
_DOCUMENT, _IMAGE = "SPDXRef-DOCUMENT", "SPDXRef-Image"


def to_spdx(bill: Bill, subject: Subject) -> dict[str, Any]:
    """The document: the image, the distribution it is of, its packages."""
    packages = [_image(subject)]
    relationships = [_relation(_DOCUMENT, "DESCRIBES", _IMAGE)]
    unknown: dict[str, str] = {}
    if bill.distribution.id:
        packages.append(_distribution(bill))
        relationships.append(_relation(_IMAGE, "CONTAINS", packages[-1]["SPDXID"]))
    for package in bill.packages:
        licenses = declared(package.licenses)
        unknown |= dict(licenses.unknown) if licenses is not None else {}
        packages.append(_package(package, licenses))
        relationships.append(_relation(_IMAGE, "CONTAINS", packages[-1]["SPDXID"]))
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": subject.name,
        "documentNamespace": f"urn:uuid:{subject.uuid}",
        "creationInfo": {"created": subject.created, "creators": [f"Tool: buildtool-{__version__}"]},
        "packages": packages,
        "relationships": relationships,
    }
    if known := sorted(unknown.items()):
        document["hasExtractedLicensingInfos"] = [
            {"licenseId": reference, "name": name, "extractedText": name} for reference, name in known
        ]
    if bill.faults:
        document["comment"] = "Not all databases could be read: " + "; ".join(bill.faults)
    return document


def _relation(element: str, kind: str, related: str) -> dict[str, str]:
    return {"spdxElementId": element, "relationshipType": kind, "relatedSpdxElement": related}


def _image(subject: Subject) -> dict[str, Any]:
    digest = subject.digest or subject.id
    return {
        "SPDXID": _IMAGE,
        "name": subject.name,
        "versionInfo": digest,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest.removeprefix("sha256:")}],
    }


def _distribution(bill: Bill) -> dict[str, Any]:
    distribution = bill.distribution
    return {
        "SPDXID": f"SPDXRef-OperatingSystem-{_NOT_ALLOWED.sub('-', distribution.qualifier)}",
        "name": distribution.id,
        "versionInfo": distribution.version or "NOASSERTION",
        "summary": distribution.name or distribution.id,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "OPERATING_SYSTEM",
    }


def _package(package: Package, licenses: Licenses | None) -> dict[str, Any]:
    mark = sha256(f"{package.purl} {package.found_in}".encode())[7:19]
    fields: dict[str, Any] = {
        "SPDXID": f"SPDXRef-Package-{package.kind}-{_NOT_ALLOWED.sub('-', package.name)}-{mark}",
        "name": f"{package.namespace}/{package.name}" if _is_path(package) else package.name,
        "versionInfo": package.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licenses.expression if licenses is not None else "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "sourceInfo": f"found in {package.found_in}" + (f", built from {package.source}" if package.source else ""),
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": package.purl,
            }
        ],
    }
    if package.supplier:
        fields["supplier"] = _supplier(package.supplier)
    return fields


def _is_path(package: Package) -> bool:
    """Whether the namespace is a part of the name as people say it."""
    return bool(package.namespace) and package.kind in ("golang", "npm")


def _supplier(text: str) -> str:
    match = re.fullmatch(r"\s*\"?(.*?)\"?\s*<([^<>\s]+)>\s*", text)
    if match is None:
        return f"Organization: {text.strip()}"
    kind = "Organization" if re.search(r"team|maintainers|project|group|developers", match[1], re.I) else "Person"
    return f"{kind}: {match[1] or match[2]} ({match[2]})"
