"""Rules of the distribution specification 1.1 that no other test is about, named by the section they are in.

docs/registry.md, "The specification's rules", has the whole list.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from buildtool.registry.server import documents
from tests.unit.registry.conftest import Running
from tests.unit.registry.test_server_api import CONFIG, INDEX, MANIFEST, Api, descriptor, digest_of, manifest

ROOT = Path(__file__).parents[3]
CODES = {
    *("BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"),
    *("MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED"),
    *("DENIED", "UNSUPPORTED", "TOOMANYREQUESTS"),
}


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


async def test_push_a_sessions_location_has_a_uuid_of_its_own(api: Api) -> None:
    found = set()
    for _ in range(2):
        location = (await api("POST", "/v2/a/blobs/uploads/", expect=202))[0]["Location"]
        found.add(uuid.UUID(location.rpartition("/")[2]))
    assert len(found) == 2


async def test_push_one_post_says_where_the_blob_is(api: Api) -> None:
    headers, _ = await api("POST", f"/v2/a/blobs/uploads/?digest={digest_of(b'12345')}", b"12345", 201)
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


async def test_push_every_missing_reference_is_told(api: Api) -> None:
    _, body = await api("PUT", "/v2/a/manifests/1", manifest(b"c", b"1", b"2"), 400, Content_Type=MANIFEST)
    errors = json.loads(body)["errors"]
    assert {error["code"] for error in errors} == {"MANIFEST_BLOB_UNKNOWN"}
    assert [error["detail"]["digest"] for error in errors] == [digest_of(data) for data in (b"c", b"1", b"2")]


async def test_push_parameters_of_the_content_type_are_ignored(api: Api) -> None:
    data = await api.push("a", "1", b"layer")
    await api("PUT", "/v2/a/manifests/2", data, 201, Content_Type=f"{MANIFEST}; charset=utf-8")
    assert (await api("GET", "/v2/a/manifests/2"))[0]["Content-Type"] == MANIFEST


async def test_push_a_manifest_without_media_type_is_of_its_content_type(api: Api) -> None:
    config = await api.push_blob("a", b"{}")
    document = {"schemaVersion": 2, "config": {"mediaType": CONFIG, "digest": config, "size": 2}, "layers": []}
    await api("PUT", "/v2/a/manifests/1", json.dumps(document).encode(), 201, Content_Type=MANIFEST)
    headers, body = await api("GET", "/v2/a/manifests/1")
    assert headers["Content-Type"] == MANIFEST and json.loads(body) == document


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


async def test_discovery_tags_are_sorted_whatever_their_case(api: Api) -> None:
    """ "The tags MUST be in lexical order (i.e. case-insensitive alphanumeric order)", in pages too."""
    data = await api.push("a", "B", b"layer")
    for tag in ("a", "C", "b", "A", "_x", "1"):
        await api("PUT", f"/v2/a/manifests/{tag}", data, 201, Content_Type=MANIFEST)
    order = ["1", "_x", "A", "a", "B", "b", "C"]
    assert json.loads((await api("GET", "/v2/a/tags/list"))[1])["tags"] == order
    for number, last in enumerate(order):
        _, body = await api("GET", f"/v2/a/tags/list?n=2&last={last}")
        assert json.loads(body)["tags"] == order[number + 1 : number + 3]


async def test_discovery_no_tags_are_asked_for(api: Api) -> None:
    await api.push("a", "1", b"layer")
    headers, body = await api("GET", "/v2/a/tags/list?n=0")
    assert json.loads(body) == {"name": "a", "tags": []} and "Link" not in headers


async def test_discovery_many_referrers_come_in_pages(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Link leads on when one index cannot hold them."""
    monkeypatch.setattr(documents, "_REFERRERS", 700)
    target = descriptor(await api.push("a", "1", b"layer"), MANIFEST)
    await api.push_blob("a", b"{}")
    pushed = set()
    for number in range(5):
        data = manifest(b"{}", subject=target, artifactType="application/x+y", annotations={"n": str(number)})
        await api("PUT", f"/v2/a/manifests/{digest_of(data)}", data, 201, Content_Type=MANIFEST)
        pushed.add(digest_of(data))
    for question in ("", "?artifactType=application/x%2By"):
        path, found, pages = f"/v2/a/referrers/{target['digest']}{question}", [], 0
        while path:
            headers, body = await api("GET", path)
            found += [entry["digest"] for entry in json.loads(body)["manifests"]]
            path, pages = headers.get("Link", "").partition("<")[2].partition(">")[0], pages + 1
            assert headers.get("OCI-Filters-Applied", "") == ("artifactType" if question else "")
        assert len(found) == 5 and set(found) == pushed and pages > 1


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


