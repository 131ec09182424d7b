"""SLSA provenance of builds: what it says, that it keeps to the schema, and that no secret is in it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2

from buildtool.images.attestations import PROVENANCE, Wanted
from buildtool.solve.redaction import Redaction
from tests.unit.solve.conftest import Outcome, Workshop

TEXT = """\
FROM busybox AS tools
RUN --network=none echo tool > /tool
FROM busybox
ARG VERSION=1
ARG API_TOKEN=in-the-buildfile
ENV DB_PASSWORD="also there" MODE=plain
COPY --from=tools /tool /
COPY file /
RUN --network=none --mount=type=secret,id=pass,env=P test -n "$P"; echo $VERSION
"""


def provenance(shop: Workshop, built: Outcome) -> dict[str, Any]:
    data = shop.images.attestations.predicate(built.image.id, PROVENANCE)
    assert data is not None
    found: dict[str, Any] = json.loads(data)
    return found


def assert_valid(predicate: dict[str, Any]) -> None:
    """SLSA's own schema knows every field but those that begin with our name, as it asks of extensions."""
    known = copy.deepcopy(predicate)
    metadata = known["runDetails"]["metadata"]
    known["runDetails"]["metadata"] = {n: v for n, v in metadata.items() if not n.startswith("buildtool_")}
    parsed = json_format.ParseDict(known, provenance_pb2.Provenance())
    assert parsed.build_definition.build_type and parsed.run_details.builder.id
    assert parsed.run_details.metadata.started_on.seconds <= parsed.run_details.metadata.finished_on.seconds


def test_min_says_what_it_was_made_from(shop: Workshop) -> None:
    shop.write(file="x")
    options = Wanted(provenance="min", builder_id="https://ci.example/7", vcs={"revision": "abc"})
    built = shop.build(TEXT, secrets={"pass": b"swordfish"}, build_args={"VERSION": "2"}, attest=options)

    found = provenance(shop, built)

    assert_valid(found)
    definition = found["buildDefinition"]
    base = shop.images.get("busybox")
    assert definition["resolvedDependencies"] == [
        {
            "uri": f"pkg:docker/busybox@latest?platform=linux%2F{base.config.architecture}",
            "digest": {"sha256": base.manifest.digest[7:]},
        }
    ]
    request = definition["externalParameters"]["request"]
    assert request == {"frontend": "dockerfile.v0", "args": {}, "locals": [{"name": "context"}]}
    assert definition["externalParameters"]["configSource"] == {"path": "Buildfile"}
    assert "buildConfig" not in definition["internalParameters"]
    metadata = found["runDetails"]["metadata"]
    assert metadata["invocationId"] == built.result.id
    assert metadata["buildtool_hermetic"] is True
    assert metadata["buildtool_completeness"] == {"request": False, "resolvedDependencies": False}
    assert metadata["buildtool_metadata"] == {"vcs": {"revision": "abc"}}
    assert found["runDetails"]["builder"]["id"] == "https://ci.example/7"


def test_max_adds_what_was_asked_and_done(shop: Workshop) -> None:
    shop.write(file="x")
    options = Wanted(provenance="max", reproducible=True)
    built = shop.build(
        TEXT, secrets={"pass": b"swordfish"}, build_args={"VERSION": "2"}, labels={"a": "b"}, attest=options
    )

    found = provenance(shop, built)

    assert_valid(found)
    request = found["buildDefinition"]["externalParameters"]["request"]
    assert request["args"] == {"build-arg:VERSION": "2", "label:a": "b"}
    assert request["secrets"] == [{"id": "pass"}] and request["ssh"] == []
    steps = found["buildDefinition"]["internalParameters"]["buildConfig"]["steps"]
    assert [step["op"]["op"] for step in steps].count("exec") == 2
    seen: set[str] = set()
    for step in steps:
        assert set(step.get("inputs", ())) <= seen
        seen.add(step["id"])
    metadata = found["runDetails"]["metadata"]
    assert metadata["buildtool_reproducible"] is True and metadata["buildtool_completeness"]["request"] is True
    layers = metadata["buildtool_metadata"]["layers"]
    assert set(layers) <= seen
    assert [layer[0]["digest"] for layer in layers.values()] == built.image.diff_ids[1:]


def test_no_secret_is_in_it(shop: Workshop) -> None:
    """Given as a secret, as a build arg, in a label, in a URL, in the Buildfile's ARG and ENV."""
    shop.write(file="x")
    built = shop.build(
        TEXT + "LABEL note=kept\nRUN echo swordfish-1 && echo given-token-2\n",
        secrets={"pass": b"swordfish-1\n", "key": b"-----BEGIN KEY-----\nAAAABBBBCCCC\n-----END KEY-----\n"},
        build_args={"API_TOKEN": "given-token-2", "HTTP_PROXY": "http://user:proxy-pass@proxy:3128"},
        labels={"from": "https://me:url-pass@host/x", "key": "AAAABBBBCCCC"},
        attest=Wanted(provenance="max", vcs={"source": "https://me:vcs-pass@host/x.git"}),
    )

    text = json.dumps(provenance(shop, built))

    for secret in ("swordfish-1", "AAAABBBB", "given-token", "in-the-buildfile", "also there", "-pass"):
        assert secret not in text, secret
    assert "MODE=plain" in text and "https://host/x" in text


def test_an_image_from_the_cache_has_it_too_and_it_can_be_taken_away(shop: Workshop) -> None:
    shop.write(file="x")
    options = {"secrets": {"pass": b"swordfish"}}
    plain = shop.build(TEXT, **options)
    assert shop.images.attestations.of(plain.image.id) == []

    stated = shop.build(TEXT, attest=Wanted(provenance="min", sbom=("spdx", "cyclonedx")), **options)
    assert stated.image.id == plain.image.id
    assert len(shop.images.attestations.of(plain.image.id)) == 3

    shop.build(TEXT, attest=Wanted(without=(PROVENANCE,)), **options)
    assert [each.predicate_type for each in shop.images.attestations.of(plain.image.id)] == [
        "https://cyclonedx.org/bom",
        "https://spdx.dev/Document",
    ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host/a?b=c#d", "https://host/a?b=c"),
        ("https://host/a?token=abc&x=1", "https://host/a?token=***&x=1"),
        ("https://s3/x?X-Amz-Signature=abc&X-Amz-Date=1", "https://s3/x?X-Amz-Signature=***&X-Amz-Date=***"),
        ("git@host:a/b.git", "git@host:a/b.git"),
    ],
)
def test_urls_are_shown_without_credentials(url: str, shown: str) -> None:
    assert Redaction(()).url(url) == shown


def test_values_in_a_buildfile() -> None:
    text = (
        'ARG TOKEN=abc OTHER=1\nENV A=1 \\\n  MY_SECRET="x y" \\\n  B=2\nENV PASSWORD old form\nRUN echo TOKEN=abc\n'
    )
    shown = "ARG TOKEN=*** OTHER=1\nENV A=1 \\\n  MY_SECRET=*** \\\n  B=2\nENV PASSWORD ***\nRUN echo TOKEN=abc\n"
    assert Redaction(()).buildfile(text) == shown
