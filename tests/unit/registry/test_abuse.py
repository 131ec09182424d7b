"""Broken lines, killed servers and clients that lie: what is acknowledged is kept, what is not is not seen."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from buildtool.cache import Store
from buildtool.registry.server.verify import verify
from tests.unit.registry.conftest import Cutter, Running, Side, free_port
from tests.unit.registry.test_faults import ServerProcess
from tests.unit.registry.test_server_api import MANIFEST, Api, digest_of, manifest

CONFIG = b"{}"


@pytest.fixture
async def api(ours: Running) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession() as session:
        yield Api(ours.url, session)


@pytest.mark.parametrize("seed", range(4))
async def test_lines_that_break_at_any_byte_in_both_directions(
    seed: int, here: Side, there: Side, ours: Running, make_cutter: Callable[..., Awaitable[Cutter]]
) -> None:
    dice = random.Random(seed)
    cuts = [dice.randrange(1, 1 << 20) for _ in range(3)]
    up, down = await make_cutter(ours.host, "up", cuts), await make_cutter(ours.host, "down", cuts)
    image = here.make(f"{up.host}/team/app:1", {"big": os.urandom(2 << 20)}, {"mid": os.urandom(1 << 19)})
    await here.push(f"{up.host}/team/app:1")
    assert (await there.pull(f"{down.host}/team/app:1")).id == image.id
    assert up.cuts and down.cuts
    assert verify(ours.store).faults == [] and there.is_clean()
    await ours.server.uploads.expire(idle=-1.0)
    assert not ours.store.leftovers()


async def _push(session: aiohttp.ClientSession, url: str, number: int, acknowledged: set[int]) -> None:
    """One image by plain requests: a chunked upload, a whole one, the manifest."""
    name, layer = f"{url}/v2/crowd/r{number % 7}", bytes([number]) * (100_000 + number)
    async with session.post(f"{name}/blobs/uploads/?digest={digest_of(CONFIG)}", data=CONFIG) as answer:
        answer.raise_for_status()
    async with session.post(f"{name}/blobs/uploads/") as answer:
        place = url + answer.headers["Location"]
    for start in range(0, len(layer), 40_000):
        async with session.patch(place, data=layer[start : start + 40_000]) as answer:
            answer.raise_for_status()
    async with session.put(f"{place}?digest={digest_of(layer)}") as answer:
        answer.raise_for_status()
    data = manifest(CONFIG, layer)
    async with session.put(f"{name}/manifests/t{number}", data=data, headers={"Content-Type": MANIFEST}) as answer:
        answer.raise_for_status()
        acknowledged.add(number)


async def test_a_server_killed_under_fifty_pushes(tmp_path: Path) -> None:
    """Everything acknowledged is whole afterwards; whatever is visible is complete; the proof finds nothing."""
    root, port = tmp_path / "root", free_port()
    url = f"http://127.0.0.1:{port}"
    server = ServerProcess(root, port)
    acknowledged: set[int] = set()
    try:
        async with aiohttp.ClientSession() as session:
            work = [asyncio.ensure_future(_push(session, url, n, acknowledged)) for n in range(50)]
            while len(acknowledged) < 10:
                await asyncio.sleep(0.002)
            server.end(signal.SIGKILL)
            await asyncio.gather(*work, return_exceptions=True)
    finally:
        server.process.kill()
        server.process.wait()
    with Store.open(root) as store:
        assert verify(store).faults == [] and not store.leftovers()
    server = ServerProcess(root, port)
    try:
        async with aiohttp.ClientSession() as session:
            for repository in range(7):
                async with session.get(f"{url}/v2/crowd/r{repository}/tags/list") as answer:
                    tags = {int(tag[1:]) for tag in (await answer.json()).get("tags", ())}
                assert {one for one in acknowledged if one % 7 == repository} <= tags
                for number in tags:
                    async with session.get(f"{url}/v2/crowd/r{repository}/manifests/t{number}") as answer:
                        layers = json.loads(await answer.read())["layers"]
                    path = f"/v2/crowd/r{repository}/blobs/{layers[0]['digest']}"
                    async with session.get(url + path) as answer:
                        assert digest_of(await answer.read()) == layers[0]["digest"]
            await asyncio.gather(*(_push(session, url, n, acknowledged) for n in range(50)))
        assert acknowledged == set(range(50))
        assert server.end() == 0
    finally:
        server.process.kill()
        server.process.wait()


async def test_an_upload_ends_once(api: Api, ours: Running) -> None:
    """A finished, cancelled or failed upload's id is worth nothing, and neither is another's."""
    data, path = b"data", "/v2/a/b/blobs/uploads/"
    digest = digest_of(data)

    async def begin() -> str:
        return str((await api("POST", path, b"", 202))[0]["Location"])

    place = await begin()
    await api("PUT", f"{place}?digest={digest}", data, 201)
    for method, target, body in (
        ("PUT", f"{place}?digest={digest}", data),
        ("PATCH", place, b"more"),
        ("GET", place, None),
        ("DELETE", place, None),
    ):
        await api.refused(method, target, "BLOB_UPLOAD_UNKNOWN", 404, body)
    wrong = await begin()
    await api.refused("PUT", f"{wrong}?digest={digest_of(b'other')}", "DIGEST_INVALID", 400, data)
    await api.refused("PUT", f"{wrong}?digest={digest}", "BLOB_UPLOAD_UNKNOWN", 404, data)
    other = await begin()
    await api.refused("PATCH", other.replace("/a/b/", "/a/c/"), "BLOB_UPLOAD_UNKNOWN", 404, b"x")
    one, two = await asyncio.gather(
        api.session.put(f"{api.url}{other}?digest={digest}", data=data),
        api.session.put(f"{api.url}{other}?digest={digest}", data=data),
    )
    assert sorted((one.status, two.status)) == [201, 404]
    await ours.server.uploads.expire(idle=-1.0)
    assert not len(ours.server.uploads) and not ours.store.leftovers() and verify(ours.store).faults == []


async def test_lies_about_manifests_are_refused_and_leave_nothing(api: Api, ours: Running) -> None:
    await api.push_blob("a/b", CONFIG)
    good = manifest(CONFIG)
    path = "/v2/a/b/manifests"
    for reference, data, code in (
        ("1", good[:-20], "MANIFEST_INVALID"),
        ("1", b"", "MANIFEST_INVALID"),
        ("1", b"\xff\xfe" + good, "MANIFEST_INVALID"),
        ("1", good.replace(b'"size": 2', b'"size": 3'), "MANIFEST_INVALID"),
        ("1", good.replace(b'"size": 2', b'"size": -1'), "MANIFEST_INVALID"),
        ("1", manifest(CONFIG, b"nowhere"), "MANIFEST_BLOB_UNKNOWN"),
        (digest_of(b"another"), good, "DIGEST_INVALID"),
        ("1", b"[" * 200_000, "MANIFEST_INVALID"),
    ):
        await api.refused("PUT", f"{path}/{reference}", code, 400, data, Content_Type=MANIFEST)
    await api.refused("GET", "/v2/a/b/tags/list", "NAME_UNKNOWN", 404)
    assert verify(ours.store).faults == []
    await ours.server.collect()


async def test_a_manifest_that_ends_early_is_none(ours: Running, api: Api) -> None:
    """The connection breaks within the body: nothing of it is there."""
    await api.push_blob("a/b", CONFIG)
    data = manifest(CONFIG)
    host, _, port = ours.host.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT /v2/a/b/manifests/1 HTTP/1.1\r\nHost: {ours.host}\r\nContent-Type: {MANIFEST}\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:-5])
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await ours.server.drained(5)
    await api.refused("GET", "/v2/a/b/manifests/1", "MANIFEST_UNKNOWN", 404)
    del reader
