"""What the distribution specification 1.1 and its conformance rules ask of a registry beyond test_server_api."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from tests.unit.registry.conftest import Running
from tests.unit.registry.test_server_api import (
    INDEX,
    LAYER,
    MANIFEST,
    UNKNOWN,
    Api,
    descriptor,
    digest_of,
    manifest,
)

EMPTY = "application/vnd.oci.empty.v1+json"


@pytest.fixture(params=["files", "folder_bucket"])
async def conforming(
    request: pytest.FixtureRequest, make_server: Callable[..., Awaitable[Running]]
) -> AsyncIterator[Api]:
    bucket = None if request.param == "files" else request.getfixturevalue(request.param)
    running = await make_server(bucket=bucket)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Api(running.url, session)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", [f"blobs/{UNKNOWN}", f"manifests/{UNKNOWN}", "manifests/no-such-tag"])
async def test_pull_answers_404_for_what_is_not_there(conforming: Api, method: str, path: str) -> None:
    await conforming.push("a", "1", b"layer")
    await conforming(method, f"/v2/a/{path}", expect=404)
    await conforming(method, f"/v2/nobody/{path}", expect=404)


async def test_errors_are_json_of_the_specified_form(conforming: Api) -> None:
    headers, body = await conforming("GET", "/v2/a/manifests/no-such-tag", expect=404)
    assert headers["Content-Type"].startswith("application/json")
    (error,) = json.loads(body)["errors"]
    assert error["code"] == "MANIFEST_UNKNOWN" and isinstance(error["message"], str)


async def test_push_locations_can_be_pulled(conforming: Api) -> None:
    headers, _ = await conforming("POST", f"/v2/a/blobs/uploads/?digest={digest_of(b'x')}", b"x", 201)
    assert (await conforming("GET", headers["Location"]))[1] == b"x"
    await conforming.push_blob("a", b"{}")
    data = manifest(b"{}", b"x")
    for reference in ("tag", digest_of(data)):
        headers, _ = await conforming("PUT", f"/v2/a/manifests/{reference}", data, 201, Content_Type=MANIFEST)
        assert (await conforming("GET", headers["Location"]))[1] == data


async def test_push_in_chunks_follows_each_location(conforming: Api) -> None:
    data = os.urandom(900)
    headers, _ = await conforming("POST", "/v2/a/blobs/uploads/", expect=202, Content_Length="0")
    for start in range(0, 900, 300):
        content = f"{start}-{start + 299}"
        headers, _ = await conforming(
            "PATCH", headers["Location"], data[start : start + 300], 202, Content_Range=content
        )
        assert headers["Range"] == f"0-{start + 299}"
        headers, _ = await conforming("GET", headers["Location"], expect=204)
        assert headers["Range"] == f"0-{start + 299}" and headers["Location"]
    separator = "&" if "?" in headers["Location"] else "?"
    headers, _ = await conforming("PUT", f"{headers['Location']}{separator}digest={digest_of(data)}", expect=201)
    assert (await conforming("GET", headers["Location"]))[1] == data


async def test_push_refuses_a_first_chunk_that_does_not_begin_at_zero(conforming: Api) -> None:
    location = (await conforming("POST", "/v2/a/blobs/uploads/", expect=202))[0]["Location"]
    await conforming("PATCH", location, b"abc", 416, Content_Range="3-5")
    await conforming("PATCH", location, b"abc", 202, Content_Range="0-2")
    await conforming("PATCH", location, b"abc", 416, Content_Range="0-2")  # sent twice


async def test_push_takes_artifacts_of_any_type(conforming: Api) -> None:
    """No layers, an empty config, types nobody knows, fields nobody knows."""
    await conforming.push_blob("a", b"{}")
    await conforming.push_blob("a", b"part")
    whole = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.example+type",
        "config": descriptor(b"{}", EMPTY) | {"data": "e30="},
        "layers": [descriptor(b"part", "application/vnd.example.part", annotations={"k": "v"})],
        "org.example.more": {"kept": True},
    }
    for number, document in enumerate((whole, {**whole, "layers": []})):
        data = json.dumps(document).encode()
        await conforming("PUT", f"/v2/a/manifests/{number}", data, 201, Content_Type=MANIFEST)
        assert (await conforming("GET", f"/v2/a/manifests/{number}"))[1] == data


async def test_push_takes_manifests_of_nearly_four_mebibytes(conforming: Api) -> None:
    await conforming.push_blob("a", b"{}")
    data = manifest(b"{}", annotations={"filler": "x" * ((4 << 20) - 2000)})
    await conforming("PUT", "/v2/a/manifests/big", data, 201, Content_Type=MANIFEST)
    assert (await conforming("GET", "/v2/a/manifests/big"))[1] == data


async def test_push_says_the_subject_of_an_index_too(conforming: Api) -> None:
    subject = await conforming.push("a", "1", b"layer")
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "artifactType": "application/x.list",
        "manifests": [],
        "subject": descriptor(subject, MANIFEST),
        "annotations": {"k": "v"},
    }
    data = json.dumps(document).encode()
    headers, _ = await conforming("PUT", f"/v2/a/manifests/{digest_of(data)}", data, 201, Content_Type=INDEX)
    assert headers["OCI-Subject"] == digest_of(subject)
    (entry,) = json.loads((await conforming("GET", f"/v2/a/referrers/{digest_of(subject)}"))[1])["manifests"]
    assert entry == descriptor(data, INDEX, artifactType="application/x.list", annotations={"k": "v"})


async def test_push_of_a_manifest_moves_its_tag(conforming: Api) -> None:
    first = await conforming.push("a", "1", b"one")
    second = await conforming.push("a", "2", b"two")
    await conforming("PUT", "/v2/a/manifests/1", second, 201, Content_Type=MANIFEST)
    assert (await conforming("GET", "/v2/a/manifests/1"))[1] == second
    assert (await conforming("GET", f"/v2/a/manifests/{digest_of(first)}"))[1] == first


async def test_discovery_of_referrers_refuses_what_is_no_digest(conforming: Api) -> None:
    await conforming("GET", "/v2/a/referrers/no-digest", expect=400)
    found = json.loads((await conforming("GET", f"/v2/nobody/referrers/{UNKNOWN}"))[1])
    assert found["manifests"] == []
    path = f"/v2/a/referrers/{UNKNOWN}?artifactType=application/nothing"
    headers, body = await conforming("GET", path)
    assert headers["OCI-Filters-Applied"] == "artifactType" and json.loads(body)["manifests"] == []


async def test_discovery_of_tags_gives_at_most_what_was_asked(conforming: Api) -> None:
    data = await conforming.push("a", "t0", b"x")
    for number in range(1, 5):
        await conforming("PUT", f"/v2/a/manifests/t{number}", data, 201, Content_Type=MANIFEST)
    headers, body = await conforming("GET", "/v2/a/tags/list?n=2&last=t1")
    assert json.loads(body)["tags"] == ["t2", "t3"] and 'rel="next"' in headers["Link"]
    headers, body = await conforming("GET", "/v2/a/tags/list?n=100")
    assert len(json.loads(body)["tags"]) == 5 and "Link" not in headers
    assert json.loads((await conforming("GET", "/v2/a/tags/list?last=t4"))[1])["tags"] == []


async def test_management_of_what_is_not_there(conforming: Api) -> None:
    await conforming.push("a", "1", b"layer")
    for path in (f"manifests/{UNKNOWN}", "manifests/no-such-tag", f"blobs/{UNKNOWN}"):
        await conforming("DELETE", f"/v2/a/{path}", expect=404)


async def test_management_leaves_the_tag_list_without_the_deleted_tag(conforming: Api) -> None:
    data = await conforming.push("a", "1", b"layer")
    await conforming("PUT", "/v2/a/manifests/2", data, 201, Content_Type=MANIFEST)
    await conforming("DELETE", "/v2/a/manifests/1", expect=202)
    assert json.loads((await conforming("GET", "/v2/a/tags/list"))[1])["tags"] == ["2"]
    assert (await conforming("GET", f"/v2/a/manifests/{digest_of(data)}"))[1] == data


@pytest.mark.parametrize("name", ["A", "a//b", "-a", "a..b", "a___b", "a/", "x" * 256])
async def test_names_outside_the_grammar_are_no_repositories(conforming: Api, name: str) -> None:
    async with conforming.session.post(f"{conforming.url}/v2/{name}/blobs/uploads/") as answer:
        assert answer.status in (400, 404)


@pytest.mark.parametrize("name", ["a", "0/1", "a.b_c__d-e--f/g", "x" * 200])
async def test_names_of_the_grammar_are_repositories(conforming: Api, name: str) -> None:
    await conforming.push(name, "Tag_1.2-3", b"layer")
    await conforming("HEAD", f"/v2/{name}/manifests/Tag_1.2-3")


async def test_layers_of_a_repository_are_not_those_of_another(conforming: Api) -> None:
    await conforming.push_blob("a", b"layer")
    await conforming.push_blob("b", b"{}")
    document = json.loads(manifest(b"{}")) | {"layers": [descriptor(b"layer", LAYER)]}
    data = json.dumps(document).encode()
    await conforming.refused("PUT", "/v2/b/manifests/1", "MANIFEST_BLOB_UNKNOWN", 400, data, Content_Type=MANIFEST)
