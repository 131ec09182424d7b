"""What is stated about an image stays with it, and goes out beside it as BuildKit's and OCI's clients look for it."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from buildtool.images import Images
from buildtool.images.attestations import PROVENANCE, image_url
from buildtool.oci import Platform, sha256
from tests.unit.images.conftest import Maker, document, load, members, reference, saved

SPDX = "https://spdx.dev/Document"


def assert_statement(data: bytes, predicate_type: str, subject: str) -> dict[str, Any]:
    """It keeps to the published schema, and is about this manifest."""
    parsed = json_format.Parse(data, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    statement: dict[str, Any] = json.loads(data)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == predicate_type
    assert [each["digest"]["sha256"] for each in statement["subject"]] == [subject.removeprefix("sha256:")]
    return statement


def test_statements_name_the_manifest_and_the_image(images: Images, make: Maker) -> None:
    image = make({"a": b"1"}, tags=["team/app:1"])
    images.attestations.put(image.id, SPDX, b'{"name": "x"}')
    images.attestations.put(image.id, PROVENANCE, b'{"old": 1}')
    images.attestations.put(image.id, PROVENANCE, b'{"buildDefinition": {}}')

    found = images.attestations.statements(image, image.manifest.digest, image.references)

    assert [kind for kind, _ in found] == [PROVENANCE, SPDX]
    statement = assert_statement(found[0][1], PROVENANCE, image.manifest.digest)
    assert statement["predicate"] == {"buildDefinition": {}}
    assert statement["subject"][0]["name"] == "pkg:docker/team/app@1?platform=linux%2Famd64"
    assert_statement(images.attestations.statements(image, image.manifest.digest)[1][1], SPDX, image.manifest.digest)


def test_an_archive_has_the_statements_beside_the_image(images: Images, make: Maker) -> None:
    image = make({"a": b"1"}, tags=["app:1"])
    plain = saved(images, "app:1")
    images.attestations.put(image.id, SPDX, b'{"name": "x"}')

    archive = saved(images, "app:1")

    files: Any = members(archive)
    top: Any = document(archive, "index.json")
    (entry,) = top["manifests"]
    assert entry["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1"
    index = json.loads(files[f"blobs/sha256/{entry['digest'][7:]}"])
    runnable, stated = index["manifests"]
    assert runnable["digest"] == document(plain, "index.json")["manifests"][0]["digest"]  # type: ignore[index]
    assert stated["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert stated["annotations"] == {
        "vnd.docker.reference.digest": runnable["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    manifest = json.loads(files[f"blobs/sha256/{stated['digest'][7:]}"])
    assert manifest["subject"]["digest"] == runnable["digest"]
    assert manifest["artifactType"] == "application/vnd.docker.attestation.manifest.v1+json"
    (layer,) = manifest["layers"]
    assert layer["annotations"] == {"in-toto.io/predicate-type": SPDX}
    assert_statement(files[f"blobs/sha256/{layer['digest'][7:]}"], SPDX, runnable["digest"])
    for name, data in files.items():
        assert not name.startswith("blobs/") or sha256(data) == f"sha256:{name[-64:]}"
    assert document(archive, "manifest.json") == document(plain, "manifest.json")
    assert saved(images, "app:1") == archive


def test_a_loaded_image_keeps_its_statements(images: Images, make: Maker) -> None:
    image = make({"a": b"1"}, tags=["app:1"])
    images.attestations.put(image.id, SPDX, b'{"name":"x"}')
    archive = saved(images, "app:1")
    images.delete("app:1")
    assert images.attestations.of(image.id) == []

    load(images, archive)

    assert images.attestations.predicate(image.id, SPDX) == b'{"name":"x"}'
    assert saved(images, "app:1") == archive


def test_gc_keeps_the_predicates_of_images_only(images: Images, make: Maker) -> None:
    image = make({"a": b"1"}, tags=["app:1"])
    images.attestations.put(image.id, SPDX, b'{"name": "x"}')
    blob = images.attestations.of(image.id)[0].digest
    images.store.gc(images.pins())
    assert images.store.blobs.has(blob)

    images.attestations.drop(image.id, [SPDX])
    assert images.attestations.predicate(image.id, SPDX) is None
    images.attestations.put(image.id, SPDX, b'{"name": "x"}')
    images.delete("app:1")
    assert blob not in images.pins().blobs


def test_urls_of_images() -> None:
    url = image_url(reference("ghcr.io/a/b:1.0_x"), Platform(architecture="arm64", os="linux"))
    assert url == "pkg:docker/ghcr.io/a/b@1.0_x?platform=linux%2Farm64"
