"""What the distribution specification asks of clients, where no other test is about it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from buildtool.errors import Corrupt
from buildtool.oci import Descriptor, Index, Manifest, encode, media_types, sha256
from buildtool.registry.errors import RegistryRefused
from buildtool.registry.notices import notices
from buildtool.registry.referrers import fallback_tag, referrers
from buildtool.registry.uploads import upload
from tests.unit.registry.conftest import Side
from tests.unit.registry.liar import LAYER_BYTES, Liar
from tests.unit.registry.test_copying import opened

SUBJECT = Descriptor(media_types.MANIFEST, sha256(b"subject"), 7)


@pytest.fixture
async def old() -> AsyncIterator[Liar]:
    """A registry of the time before the referrers API: it stores manifests and knows nothing of subjects."""
    liar = Liar()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "PUT":
            liar.paths[request.path] = await request.read()
            return web.Response(status=201)
        return await liar.handle(request)

    server = web.Server(handle)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    liar.host = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield liar
    listening.close()
    await server.shutdown(0.1)


def _listed(old: Liar, subject: Descriptor = SUBJECT) -> Index:
    import msgspec

    return msgspec.json.decode(old.paths[f"/v2/a/manifests/{fallback_tag(subject.digest)}"], type=Index)


async def test_push_to_an_old_registry_enters_the_fallback_tag(old: Liar) -> None:
    """From an empty index on; no entry twice; artifactType and annotations of the manifest, or the config's type."""
    config = Descriptor("application/x.config", sha256(b"{}"), 2)
    typed = Manifest(2, media_types.MANIFEST, config, [], "application/x", SUBJECT, {"k": "v"})
    plain = Manifest(2, media_types.MANIFEST, config, [], subject=SUBJECT)
    async with opened(old.host, "a") as repository:
        for document in (typed, typed, plain):
            data = encode(document)
            await repository.put_manifest(sha256(data), data, media_types.MANIFEST)
        first, second = _listed(old).manifests
        assert (first.digest, first.artifact_type) == (sha256(encode(typed)), "application/x")
        assert first.annotations == {"k": "v"} and second.annotations is None
        assert second.artifact_type == "application/x.config"
        assert await referrers(repository, SUBJECT.digest) == [first, second]
        assert await referrers(repository, SUBJECT.digest, "application/x") == [first]


async def test_a_fallback_tag_that_is_something_else_is_left_alone(old: Liar) -> None:
    """ "If that pull returns a manifest other than the expected image index, the client SHOULD report a failure"."""
    path = f"/v2/a/manifests/{fallback_tag(SUBJECT.digest)}"
    config = Descriptor(media_types.CONFIG, sha256(b"{}"), 2)
    for content in (encode(Manifest(2, media_types.MANIFEST, config, [])), b"no JSON"):
        old.paths[path] = content
        data = encode(Manifest(2, media_types.MANIFEST, config, [], subject=SUBJECT))
        async with opened(old.host, "a") as repository:
            with pytest.raises(RegistryRefused, match="is no index"):
                await repository.put_manifest(sha256(data), data, media_types.MANIFEST)
            assert await referrers(repository, SUBJECT.digest) == []
        assert old.paths[path] == content


async def test_a_manifest_of_another_type_than_its_content_type_is_rejected(there: Side, liar: Liar) -> None:
    """Parameters of the Content-Type are ignored; one that names no kind of manifest says nothing."""
    liar.serve("x", LAYER_BYTES)
    path = "/v2/x/manifests/1"
    data = liar.paths[path]

    def as_type(content_type: str) -> None:
        async def answer(request: web.BaseRequest) -> web.Response:
            return web.Response(body=data, headers={"Content-Type": content_type})

        liar.paths[path] = answer

    for wrong in (media_types.INDEX, media_types.DOCKER_MANIFEST):
        as_type(wrong)
        with pytest.raises(Corrupt, match="the registry says that the manifest is a"):
            await there.pull(f"{liar.host}/x:1")
    for right in (f"{media_types.MANIFEST}; charset=utf-8", "application/json", "application/octet-stream"):
        as_type(right)
        await there.pull(f"{liar.host}/x:1")


