"""SBOM documents are what their published schemas say, and the same for the same image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from license_expression import get_spdx_licensing
from packageurl import PackageURL

from buildtool.images import Images
from buildtool.images.sbom import Bill, Package, Subject, to_cyclonedx, to_spdx
from buildtool.images.sbom.bill import Distribution
from buildtool.images.sbom.licenses import declared
from buildtool.images.sbom.of_image import sbom_of
from tests.unit.images.conftest import Maker

SPDX = Draft7Validator(json.loads((Path(__file__).parent / "spdx-2.3.schema.json").read_text()))
LICENSING = get_spdx_licensing()
CYCLONEDX = JsonStrictValidator(SchemaVersion.V1_6)
SUBJECT = Subject("app:1", "sha256:" + "a" * 64, "2024-01-02T03:04:05Z")

text = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
packages = st.builds(
    Package,
    kind=st.sampled_from(["deb", "apk", "rpm", "pypi", "npm", "golang", "cargo"]),
    name=text,
    version=text,
    found_in=text,
    licenses=st.lists(st.one_of(text, st.sampled_from(["MIT", "GPL-2+", "MIT OR Apache-2.0"]))).map(tuple),
    supplier=st.one_of(text, st.just("A Team <a@b.c>")),
    source=st.one_of(st.just(""), text),
)
bills = st.builds(
    Bill,
    st.lists(packages, max_size=4, unique_by=lambda package: (package.purl, package.found_in)).map(tuple),
    st.sampled_from([Distribution(), Distribution("debian", "12", "Debian 12"), Distribution("arch")]),
    st.lists(text, max_size=1).map(tuple),
)


def assert_valid(spdx: dict[str, Any], cyclonedx: dict[str, Any]) -> None:
    SPDX.validate(spdx)
    names = {spdx["SPDXID"], *(package["SPDXID"] for package in spdx["packages"])}
    assert len(names) == 1 + len(spdx["packages"])
    for relation in spdx["relationships"]:
        assert {relation["spdxElementId"], relation["relatedSpdxElement"]} <= names
    assert CYCLONEDX.validate_str(json.dumps(cyclonedx)) is None


@settings(max_examples=25)
@given(bills)
def test_documents_keep_to_their_schemas(bill: Bill) -> None:
    """Whatever databases hold, SPDX 2.3 and CycloneDX 1.6 documents of it are valid."""
    assert_valid(to_spdx(bill, SUBJECT), to_cyclonedx(bill, SUBJECT))


@given(packages)
def test_package_urls_can_be_read(package: Package) -> None:
    if package.name.strip("/"):
        assert PackageURL.from_string(package.purl).version == package.version


@given(st.lists(text, max_size=4).map(tuple))
def test_declared_licenses_are_expressions(names: tuple[str, ...]) -> None:
    found = declared(names)
    if found is not None:
        for reference, _ in found.unknown:
            assert reference in found.expression
        assert LICENSING.parse(found.expression) is not None


@pytest.mark.parametrize(
    ("names", "expression"),
    [
        (("GPL-2+", "Expat"), "GPL-2.0-or-later AND MIT"),
        (("mit OR apache-2.0",), "MIT OR Apache-2.0"),
        (("(MIT OR ISC)", "LGPL-2.1"), "(MIT OR ISC) AND LGPL-2.1-only"),
        (("GPL-2.0-only WITH Classpath-exception-2.0",), "GPL-2.0-only WITH Classpath-exception-2.0"),
        (("MIT OR",), "LicenseRef-MIT-OR"),
        (("My own terms",), "LicenseRef-My-own-terms"),
    ],
)
def test_licenses_get_their_spdx_names(names: tuple[str, ...], expression: str) -> None:
    found = declared(names)
    assert found is not None and found.expression == expression


def test_the_documents_of_an_image(images: Images, make: Maker) -> None:
    status = b"Package: base\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"
    below = {"etc/": b"", "etc/os-release": b"ID=debian\nVERSION_ID=12\n", "var/lib/dpkg/status": status}
    image = make(below, {"var/lib/dpkg/status": status.replace(b"Version: 1", b"Version: 2")}, tags=["app:1"])

    first = sbom_of(images, image, ("spdx", "cyclonedx"))
    again = sbom_of(images, image, ("spdx", "cyclonedx"))

    assert first == again
    spdx, cyclonedx = (json.loads(first[form]) for form in ("spdx", "cyclonedx"))
    assert_valid(spdx, cyclonedx)
    assert [package["name"] for package in spdx["packages"]] == ["app:1", "debian", "base"]
    assert spdx["creationInfo"]["created"] == "2024-01-02T03:04:05Z"
    assert cyclonedx["components"][1]["purl"] == "pkg:deb/debian/base@2?arch=all&distro=debian-12"
