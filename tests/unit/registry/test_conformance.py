"""Rules of the distribution specification 1.1 that no other test is about, named by the section they are in.

docs/registry.md, "The specification's rules", has the whole list.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from tests.unit.registry.conftest import Running
from tests.unit.registry.test_server_api import CONFIG, INDEX, MANIFEST, Api, descriptor, digest_of, manifest


@pytest.fixture(params=["files", "folder_bucket"])
async def api(request: pytest.FixtureRequest, make_server: Callable[..., Awaitable[Running]]) -> AsyncIterator[Api]:
    bucket = None if request.param == "files" else request.getfixturevalue(request.param)
    running = await make_server(bucket=bucket)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Api(running.url, session)


async def test_push_every_step_of_a_session_says_where_it_goes_on(api: Api) -> None:
    headers, _ = await api("POST", "/v2/a/blobs/uploads/", b"", 202, Content_Length="0")
    location = headers["Location"]
    headers, _ = await api("PATCH", location, b"12345", 202, Content_Range="0-4")
    assert headers["Location"] and headers["Range"] == "0-4"
    headers, _ = await api("GET", headers["Location"], expect=204)
    assert headers["Location"] and headers["Range"] == "0-4"
    headers, _ = await api("PUT", f"{headers['Location']}?digest={digest_of(b'12345')}", expect=201)
    assert (await api("GET", headers["Location"]))[1] == b"12345"


async def test_push_a_first_chunk_out_of_order_is_416_and_the_session_lives(api: Api) -> None:
    location = (await api("POST", "/v2/a/blobs/uploads/", expect=202))[0]["Location"]
    await api("PATCH", location, b"xx", 416, Content_Range="3-4")
    await api("PATCH", location, b"12345", 202, Content_Range="0-4")
    await api("PUT", f"{location}?digest={digest_of(b'12345')}", expect=201)


async def test_push_a_manifest_is_where_the_answer_says(api: Api) -> None:
    data = await api.push("a", "1", b"layer")
    headers, _ = await api("PUT", "/v2/a/manifests/2", data, 201, Content_Type=MANIFEST)
    assert (await api("GET", headers["Location"]))[1] == data


async def test_push_a_manifest_of_nearly_4_mib_is_taken(api: Api) -> None:
    await api.push_blob("a", b"{}")
    data = manifest(b"{}", annotations={"fill": "x" * ((4 << 20) - 1000)})
    await api("PUT", "/v2/a/manifests/large", data, 201, Content_Type=MANIFEST)
    assert (await api("GET", "/v2/a/manifests/large"))[1] == data


async def test_pull_tags_have_128_characters_at_most(api: Api) -> None:
    data = await api.push("a", "1", b"layer")
    await api("PUT", f"/v2/a/manifests/_{'x' * 127}", data, 201, Content_Type=MANIFEST)
    await api("GET", f"/v2/a/manifests/_{'x' * 127}")
    await api.refused("PUT", f"/v2/a/manifests/{'x' * 129}", "MANIFEST_INVALID", 400, data, Content_Type=MANIFEST)


@pytest.mark.parametrize("name", ["A", "a__-b", "-a", "a-", "a..b"])
async def test_pull_names_that_the_specification_does_not_know_hold_nothing(api: Api, name: str) -> None:
    await api("GET", f"/v2/{name}/tags/list", expect=400)
    await api("POST", f"/v2/{name}/blobs/uploads/", expect=400)


async def test_pull_what_is_missing_is_404_without_a_body_for_head(api: Api) -> None:
    await api.push("a", "1", b"layer")
    for path in ("blobs/sha256:" + "0" * 64, "manifests/none", "manifests/sha256:" + "0" * 64):
        _, body = await api("HEAD", f"/v2/a/{path}", expect=404)
        assert not body


async def test_discovery_tags_from_a_place_on_come_in_pages_without_it(api: Api) -> None:
    data = await api.push("a", "b", b"layer")
    for tag in ("a", "c", "d"):
        await api("PUT", f"/v2/a/manifests/{tag}", data, 201, Content_Type=MANIFEST)
    headers, body = await api("GET", "/v2/a/tags/list?n=1&last=b")
    assert json.loads(body)["tags"] == ["c"] and 'rel="next"' in headers["Link"]
    headers, body = await api("GET", "/v2/a/tags/list?n=10&last=b")
    assert json.loads(body)["tags"] == ["c", "d"] and "Link" not in headers


async def test_discovery_referrers_of_no_digest_are_400_and_of_an_unknown_one_none(api: Api) -> None:
    await api("GET", "/v2/a/referrers/sha256:x", expect=400)
    headers, body = await api("GET", f"/v2/nobody/referrers/{digest_of(b'?')}")
    assert headers["Content-Type"] == INDEX and json.loads(body)["manifests"] == []


async def test_discovery_an_index_may_refer_too(api: Api) -> None:
    target = descriptor(await api.push("a", "1", b"layer"), MANIFEST)
    plain = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": target}
    typed = plain | {"artifactType": "application/x", "annotations": {"k": "v"}}
    found = {}
    for document in (plain, typed):
        data = json.dumps(document).encode()
        headers, _ = await api("PUT", f"/v2/a/manifests/{digest_of(data)}", data, 201, Content_Type=INDEX)
        assert headers["OCI-Subject"] == target["digest"]
    for entry in json.loads((await api("GET", f"/v2/a/referrers/{target['digest']}"))[1])["manifests"]:
        assert entry["mediaType"] == INDEX
        found[entry.get("artifactType")] = entry.get("annotations")
    assert found == {None: None, "application/x": {"k": "v"}}
    _, body = await api("GET", f"/v2/a/referrers/{target['digest']}?artifactType={CONFIG}")
    assert json.loads(body)["manifests"] == []


async def test_management_what_is_missing_cannot_be_deleted(api: Api) -> None:
    await api.push("a", "1", b"layer")
    await api.refused("DELETE", "/v2/a/manifests/none", "MANIFEST_UNKNOWN", 404)
    await api("DELETE", "/v2/a/manifests/1", expect=202)
    assert json.loads((await api("GET", "/v2/a/tags/list"))[1])["tags"] in ([], None)
