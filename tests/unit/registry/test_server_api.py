"""The distribution API, row by row: pull, push, content discovery, content management."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from buildtool.registry.server import app
from tests.unit.registry.conftest import Running

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
UNKNOWN = "sha256:" + "0" * 64


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def manifest(config: bytes, *layers: bytes, **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config, CONFIG),
        "layers": [descriptor(layer, LAYER) for layer in layers],
        **more,
    }
    return json.dumps(document).encode()


class Api:
    """Calls to one registry."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def __call__(
        self, method: str, path: str, data: Any = None, expect: int = 200, **headers: str
    ) -> tuple[Any, bytes]:
        """One call with the expected status; headers and body of the answer."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        target = path if path.startswith("http") else self.url + path
        async with self.session.request(method, target, data=data, headers=fields, allow_redirects=False) as answer:
            body = await answer.read()
            assert answer.status == expect, (method, path, answer.status, body)
            return answer.headers, body

    async def refused(self, method: str, path: str, code: str, expect: int, data: Any = None, **headers: str) -> None:
        """One call that is refused with this code."""
        _, body = await self(method, path, data, expect, **headers)
        assert {error["code"] for error in json.loads(body)["errors"]} == {code}

    async def push_blob(self, name: str, data: bytes) -> str:
        digest = digest_of(data)
        await self("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", data, 201)
        return digest

    async def push(self, name: str, tag: str, *layers: bytes, **more: Any) -> bytes:
        """An image of these layers; its manifest."""
        config = json.dumps({"name": name, "tag": tag}).encode()
        for blob in (config, *layers):
            await self.push_blob(name, blob)
        data = manifest(config, *layers, **more)
        await self("PUT", f"/v2/{name}/manifests/{tag}", data, 201, Content_Type=MANIFEST)
        return data


@pytest.fixture(params=["files", "folder_bucket", pytest.param("bucket", marks=pytest.mark.xdist_group("s3"))])
async def ours(request: pytest.FixtureRequest, make_server: Callable[..., Awaitable[Running]]) -> Running:
    """Our server: on a store, on a folder that several servers may share, and on an S3 bucket."""
    return await make_server(bucket=None if request.param == "files" else request.getfixturevalue(request.param))


@pytest.fixture
async def api(ours: Running) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Api(ours.url, session)


async def test_the_base_says_what_this_is(api: Api) -> None:
    headers, body = await api("GET", "/v2/")
    assert headers["Docker-Distribution-API-Version"] == "registry/2.0" and body == b"{}"
    await api("GET", "/elsewhere", expect=404)
    await api.refused("POST", "/v2/", "UNSUPPORTED", 405)


async def test_blobs_are_given_whole_in_part_and_not_at_all(api: Api) -> None:
    data = os.urandom(200_000)
    path = f"/v2/a/b/blobs/{await api.push_blob('a/b', data)}"
    headers, body = await api("GET", path)
    assert body == data and headers["Docker-Content-Digest"] == digest_of(data) and headers["ETag"]
    headers, body = await api("HEAD", path)
    assert headers["Content-Length"] == "200000" and not body
    for sent, start, end in (("10-19", 10, 20), ("199990-", 199_990, 200_000), ("-5", 199_995, 200_000)):
        headers, body = await api("GET", path, expect=206, Range=f"bytes={sent}")
        assert body == data[start:end] and headers["Content-Range"] == f"bytes {start}-{end - 1}/200000"
    headers, _ = await api("GET", path, expect=206, Range="bytes=100-999999")
    assert headers["Content-Range"] == "bytes 100-199999/200000"
    headers, _ = await api("GET", path, expect=416, Range="bytes=200000-")
    assert headers["Content-Range"] == "bytes */200000"
    _, body = await api("GET", path, Range="bytes=0-1,5-6")  # several ranges: the whole is allowed
    assert body == data
    await api("GET", path, expect=304, If_None_Match=f'"{digest_of(data)}"')
    _, body = await api("GET", path, Range="bytes=0-1", If_Range='"other"')
    assert body == data
    await api.refused("GET", f"/v2/a/b/blobs/{UNKNOWN}", "BLOB_UNKNOWN", 404)
    await api.refused("GET", "/v2/a/b/blobs/sha256:x", "DIGEST_INVALID", 400)
    await api.refused("GET", f"/v2/other/blobs/{digest_of(data)}", "BLOB_UNKNOWN", 404)


async def test_an_empty_blob(api: Api) -> None:
    digest = await api.push_blob("a", b"")
    headers, body = await api("GET", f"/v2/a/blobs/{digest}")
    assert headers["Content-Length"] == "0" and not body
    await api("GET", f"/v2/a/blobs/{digest}", expect=416, Range="bytes=0-0")


async def test_a_session_of_post_and_put(api: Api) -> None:
    data = os.urandom(5000)
    headers, _ = await api("POST", "/v2/a/blobs/uploads/", expect=202)
    assert headers["Range"] == "0-0" and headers["Docker-Upload-UUID"]
    headers, _ = await api("PUT", f"{headers['Location']}?digest={digest_of(data)}", data, 201)
    assert headers["Location"] == f"/v2/a/blobs/{digest_of(data)}"
    _, body = await api("GET", headers["Location"])
    assert body == data


async def test_a_session_of_chunks(api: Api) -> None:
    data = os.urandom(3000)
    location = (await api("POST", "/v2/a/blobs/uploads/", expect=202))[0]["Location"]
    headers, _ = await api("PATCH", location, data[:1000], 202, Content_Range="0-999")
    assert headers["Range"] == "0-999"
    headers, _ = await api("GET", headers["Location"], expect=204)
    assert headers["Range"] == "0-999"
    headers, _ = await api("PATCH", location, data[2000:], 416, Content_Range="2000-2999")
    assert headers["Range"] == "0-999"
    await api.refused("PATCH", location, "SIZE_INVALID", 400, data[1000:2000], Content_Range="1000-2999")
    await api("PATCH", location, data[1000:2000], 202, Content_Range="1000-1999")
    await api("PUT", f"{location}?digest={digest_of(data)}", data[2000:], 201, Content_Range="2000-2999")
    _, body = await api("GET", f"/v2/a/blobs/{digest_of(data)}")
    assert body == data
    await api.refused("PUT", f"{location}?digest={digest_of(data)}", "BLOB_UPLOAD_UNKNOWN", 404)  # replayed


async def test_a_streamed_patch_without_a_length(api: Api) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 100_000

    location = (await api("POST", "/v2/a/blobs/uploads/", expect=202))[0]["Location"]
    headers, _ = await api("PATCH", location, stream(), 202)
    assert headers["Range"] == "0-499999"
    await api("PUT", f"{location}?digest={digest_of(b'x' * 500_000)}", expect=201)


async def test_uploads_are_refused_cancelled_and_private(api: Api, ours: Running) -> None:
    location = (await api("POST", "/v2/a/blobs/uploads/", expect=202))[0]["Location"]
    await api.refused("GET", location.replace("/v2/a/", "/v2/b/"), "BLOB_UPLOAD_UNKNOWN", 404)
    await api.refused("PUT", f"{location}?digest=md5:x", "DIGEST_INVALID", 400)
    await api.refused("PUT", f"{location}?digest={UNKNOWN}", "DIGEST_INVALID", 400, b"data")
    await api.refused("GET", location, "BLOB_UPLOAD_UNKNOWN", 404)
    location = (await api("POST", "/v2/a/blobs/uploads/", expect=202))[0]["Location"]
    await api("DELETE", location, expect=204)
    await api.refused("GET", location, "BLOB_UPLOAD_UNKNOWN", 404)
    assert not len(ours.server.uploads) and not ours.store.leftovers()


@pytest.mark.parametrize("ours", ["files"], indirect=True)  # of a bucket's, garbage collection ends them
async def test_idle_uploads_end(api: Api, ours: Running) -> None:
    location = (await api("POST", "/v2/a/blobs/uploads/", expect=202))[0]["Location"]
    await api("PATCH", location, b"x" * 1000, 202)
    assert await ours.server.uploads.expire(idle=0.0) == 1
    await api.refused("GET", location, "BLOB_UPLOAD_UNKNOWN", 404)
    assert not list((ours.store.root / "ingest").iterdir())


async def test_mounts(api: Api) -> None:
    digest = await api.push_blob("from/here", b"shared")
    headers, _ = await api("POST", f"/v2/to/blobs/uploads/?mount={digest}&from=from/here", expect=201)
    assert headers["Location"] == f"/v2/to/blobs/{digest}"
    await api("HEAD", headers["Location"])
    headers, _ = await api("POST", f"/v2/to/blobs/uploads/?mount={UNKNOWN}&from=from/here", expect=202)
    assert "/blobs/uploads/" in headers["Location"]
    await api("POST", f"/v2/to/blobs/uploads/?mount={digest}", expect=202)
    await api.refused("POST", f"/v2/to/blobs/uploads/?mount={digest}&from=../x", "NAME_INVALID", 400)


async def test_manifests_come_back_as_they_were_pushed(api: Api) -> None:
    data = b" " + await api.push("a", "1", b"layer") + b"\n"
    headers, _ = await api("PUT", "/v2/a/manifests/odd-bytes", data, 201, Content_Type=MANIFEST)
    assert headers["Docker-Content-Digest"] == digest_of(data)
    for reference in ("odd-bytes", digest_of(data)):
        headers, body = await api("GET", f"/v2/a/manifests/{reference}")
        assert body == data and headers["Content-Type"] == MANIFEST
        headers, _ = await api("HEAD", f"/v2/a/manifests/{reference}")
        assert headers["Content-Length"] == str(len(data)) and headers["Docker-Content-Digest"] == digest_of(data)
    await api.refused("GET", "/v2/a/manifests/nope", "MANIFEST_UNKNOWN", 404)
    await api.refused("GET", "/v2/a/manifests/.INVALID", "MANIFEST_UNKNOWN", 404)
    await api.refused("GET", f"/v2/a/manifests/{UNKNOWN}", "MANIFEST_UNKNOWN", 404)


async def test_manifests_are_checked(api: Api) -> None:
    await api.push("a", "1", b"layer")
    put = "/v2/a/manifests/x"
    await api.refused("PUT", put, "MANIFEST_BLOB_UNKNOWN", 400, manifest(b"c", b"missing"), Content_Type=MANIFEST)
    config = json.dumps({"name": "a", "tag": "1"}).encode()
    good = json.loads(manifest(config, b"layer"))
    wrong_size = {**good, "config": {**good["config"], "size": 1}}
    await api.refused("PUT", put, "MANIFEST_INVALID", 400, json.dumps(wrong_size).encode(), Content_Type=MANIFEST)
    await api.refused("PUT", put, "MANIFEST_INVALID", 400, b"{", Content_Type=MANIFEST)
    await api.refused("PUT", put, "MANIFEST_INVALID", 413, b" " * (4 << 20) + b"{}", Content_Type=MANIFEST)
    data = manifest(config, b"layer")
    await api.refused("PUT", f"/v2/a/manifests/{UNKNOWN}", "DIGEST_INVALID", 400, data, Content_Type=MANIFEST)
    await api.refused("PUT", "/v2/a/manifests/-x", "MANIFEST_INVALID", 400, data, Content_Type=MANIFEST)
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(b"?", MANIFEST)]}).encode()
    await api.refused("PUT", put, "MANIFEST_BLOB_UNKNOWN", 400, index, Content_Type=INDEX)
    await api.refused("GET", put, "MANIFEST_UNKNOWN", 404)


async def test_foreign_layers_may_be_elsewhere(api: Api) -> None:
    config = b"{}"
    await api.push_blob("a", config)
    foreign = descriptor(b"far", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", urls=["https://x/"])
    document = json.loads(manifest(config)) | {"layers": [foreign]}
    await api("PUT", "/v2/a/manifests/w", json.dumps(document).encode(), 201, Content_Type=MANIFEST)


async def test_sha512_digests(api: Api) -> None:
    data = os.urandom(1000)
    digest = digest_of(data, "sha512")
    await api("POST", f"/v2/a/blobs/uploads/?digest={digest}", data, 201)
    _, body = await api("GET", f"/v2/a/blobs/{digest}")
    assert body == data
    await api.refused("POST", f"/v2/a/blobs/uploads/?digest={digest}", "DIGEST_INVALID", 400, b"other")
    image = await api.push("a", "1", b"layer")
    by_512 = digest_of(image, "sha512")
    headers, _ = await api("PUT", f"/v2/a/manifests/{by_512}", image, 201, Content_Type=MANIFEST)
    assert headers["Docker-Content-Digest"] == by_512
    headers, body = await api("GET", f"/v2/a/manifests/{by_512}")
    assert body == image and headers["Docker-Content-Digest"] == by_512


async def test_tags_are_sorted_and_come_in_pages(api: Api) -> None:
    data = await api.push("a/tags", "1", b"x")
    for tag in ("b", "A", "a", "10"):
        await api("PUT", f"/v2/a/tags/manifests/{tag}", data, 201, Content_Type=MANIFEST)
    _, body = await api("GET", "/v2/a/tags/tags/list")
    assert json.loads(body) == {"name": "a/tags", "tags": ["1", "10", "A", "a", "b"]}
    found, path, pages = [], "/v2/a/tags/tags/list?n=2", 0
    while path and pages < 10:
        headers, body = await api("GET", path)
        found += json.loads(body)["tags"]
        link = headers.get("Link", "")
        path, pages = link.partition("<")[2].partition(">")[0], pages + 1
    assert found == ["1", "10", "A", "a", "b"] and pages == 3
    assert json.loads((await api("GET", "/v2/a/tags/tags/list?n=0"))[1])["tags"] == []
    assert json.loads((await api("GET", "/v2/a/tags/tags/list?last=A"))[1])["tags"] == ["a", "b"]
    await api.refused("GET", "/v2/a/tags/tags/list?n=-1", "UNSUPPORTED", 400)
    await api.refused("GET", "/v2/nobody/tags/list", "NAME_UNKNOWN", 404)


async def test_the_catalog(api: Api) -> None:
    for name in ("z", "a/b", "m"):
        await api.push(name, "1", b"x")
    assert json.loads((await api("GET", "/v2/_catalog"))[1]) == {"repositories": ["a/b", "m", "z"]}
    headers, body = await api("GET", "/v2/_catalog?n=1&last=a/b")
    assert json.loads(body) == {"repositories": ["m"]} and headers["Link"] == '</v2/_catalog?n=1&last=m>; rel="next"'


async def test_referrers(api: Api) -> None:
    subject = await api.push("a", "1", b"layer")
    target = descriptor(subject, MANIFEST)
    empty = json.loads((await api("GET", f"/v2/a/referrers/{UNKNOWN}"))[1])
    assert empty == {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    await api.push_blob("a", b"{}")
    sbom = manifest(b"{}", subject=target, artifactType="application/sbom", annotations={"k": "v"})
    headers, _ = await api("PUT", f"/v2/a/manifests/{digest_of(sbom)}", sbom, 201, Content_Type=MANIFEST)
    assert headers["OCI-Subject"] == target["digest"]
    signature = manifest(b"{}", subject=target)
    await api("PUT", "/v2/a/manifests/signature", signature, 201, Content_Type=MANIFEST)
    path = f"/v2/a/referrers/{target['digest']}"
    headers, body = await api("GET", path)
    assert headers["Content-Type"] == INDEX and "OCI-Filters-Applied" not in headers
    assert {entry["digest"]: entry["artifactType"] for entry in json.loads(body)["manifests"]} == {
        digest_of(sbom): "application/sbom",
        digest_of(signature): CONFIG,
    }
    headers, body = await api("GET", f"{path}?artifactType=application/sbom")
    assert headers["OCI-Filters-Applied"] == "artifactType"
    assert json.loads(body)["manifests"] == [
        descriptor(sbom, MANIFEST, artifactType="application/sbom", annotations={"k": "v"})
    ]
    await api("DELETE", f"/v2/a/manifests/{digest_of(sbom)}", expect=202)
    assert len(json.loads((await api("GET", path))[1])["manifests"]) == 1


async def test_a_referrer_may_come_before_its_subject(api: Api) -> None:
    await api.push_blob("a", b"{}")
    early = manifest(b"{}", subject=descriptor(b"later", MANIFEST))
    await api("PUT", "/v2/a/manifests/early", early, 201, Content_Type=MANIFEST)
    _, body = await api("GET", f"/v2/a/referrers/{digest_of(b'later')}")
    assert len(json.loads(body)["manifests"]) == 1


async def test_deleting(api: Api) -> None:
    data = await api.push("a", "1", b"layer")
    await api("PUT", "/v2/a/manifests/2", data, 201, Content_Type=MANIFEST)
    await api("DELETE", "/v2/a/manifests/2", expect=202)
    await api.refused("GET", "/v2/a/manifests/2", "MANIFEST_UNKNOWN", 404)
    await api("GET", "/v2/a/manifests/1")  # the tag's going leaves the manifest
    await api("DELETE", f"/v2/a/manifests/{digest_of(data)}", expect=202)
    await api.refused("GET", "/v2/a/manifests/1", "MANIFEST_UNKNOWN", 404)
    await api.refused("DELETE", f"/v2/a/manifests/{digest_of(data)}", "MANIFEST_UNKNOWN", 404)
    assert json.loads((await api("GET", "/v2/_catalog"))[1]) == {"repositories": []}
    await api("DELETE", f"/v2/a/blobs/{digest_of(b'layer')}", expect=202)
    await api.refused("DELETE", f"/v2/a/blobs/{digest_of(b'layer')}", "BLOB_UNKNOWN", 404)


async def test_deleting_can_be_forbidden(make_server: Callable[..., Awaitable[Running]]) -> None:
    running = await make_server(delete=False)
    async with aiohttp.ClientSession() as session:
        api = Api(running.url, session)
        data = await api.push("a", "1", b"layer")
        for reference in ("1", digest_of(data)):
            await api.refused("DELETE", f"/v2/a/manifests/{reference}", "UNSUPPORTED", 405)
        await api.refused("DELETE", f"/v2/a/blobs/{digest_of(b'layer')}", "UNSUPPORTED", 405)


async def test_garbage_goes_while_the_server_runs(
    make_server: Callable[..., Awaitable[Running]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_COLLECT_DELAY", 0.0)
    running = await make_server(grace=0.0)
    async with aiohttp.ClientSession() as session:
        api = Api(running.url, session)
        data = await api.push("a", "1", b"only here")
        await api.push("b", "1", b"shared")
        await api("POST", f"/v2/a/blobs/uploads/?mount={digest_of(b'shared')}&from=b", expect=201)
        await asyncio.sleep(0.1)  # gc spares what is newer than its clock can tell
        await api("DELETE", f"/v2/a/manifests/{digest_of(data)}", expect=202)
        for _ in range(100):
            if not running.store.blobs.has(digest_of(b"only here")):  # type: ignore[arg-type]
                break
            await asyncio.sleep(0.02)
        await api.refused("GET", f"/v2/a/blobs/{digest_of(b'only here')}", "BLOB_UNKNOWN", 404)
        await api("GET", f"/v2/b/blobs/{digest_of(b'shared')}")
        await api("GET", "/v2/b/manifests/1")
    assert not running.store.check()


async def test_a_client_that_breaks_off_in_the_middle_can_go_on(api: Api, ours: Running) -> None:
    data = os.urandom(300_000)
    location = (await api("POST", "/v2/a/blobs/uploads/", expect=202))[0]["Location"]
    host, _, port = ours.host.partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n".encode() + data[:100_000])
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    for _ in range(100):
        headers, _ = await api("GET", location, expect=204)
        if headers["Range"] != "0-0":
            break
        await asyncio.sleep(0.02)
    assert headers["Range"] == "0-99999"
    await api("PATCH", location, data[100_000:], 202, Content_Range="100000-299999")
    await api("PUT", f"{location}?digest={digest_of(data)}", expect=201)


async def test_hostile_paths_find_nothing(api: Api, ours: Running) -> None:
    host, _, port = ours.host.partition(":")
    for path in (
        "/v2/../../etc/passwd",
        "/v2/a/../b/tags/list",
        "/v2/%2e%2e/%2e%2e/manifests/x",
        "/v2/a%00/tags/list",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        status = await asyncio.wait_for(reader.readline(), 5)
        assert status.split()[1] in (b"400", b"404"), (path, status)
        writer.close()


async def test_expect_100_is_answered(api: Api, ours: Running) -> None:
    data = b"after the go-ahead"
    host, _, port = ours.host.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = f"/v2/a/blobs/uploads/?digest={digest_of(data)}"
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    )
    assert b"100 Continue" in await asyncio.wait_for(reader.readline(), 5)
    await reader.readline()
    writer.write(data)
    assert b"201" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


@pytest.mark.parametrize("last", ["../../x", "%00", "a%2Fb", "%25", "~", "*", " ", "a" * 300, "\u00fc"])
async def test_strange_places_in_lists_are_places(api: Api, last: str) -> None:
    await api.push("a/b", "tag", b"x")
    for path in ("/v2/a/b/tags/list", "/v2/_catalog"):
        _, body = await api("GET", f"{path}?last={last}")
        assert json.loads(body)