async def test_an_index_may_name_blobs(api: Api) -> None:
    """BuildKit's cache without image-manifest=true is an index of layers and its own config; they must be there."""
    kinds = ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.buildkit.cacheconfig.v0")
    blobs = {kind: kind.encode() for kind in kinds}
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [descriptor(content, kind) for kind, content in blobs.items()],
    }
    data = json.dumps(document).encode()
    await api("PUT", "/v2/a/manifests/cache", data, 400, Content_Type=INDEX)
    for content in blobs.values():
        await api("POST", f"/v2/a/blobs/uploads/?digest={digest_of(content)}", content, 201)
    await api("PUT", "/v2/a/manifests/cache", data, 201, Content_Type=INDEX)
    assert (await api("GET", "/v2/a/manifests/cache"))[1] == data


async def test_pull_from_a_repository_that_there_is_not(api: Api) -> None:
    for path in ("manifests/1", f"manifests/{digest_of(b'?')}", f"blobs/{digest_of(b'?')}", "tags/list"):
        await api("GET", f"/v2/nobody/here/{path}", expect=404)
    for path in (f"manifests/{digest_of(b'?')}", f"blobs/{digest_of(b'?')}"):
        await api("DELETE", f"/v2/nobody/here/{path}", expect=404)


async def test_errors_are_documents_with_codes_of_the_table(api: Api) -> None:
    """Every 4xx answer with a JSON body."""
    location = (await api("POST", "/v2/a/blobs/uploads/", expect=202))[0]["Location"]
    blob = await api.push_blob("a", b"blob")
    for method, path, status, headers in (
        ("GET", f"/v2/a/blobs/{digest_of(b'?')}", 404, {}),
        ("GET", "/v2/a/blobs/sha256:x", 400, {}),
        ("GET", f"/v2/a/blobs/{blob}", 416, {"Range": "bytes=9-"}),
        ("PATCH", location, 416, {"Content-Range": "5-6"}),
        ("PATCH", location, 400, {"Content-Range": "?"}),
        ("PATCH", "/v2/a/blobs/uploads/none", 404, {}),
        ("PUT", location, 400, {}),
        ("PUT", "/v2/a/manifests/1", 400, {}),
        ("PUT", "/v2/a/manifests/sha256:totallywrong", 400, {"Content-Type": MANIFEST}),
        ("GET", "/v2/a/manifests/sha256:totallywrong", 404, {}),
        ("GET", "/v2/A/manifests/1", 400, {}),
        ("GET", "/v2/a/tags/list?n=x", 400, {}),
        ("GET", "/v2/a/referrers/x", 400, {}),
        ("POST", "/v2/a/tags/list", 405, {}),
    ):
        _, body = await api(method, path, b"" if method == "GET" else b"xx", status, **headers)
        for error in json.loads(body)["errors"]:
            assert error["code"] in CODES and isinstance(error["message"], str)


async def test_management_what_is_missing_cannot_be_deleted(api: Api) -> None:
    await api.push("a", "1", b"layer")
    await api.refused("DELETE", "/v2/a/manifests/none", "MANIFEST_UNKNOWN", 404)
    await api("DELETE", "/v2/a/manifests/1", expect=202)
    assert json.loads((await api("GET", "/v2/a/tags/list"))[1])["tags"] in ([], None)


def test_the_table_of_rules_names_tests_that_there_are() -> None:
    text = (ROOT / "docs" / "registry.md").read_text()
    table = text.partition("### The specification's rules")[2].partition("\n### ")[0]
    named = set(re.findall(r"`(test_\w+)`", table))
    files = (ROOT / "tests" / "unit" / "registry").glob("test_*.py")
    there = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert len(named) > 40 and not named - there
