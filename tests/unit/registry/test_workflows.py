"""What the specification's own conformance program does in its four workflows, and its kinds of content.

The program itself is written in Go and cannot be had here; each of its steps is a line here, with the strict
expectation where it allows several. Source: opencontainers/distribution-spec, conformance/.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.unit.registry.conftest import Running
from tests.unit.registry.test_server_api import CONFIG, INDEX, LAYER, MANIFEST, Api, descriptor, digest_of, manifest

EMPTY = "application/vnd.oci.empty.v1+json"
KIND = "application/vnd.example.kind"
ABSENT = digest_of(b"nobody has this")


def changed(document: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(document) | fields).encode()


@pytest.fixture(params=["files", "folder_bucket"])
async def api(request: pytest.FixtureRequest, make_server: Callable[..., Awaitable[Running]]) -> AsyncIterator[Api]:
    bucket = None if request.param == "files" else request.getfixturevalue(request.param)
    running = await make_server(bucket=bucket)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Api(running.url, session)


async def test_pull(api: Api) -> None:
    data = await api.push("w", "tag", b"layer")
    blob, digest = digest_of(b"layer"), digest_of(data)

    for method in ("HEAD", "GET"):
        await api(method, f"/v2/w/blobs/{ABSENT}", expect=404)
        headers, body = await api(method, f"/v2/w/blobs/{blob}")
        assert headers["Docker-Content-Digest"] == blob and body == (b"" if method == "HEAD" else b"layer")
        await api(method, "/v2/w/manifests/.INVALID_MANIFEST_NAME", expect=404)
        for reference in ("tag", digest):
            headers, body = await api(method, f"/v2/w/manifests/{reference}", Accept=MANIFEST)
            assert headers["Docker-Content-Digest"] == digest and body == (b"" if method == "HEAD" else data)
    _, body = await api("PUT", "/v2/w/manifests/sha256:totallywrong", b"blablabla", 400, Content_Type=MANIFEST)
    assert json.loads(body)["errors"][0]["code"] == "MANIFEST_INVALID"
    await api("DELETE", f"/v2/w/manifests/{digest}", expect=202)
    await api("DELETE", f"/v2/w/blobs/{blob}", expect=202)


async def test_push_blobs(api: Api) -> None:
    streamed, whole, chunked = os.urandom(42), os.urandom(42), os.urandom(42)

    location = (await api("POST", "/v2/w/blobs/uploads/", expect=202))[0]["Location"]
    headers, _ = await api("PATCH", location, streamed, 202, Content_Type="application/octet-stream")
    headers, _ = await api("PUT", f"{headers['Location']}?digest={digest_of(streamed)}", b"", 201)
    assert headers["Location"]

    await api("GET", f"/v2/w/blobs/{ABSENT}", expect=404)
    headers, _ = await api("POST", f"/v2/w/blobs/uploads/?digest={digest_of(whole)}", whole, 201)
    await api("GET", headers["Location"])
    location = (await api("POST", "/v2/w/blobs/uploads/", expect=202))[0]["Location"]
    headers, _ = await api("PUT", f"{location}?digest={digest_of(whole)}", whole, 201)
    assert (await api("GET", headers["Location"]))[1] == whole

    location = (await api("POST", "/v2/w/blobs/uploads/", b"", 202, Content_Length="0"))[0]["Location"]
    await api("PATCH", location, chunked[3:], 416, Content_Range="3-41")
    location = (await api("POST", "/v2/w/blobs/uploads/", b"", 202, Content_Length="0"))[0]["Location"]
    headers, _ = await api("PATCH", location, chunked[:3], 202, Content_Range="0-2")
    await api("PATCH", headers["Location"], chunked[:3], 416, Content_Range="0-2")  # sent again
    headers, _ = await api("GET", location, expect=204)  # at the first, stale location, too
    assert headers["Range"] == "0-2"
    headers, _ = await api(
        "PUT", f"{headers['Location']}?digest={digest_of(chunked)}", chunked[3:], 201, Content_Range="3-41"
    )
    assert (await api("GET", headers["Location"]))[1] == chunked

    mount = "/v2/other/blobs/uploads/?mount="
    headers, _ = await api("POST", f"{mount}{digest_of(whole)}&from=w", expect=201)
    await api("GET", headers["Location"])
    for question in (f"{ABSENT}&from=w", digest_of(streamed)):  # without `from` nothing is looked for
        headers, _ = await api("POST", f"{mount}{question}", expect=202)
        assert "/v2/other/blobs/uploads/" in headers["Location"]
    location = (await api("POST", "/v2/w/blobs/uploads/", expect=202))[0]["Location"]
    await api("DELETE", location, expect=204)
    await api("GET", location, expect=404)


async def test_push_manifests(api: Api) -> None:
    await api("GET", "/v2/w/manifests/.INVALID_MANIFEST_NAME", expect=404)
    data = await api.push("w", "test0", b"layer")
    for number in range(1, 4):
        headers, _ = await api("PUT", f"/v2/w/manifests/test{number}", data, 201, Content_Type=MANIFEST)
        assert headers["Location"]
    empty = manifest(json.dumps({"name": "w", "tag": "test0"}).encode())
    await api("PUT", "/v2/w/manifests/emptylayer", empty, 201, Content_Type=MANIFEST)
    await api("GET", f"/v2/w/manifests/{digest_of(data)}", Accept=MANIFEST)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_push_blobs_of_another_digest(api: Api, algorithm: str) -> None:
    """In each way of sending one."""
    data, digest = b"oh no", digest_of(b"something else", algorithm)
    await api.refused("POST", f"/v2/w/blobs/uploads/?digest={digest}", "DIGEST_INVALID", 400, data)
    for chunks in ([], [data], [data[:2], data[2:]]):
        location = (await api("POST", "/v2/w/blobs/uploads/", expect=202))[0]["Location"]
        for chunk in chunks:
            location = (await api("PATCH", location, chunk, 202))[0]["Location"]
        await api.refused("PUT", f"{location}?digest={digest}", "DIGEST_INVALID", 400, b"" if chunks else data)
    for wanted in (digest, digest_of(data, algorithm)):
        await api("HEAD", f"/v2/w/blobs/{wanted}", expect=404)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_pull_ranges(api: Api, algorithm: str) -> None:
    data = os.urandom(2048)
    digest = digest_of(data, algorithm)
    await api("POST", f"/v2/w/blobs/uploads/?digest={digest}", data, 201)
    for wanted, start, end in (("500-1499", 500, 1500), ("500-", 500, 2048), ("-500", 1548, 2048)):
        headers, body = await api("GET", f"/v2/w/blobs/{digest}", expect=206, Range=f"bytes={wanted}")
        assert body == data[start:end] and headers["Content-Length"] == str(end - start)
        assert headers["Content-Range"] == f"bytes {start}-{end - 1}/2048"
    _, body = await api("GET", f"/v2/w/blobs/{digest}", expect=206, Range="bytes=2000-5000")
    assert body == data[2000:]
    await api("GET", f"/v2/w/blobs/{digest}", expect=416, Range="bytes=5000-10000")
    for blob in (b"", b"{}"):
        own = digest_of(blob, algorithm)
        await api("POST", f"/v2/w/blobs/uploads/?digest={own}", blob, 201)
        assert (await api("GET", f"/v2/w/blobs/{own}"))[1] == blob


async def test_content_discovery(api: Api) -> None:
    data = await api.push("w", "test0", b"layer")
    for number in range(1, 4):
        await api("PUT", f"/v2/w/manifests/test{number}", data, 201, Content_Type=MANIFEST)
    tags = ["test0", "test1", "test2", "test3"]
    assert json.loads((await api("GET", "/v2/w/tags/list"))[1]) == {"name": "w", "tags": tags}
    assert json.loads((await api("GET", "/v2/w/tags/list?n=2"))[1])["tags"] == tags[:2]
    assert json.loads((await api("GET", "/v2/w/tags/list?n=2&last=test1"))[1])["tags"] == tags[2:]

    subject, missing = descriptor(data, MANIFEST), descriptor(b"missing", MANIFEST)
    await api.push_blob("w", b"{}")
    await api.push_blob("w", b"artifact")
    artifact = [descriptor(b"artifact", LAYER)]
    config = {**descriptor(b"{}", KIND + ".config")}
    pushed = {
        "by its config": changed(manifest(b"{}"), config=config, subject=subject, annotations={"k": "1"}),
        "by its type": manifest(b"{}", artifactType=KIND + ".a", subject=subject, annotations={"k": "2"}),
        "with a layer": manifest(
            b"{}", artifactType=KIND + ".b", layers=artifact, subject=subject, annotations={"k": "3"}
        ),
    }
    early = manifest(b"{}", artifactType=KIND + ".c", subject=missing)
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX, "artifactType": KIND + ".i", "manifests": [], "subject": subject}
    ).encode()
    for document in (*pushed.values(), early, index):
        kind = INDEX if document is index else MANIFEST
        headers, _ = await api("PUT", f"/v2/w/manifests/{digest_of(document)}", document, 201, Content_Type=kind)
        assert headers["OCI-Subject"] == (missing if document is early else subject)["digest"]

    async def referrers(digest: str, question: str = "") -> tuple[Any, list[dict[str, Any]]]:
        headers, body = await api("GET", f"/v2/w/referrers/{digest}{question}")
        assert headers["Content-Type"] == INDEX
        return headers, json.loads(body)["manifests"]

    assert (await referrers(ABSENT))[1] == []
    assert [one["digest"] for one in (await referrers(missing["digest"]))[1]] == [digest_of(early)]
    _, found = await referrers(subject["digest"])
    assert {one["artifactType"] for one in found} == {KIND + end for end in (".config", ".a", ".b", ".i")}
    assert {one["annotations"]["k"] for one in found if "annotations" in one} == {"1", "2", "3"}
    headers, found = await referrers(subject["digest"], f"?artifactType={KIND}.a")
    assert headers["OCI-Filters-Applied"] == "artifactType"
    assert [one["digest"] for one in found] == [digest_of(pushed["by its type"])]


async def test_content_management(api: Api) -> None:
    data = await api.push("w", "tagtest0", b"layer")
    await api("PUT", "/v2/w/manifests/stays", manifest(b"{}"), 400, Content_Type=MANIFEST)
    await api("DELETE", "/v2/w/manifests/tagtest0", expect=202)
    await api("GET", "/v2/w/manifests/tagtest0", expect=404)
    await api("DELETE", f"/v2/w/manifests/{digest_of(data)}", expect=202)
    await api("GET", f"/v2/w/manifests/{digest_of(data)}", expect=404)
    await api("GET", "/v2/w/tags/list", expect=404)
    await api("DELETE", f"/v2/w/blobs/{digest_of(b'layer')}", expect=202)
    for method in ("HEAD", "GET", "DELETE"):
        await api(method, f"/v2/w/blobs/{digest_of(b'layer')}", expect=404)


def _contents() -> dict[str, list[tuple[str, bytes]]]:
    """Manifests of every kind the program knows, with their types, in the order they are pushed in."""
    config, layer = b"{}", b"layer"

    def index(*entries: bytes, kind: str = MANIFEST, **more: Any) -> tuple[str, bytes]:
        listed = [descriptor(entry, kind) for entry in entries]
        return INDEX, json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed, **more}).encode()

    image = manifest(config, layer)
    other = manifest(config, layer, annotations={"other": "platform"})
    inner = index(image, other)
    artifact = manifest(config, artifactType=KIND, layers=[descriptor(b"{}", EMPTY)])
    foreign = descriptor(b"far", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", urls=["https://x/"])
    return {
        "image": [(MANIFEST, image)],
        "uncompressed": [(MANIFEST, manifest(config, layers=[descriptor(layer, LAYER.removesuffix("+gzip"))]))],
        "large": [(MANIFEST, manifest(config, annotations={f"a{n}": "A" * 10_000 for n in range(390)}))],
        "index": [(MANIFEST, image), (MANIFEST, other), inner],
        "nested index": [(MANIFEST, image), (MANIFEST, other), inner, index(inner[1], kind=INDEX)],
        "empty index": [index()],
        "artifact": [(MANIFEST, artifact)],
        "artifact index": [(MANIFEST, artifact), index(artifact, artifactType=KIND)],
        "data field": [(MANIFEST, changed(manifest(config), config=descriptor(config, CONFIG) | {"data": "e30="}))],
        "layers of others": [(MANIFEST, manifest(config, layers=[foreign, descriptor(layer, LAYER)]))],
        "fields of nobody": [(MANIFEST, manifest(config, layer, **{"org.example": {"a": [1, None]}}))],
        "no layers": [(MANIFEST, manifest(config))],
    }


@pytest.mark.parametrize("kind", list(_contents()))
async def test_every_kind_of_content_comes_and_goes(api: Api, kind: str) -> None:
    """Pushed by digest and by tag, listed, looked for, pulled byte for byte, deleted."""
    for blob in (b"{}", b"layer"):
        await api.push_blob("w", blob)
    documents = _contents()[kind]
    for media_type, data in documents:
        for reference in (digest_of(data), "tag"):
            headers, _ = await api("PUT", f"/v2/w/manifests/{reference}", data, 201, Content_Type=media_type)
            assert headers["Docker-Content-Digest"] == digest_of(data)
    assert json.loads((await api("GET", "/v2/w/tags/list"))[1])["tags"] == ["tag"]
    for media_type, data in documents:
        headers, body = await api("GET", f"/v2/w/manifests/{digest_of(data)}")
        assert body == data and headers["Content-Type"] == media_type
        headers, _ = await api("HEAD", f"/v2/w/manifests/{digest_of(data)}")
        assert headers["Content-Length"] == str(len(data))
    assert (await api("GET", "/v2/w/manifests/tag"))[1] == documents[-1][1]
    await api("DELETE", "/v2/w/manifests/tag", expect=202)
    for _, data in reversed(documents):
        await api("DELETE", f"/v2/w/manifests/{digest_of(data)}", expect=202)
        await api("HEAD", f"/v2/w/manifests/{digest_of(data)}", expect=404)
