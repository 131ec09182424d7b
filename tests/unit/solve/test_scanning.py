"""SBOMs by scanner images, and of stages and contexts: BuildKit's scanning protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest

from buildtool.errors import BuildtoolError, InvalidInput, StepFailed
from buildtool.images.attestations import PROVENANCE_V02, Wanted
from buildtool.images.sbom.documents import PREDICATE_TYPES
from tests.unit.solve.conftest import Outcome, Workshop

SCANNER = r"""FROM busybox
RUN printf '#!/bin/sh\n\
set -e\n\
for place in $BUILDKIT_SCAN_SOURCE ${BUILDKIT_SCAN_SOURCE_EXTRAS:+${BUILDKIT_SCAN_SOURCE_EXTRAS}*}; do\n\
  name=${place##*/}\n\
  echo "{\"spdxVersion\": \"SPDX-2.3\", \"name\": \"$name\", \"comment\": \"$(cat $place/what) $PWD $1\"}" > $BUILDKIT_SCAN_DESTINATION/$name.spdx.json\n\
done\n\
touch $BUILDKIT_SCAN_SOURCE/x 2>/dev/null && exit 3 || true\n' > /scan && chmod 755 /scan && mkdir /work && chmod 777 /work
USER 1000
WORKDIR /work
ENTRYPOINT ["/scan"]
CMD ["argument"]
"""  # noqa: E501
SBOM = Wanted(sbom=("spdx",), generator="scanner")


@pytest.fixture
def scanner(shop: Workshop) -> None:
    shop.build(SCANNER, tags=("scanner",))


def documents(shop: Workshop, built: Outcome) -> list[dict[str, Any]]:
    found = shop.images.attestations.statements(built.image, built.image.manifest.digest)
    return [json.loads(data)["predicate"] for kind, data in found if kind == PREDICATE_TYPES["spdx"]]


@pytest.mark.usefixtures("scanner")
def test_a_scanner_is_run_on_the_image(shop: Workshop) -> None:
    text = "FROM busybox\nRUN echo image > /what\n"
    built = shop.build(text, attest=SBOM)
    expected = {"spdxVersion": "SPDX-2.3", "name": "sbom", "comment": "image /work argument"}
    assert documents(shop, built) == [expected]
    assert built.result.image.id == shop.build(text).image.id  # the scan is no part of it
    again = shop.build(text, attest=SBOM, no_cache=True)
    assert documents(shop, again) == [expected]


@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize("value", ["true", "made,other"])
def test_stages_and_the_context_are_scanned_when_the_buildfile_says_so(shop: Workshop, value: str) -> None:
    shop.write(what="context")
    text = f"""ARG BUILDKIT_SBOM_SCAN_CONTEXT=1
FROM busybox AS made
ARG BUILDKIT_SBOM_SCAN_STAGE={value}
RUN echo stage > /what
FROM busybox AS unscanned
RUN echo unscanned > /what
FROM busybox
COPY --from=unscanned /what /unscanned
COPY --from=made /what /from
RUN echo image > /what
"""
    built = shop.build(text, attest=SBOM)
    found = {each["name"]: each["comment"].split()[0] for each in documents(shop, built)}
    assert found == {"sbom": "image", "sbom-made": "stage", "sbom-context": "context"}

    own = shop.build(text, attest=Wanted(sbom=("spdx",)))
    names = [each["name"] for each in documents(shop, own)]
    assert len(names) == 3 and names[1:] == ["sbom-context", "sbom-made"]


def test_a_scanner_that_fails_or_says_nothing_is_told(shop: Workshop) -> None:
    for text, kind, words in (
        ("FROM busybox\nENTRYPOINT echo no; exit 4\n", StepFailed, "the scanner image bad failed: .*exit code: 4"),
        ("FROM busybox\nENTRYPOINT true\n", BuildtoolError, "the scanner image bad wrote no document"),
        ("FROM scratch\nLABEL a=b\n", InvalidInput, "neither an entrypoint nor a command"),
        (
            "FROM busybox\nCMD echo x > $BUILDKIT_SCAN_DESTINATION/a.spdx.json\n",
            BuildtoolError,
            "a.spdx.json of the scanner image bad is no JSON",
        ),
    ):
        shop.build(text, tags=("bad",))
        with pytest.raises(kind, match=words):
            shop.build("FROM busybox\nRUN true\n", attest=Wanted(sbom=("spdx",), generator="bad"))


def test_provenance_in_the_older_form(shop: Workshop) -> None:
    wanted = Wanted(provenance="max", version="v0.2", builder_id="https://ci/1", reproducible=True)
    text, given = "FROM busybox\nARG A_TOKEN\nRUN true\n", {"A_TOKEN": "swordfish1"}
    built = shop.build(text, build_args=given, attest=wanted)
    (each,) = shop.images.attestations.of(built.image.id)
    data = shop.images.attestations.predicate(built.image.id, PROVENANCE_V02)
    assert each.predicate_type == PROVENANCE_V02 and data is not None and b"swordfish1" not in data
    found = json.loads(data)
    assert found["builder"] == {"id": "https://ci/1"} and found["buildType"]
    assert found["invocation"]["configSource"] == {"entryPoint": "Buildfile"}
    assert found["invocation"]["parameters"]["args"]["build-arg:A_TOKEN"] == "***"
    assert found["metadata"]["completeness"] == {"parameters": True, "environment": True, "materials": True}
    assert found["metadata"]["reproducible"] is True and found["materials"][0]["uri"].startswith("pkg:docker/busybox")
    assert found["buildConfig"]["steps"]
    shop.build(text, build_args=given, attest=Wanted(provenance="min"))
    assert [each.predicate_type for each in shop.images.attestations.of(built.image.id)] == [
        "https://slsa.dev/provenance/v1"
    ]