async def test_a_registrys_warnings_are_told_once_each(here: Side, liar: Liar) -> None:
    liar.serve("x", LAYER_BYTES)
    data = liar.paths["/v2/x/manifests/1"]

    def warning(path: str, *texts: str) -> None:
        data = liar.paths[path]

        async def answer(request: web.BaseRequest) -> web.Response:
            response = web.Response(body=data)
            for text in texts:
                response.headers.add("Warning", text)
            return response

        liar.paths[path] = answer

    config = json.loads(data)["config"]["digest"]
    warning("/v2/x/manifests/1", '299 - "Going away \\"soon\\"."', '299 - "Twice."', '110 - "not ours"')
    warning(f"/v2/x/blobs/{config}", '299 - "Twice."')
    await here.pull(f"{liar.host}/x:1")
    told = [line["status"] for line in here.told if "Warning" in line["status"]]
    assert told == [f'Warning from {liar.host}: Going away "soon".', f"Warning from {liar.host}: Twice."]


def test_warnings_are_read_within_bounds() -> None:
    assert notices(['299 - "a", 299 - "b\x1b[2J"', "nonsense", '299 - "']) == ["a", "b [2J"]
    assert len(notices([f'299 - "{"x" * 100}"'] * 100)) < 40


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("size", [1000, 9 << 20])
async def test_an_uploads_location_is_used_as_it_is(absolute: bool, size: int, tmp_path: Path) -> None:
    """Relative or absolute, anywhere, with a query of its own; the latest one counts."""
    data = os.urandom(size)
    calls: list[tuple[str, str]] = []
    host = ""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        calls.append((request.method, request.path_qs))
        body = b"".join([chunk async for chunk in request.content.iter_any()])
        if request.path == "/v2/":
            return web.Response(text="{}")
        where = f"/elsewhere/{len(calls)}?_state=a%2Fb%3D&n={len(calls)}"
        headers = {"Location": f"http://{host}{where}" if absolute else where}
        if request.method == "POST":
            return web.Response(status=202, headers=headers)
        if request.method == "PATCH":
            return web.Response(status=202, headers=headers | {"Range": f"0-{len(body) - 1}"})
        return web.Response(status=201 if request.method == "PUT" else 404, headers={"Location": "/there"})

    server = web.Server(handle)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    host = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    (tmp_path / "blob").write_bytes(data)
    async with opened(host, "a") as repository:
        await upload(repository, tmp_path / "blob", sha256(data), lambda _: None)
    listening.close()
    await server.shutdown(0.1)
    sent = [call for call in calls if call[1] != "/v2/"]
    assert [method for method, _ in sent] == (["POST", "PUT"] if size == 1000 else ["POST", "PATCH", "PUT"])
    digest = sha256(data)
    for before, (_, path) in enumerate(sent[1:], len(calls) - len(sent) + 1):
        assert path.partition("&digest=")[0] == f"/elsewhere/{before}?_state=a%2Fb%3D&n={before}"
    assert sent[-1][1].endswith(f"&digest={digest}")


async def test_a_manifest_is_pushed_under_its_own_type_and_its_digest_is_verified(liar: Liar) -> None:
    seen: list[str] = []

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        seen.append(request.headers["Content-Type"])
        return web.Response(status=201, headers={"Docker-Content-Digest": SUBJECT.digest})

    liar.paths["/v2/a/manifests/1"] = take
    async with opened(liar.host, "a") as repository:
        with pytest.raises(Corrupt, match="the registry stored"):
            await repository.put_manifest("1", b"{}", media_types.INDEX)
    assert seen == [media_types.INDEX]


async def test_lists_are_read_to_their_last_page(liar: Liar) -> None:
    def pages(path: str, *bodies: object) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            number = int(request.query.get("page", "0"))
            more = number + 1 < len(bodies)
            link = {"Link": f'<{path}?page={number + 1}>; rel="next"'} if more else {}
            return web.json_response(bodies[number], headers=link)

        liar.paths[path] = answer

    def index(*names: bytes) -> dict[str, object]:
        listed = [{"mediaType": media_types.MANIFEST, "digest": sha256(name), "size": 1} for name in names]
        return {"schemaVersion": 2, "mediaType": media_types.INDEX, "manifests": listed}

    pages("/v2/a/tags/list", {"tags": ["1", "2"]}, {"tags": ["3"]}, {"tags": ["4"]})
    pages(f"/v2/a/referrers/{SUBJECT.digest}", index(b"1", b"2"), index(b"3"))
    async with opened(liar.host, "a") as repository:
        assert await repository.tags() == ["1", "2", "3", "4"]
        found = await referrers(repository, SUBJECT.digest)
    assert [one.digest for one in found] == [sha256(name) for name in (b"1", b"2", b"3")]
