"""Several servers on one S3 bucket, against a server that speaks S3 (moto)."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from buildtool.errors import InvalidInput
from buildtool.registry.server import sweep
from buildtool.registry.server.bucket import Bucket, StorageFailed
from buildtool.registry.server.objects import ObjectRepositories, blob_key, deleting_key, link_key
from buildtool.registry.server.rules import parse_rules
from buildtool.registry.server.verify_bucket import verify_bucket
from tests.unit.registry.conftest import Cutter, Running, Side, free_port, s3_options
from tests.unit.registry.test_copying import attach, push_index
from tests.unit.registry.test_server_api import MANIFEST, Api, digest_of, manifest

pytestmark = pytest.mark.xdist_group("s3")
Make = Callable[..., Awaitable[Running]]
IMMUTABLE = parse_rules("immutable: [{tags: ['v*']}]", "rules")


@pytest.fixture(params=["bucket", "folder_bucket"])
def any_bucket(request: pytest.FixtureRequest) -> Bucket:
    """One of S3, and a folder."""
    found: Bucket = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def balanced(
    make_server: Make, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[str, list[Running]]]:
    """Two servers on the bucket behind one address: every request goes to the other one than that before."""
    servers = [await make_server(bucket=bucket) for _ in range(2)]
    turn = itertools.cycle(servers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cutter = Cutter(next(turn).host)
        await cutter.serve(reader, writer)

    front = await asyncio.start_server(serve, "127.0.0.1", 0)
    for one in servers:  # a connection a request: the next one goes to the other
        handle = one.server.handle

        async def closing(request: Any, handle: Any = handle) -> Any:
            response = await handle(request)
            response.force_close()
            request.protocol.close()
            return response

        monkeypatch.setattr(one.server, "handle", closing)
    yield f"127.0.0.1:{front.sockets[0].getsockname()[1]}", servers
    front.close()


async def test_images_travel_through_a_bucket(
    here: Side, there: Side, make_server: Make, bucket: Bucket, tmp_path: Any
) -> None:
    """Large blobs in parts, fetched from the bucket itself by signed addresses, by several machines."""
    pusher = await make_server(bucket=bucket)
    name = f"{pusher.host}/team/app:1"
    image = here.make(name, {"big": os.urandom(20 << 20)}, {"small": b"1"})
    await here.push(name)
    assert not list((pusher.store.root / "blobs/sha256").iterdir())  # nothing stays on the server

    puller = await make_server(bucket=bucket, redirect=True)
    assert (await there.pull(f"{puller.host}/team/app:1")).id == image.id
    digest = await push_index(here, pusher.host, "team/list")
    await attach(pusher.host, "team/list", digest, "application/x.signature", tmp_path)
    async with aiohttp.ClientSession() as session, session.get(f"{puller.url}/ui/team/list/-/1") as answer:
        assert "application/x.signature" in await answer.text()


async def test_blobs_are_redirected_with_an_address_that_ends(
    here: Side, make_server: Make, bucket: Bucket, session: aiohttp.ClientSession
) -> None:
    running = await make_server(bucket=bucket, redirect=True)
    api = Api(running.url, session)
    data = os.urandom(100_000)
    await api("POST", f"/v2/a/b/blobs/uploads/?digest={digest_of(data)}", data, 201)
    headers, _ = await api("GET", f"/v2/a/b/blobs/{digest_of(data)}", expect=307)
    assert "X-Amz-Expires=1200" in headers["Location"]
    async with session.get(headers["Location"], headers={"Range": "bytes=5-9"}) as answer:
        assert await answer.read() == data[5:10]
    headers, _ = await api("HEAD", f"/v2/a/b/blobs/{digest_of(data)}")
    assert headers["Content-Length"] == "100000"


async def test_any_server_goes_on_with_an_upload(
    make_server: Make, any_bucket: Bucket, session: aiohttp.ClientSession
) -> None:
    one, two = [Api((await make_server(bucket=any_bucket)).url, session) for _ in range(2)]
    data = os.urandom(3000)
    headers, _ = await one("POST", "/v2/a/b/blobs/uploads/", b"", 202)
    place = headers["Location"]
    for api, start in ((two, 0), (one, 1000), (two, 2000)):
        headers, _ = await api(
            "PATCH", place, data[start : start + 1000], 202, Content_Range=f"{start}-{start + 999}"
        )
        assert headers["Range"] == f"0-{start + 999}"
    headers, _ = await one("GET", place, expect=204)
    assert headers["Range"] == "0-2999"
    await one("PATCH", place, b"x", 416, Content_Range="5-5")
    await one("PUT", f"{place}?digest={digest_of(data)}", b"", 201)
    await two("GET", place, expect=404)
    assert (await two("GET", f"/v2/a/b/blobs/{digest_of(data)}"))[1] == data
    assert not list(any_bucket.list("uploads"))

    headers, _ = await one("POST", "/v2/a/b/blobs/uploads/", b"", 202)
    await two("DELETE", headers["Location"], expect=204)
    await one("GET", headers["Location"], expect=404)
    await one("GET", "/v2/a/b/blobs/uploads/..%2f..", expect=404)
    assert not list(any_bucket.list("uploads"))


async def test_clients_do_not_notice_that_there_are_two_servers(
    here: Side, there: Side, balanced: tuple[str, list[Running]]
) -> None:
    host, _ = balanced
    image = here.make(f"{host}/team/app:1", {"big": os.urandom(10 << 20)}, *({"n": bytes([n])} for n in range(5)))
    await here.push(f"{host}/team/app:1")
    assert (await there.pull(f"{host}/team/app:1")).id == image.id


async def put(api: Api, tag: str, layer: bytes, expect: int = 201) -> str:
    for blob in (b"{}", layer):
        await api("POST", f"/v2/a/b/blobs/uploads/?digest={digest_of(blob)}", blob, 201)
    data = manifest(b"{}", layer)
    await api("PUT", f"/v2/a/b/manifests/{tag}", data, expect, Content_Type=MANIFEST)
    return digest_of(data)


async def test_one_of_many_gets_an_immutable_tag(
    make_server: Make, any_bucket: Bucket, session: aiohttp.ClientSession
) -> None:
    apis = [Api((await make_server(bucket=any_bucket, immutable=lambda: IMMUTABLE)).url, session) for _ in range(2)]

    async def attempt(number: int) -> int:
        api, layer = apis[number % 2], bytes([number])
        await api("POST", f"/v2/a/b/blobs/uploads/?digest={digest_of(layer)}", layer, 201)
        async with session.put(
            f"{api.url}/v2/a/b/manifests/v1", data=manifest(b"{}", layer), headers={"Content-Type": MANIFEST}
        ) as answer:
            return answer.status

    await apis[0]("POST", f"/v2/a/b/blobs/uploads/?digest={digest_of(b'{}')}", b"{}", 201)
    statuses = await asyncio.gather(*(attempt(number) for number in range(6)))
    assert sorted(statuses) == [201, *[403] * 5]
    await apis[1]("DELETE", "/v2/a/b/manifests/v1", expect=403)


async def test_garbage_goes_and_what_is_needed_stays(
    make_server: Make, any_bucket: Bucket, session: aiohttp.ClientSession
) -> None:
    running = await make_server(bucket=any_bucket, grace=0.0, untagged=0.0)
    api = Api(running.url, session)
    kept = await put(api, "kept", b"kept")
    gone = await put(api, "gone", b"gone")
    await api("DELETE", "/v2/a/b/manifests/gone", expect=202)
    assert ObjectRepositories(any_bucket).collect(0.0, 0.0) == (1, 4)
    await api("GET", f"/v2/a/b/manifests/{gone}", expect=404)
    await api("GET", f"/v2/a/b/blobs/{digest_of(b'gone')}", expect=404)
    await api("GET", f"/v2/a/b/manifests/{kept}")
    assert (await api("GET", f"/v2/a/b/blobs/{digest_of(b'kept')}"))[1] == b"kept"
    assert not list(any_bucket.list("deleting")) and not list(any_bucket.list("locks"))


async def test_collecting_meanwhile_loses_no_push(
    make_server: Make, any_bucket: Bucket, session: aiohttp.ClientSession
) -> None:
    """The same blobs are pushed, deleted and collected all the time, without any grace: what was acknowledged with
    its manifest is there."""
    apis = [Api((await make_server(bucket=any_bucket)).url, session) for _ in range(2)]
    repositories = ObjectRepositories(any_bucket)
    done = asyncio.Event()

    async def collecting() -> None:
        while not done.is_set():
            await asyncio.to_thread(repositories.collect, 0.0, None)

    async def pushing(number: int) -> None:
        api, name = apis[number % 2], f"/v2/a/r{number}"
        layer = b"shared" if number < 2 else bytes([number])
        data = manifest(b"{}", layer)
        for _ in range(4):
            status = 400
            while status == 400:  # without grace a blob may be collected before its manifest comes: begin anew
                for blob in (b"{}", layer):
                    await api("POST", f"{name}/blobs/uploads/?digest={digest_of(blob)}", blob, 201)
                async with session.put(
                    f"{api.url}{name}/manifests/1", data=data, headers={"Content-Type": MANIFEST}
                ) as answer:
                    status = answer.status
            assert status == 201
            for blob in (b"{}", layer):
                assert (await api("GET", f"{name}/blobs/{digest_of(blob)}"))[1] == blob
            await api("DELETE", f"{name}/manifests/{digest_of(data)}", expect=202)

    collector = asyncio.create_task(collecting())
    try:
        await asyncio.gather(*(pushing(number) for number in range(3)))
    finally:
        done.set()
        await collector


async def test_a_link_and_a_deletion_see_each_other(any_bucket: Bucket, make_server: Make) -> None:
    repositories = ObjectRepositories(any_bucket)
    any_bucket.write(blob_key(digest_of(b"x")), b"x")
    any_bucket.put(deleting_key(digest_of(b"x")), {})
    any_bucket.put(f"repositories/a/_blobs/{digest_of(b'x').replace(':', '/')}", {"size": 1, "pushed": 0})
    assert not repositories.mount("b", digest_of(b"x"), "a")
    any_bucket.delete(deleting_key(digest_of(b"x")))
    assert repositories.mount("b", digest_of(b"x"), "a")


async def test_only_one_collects_and_a_dead_ones_lock_is_taken(any_bucket: Bucket) -> None:
    assert sweep._lock(any_bucket) and not sweep._lock(any_bucket)
    any_bucket.put("locks/collection", {"until": 0})
    assert sweep._lock(any_bucket)


async def test_a_bucket_that_does_not_answer(make_server: Make, session: aiohttp.ClientSession) -> None:
    options = s3_options(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StorageFailed):
        await asyncio.to_thread(Bucket.open("s3://x", {**options}, retries=0).head, "names")
    running = await make_server(bucket=Bucket.open("s3://x", options, retries=0))
    api = Api(running.url, session)
    await api("GET", "/healthz")
    await api("GET", "/readyz", expect=503)
    await api("GET", "/v2/a/b/tags/list", expect=503)


def test_wrong_buckets_are_refused() -> None:
    for url, options in (
        ("x", {}),
        ("s3://", {}),
        ("gs://x", {}),
        ("file://x", {}),
        ("file:///tmp", {"region": "x"}),
        ("s3://x", {"no_such_key": "1"}),
    ):
        with pytest.raises(InvalidInput):
            Bucket.open(url, options)


async def test_damage_in_a_bucket_is_found_and_moved_aside(
    make_server: Make, any_bucket: Bucket, session: aiohttp.ClientSession
) -> None:
    api = Api((await make_server(bucket=any_bucket)).url, session)
    await put(api, "1", b"layer")
    report = verify_bucket(any_bucket)
    assert (report.blobs, report.bytes, report.manifests, report.tags, report.faults) == (2, 7, 1, 1, [])

    any_bucket.write(blob_key(digest_of(b"layer")), b"xxxxx")
    (fault,) = verify_bucket(any_bucket, quarantine=True).faults or []
    assert (fault.kind, fault.subject, fault.quarantined) == ("corrupt-blob", digest_of(b"layer"), True)
    assert any_bucket.read(f"quarantine/{digest_of(b'layer').replace(':', '/')}") == b"xxxxx"
    assert [one.kind for one in verify_bucket(any_bucket).faults or []] == ["missing-blob"]
    await put(api, "1", b"layer")
    assert verify_bucket(any_bucket).faults == []

    any_bucket.delete(link_key("a/b", digest_of(b"layer")))
    any_bucket.put("repositories/a/b/_tags/lost", {"digest": digest_of(b"?"), "tagged": 0})
    kinds = {one.kind for one in verify_bucket(any_bucket).faults or []}
    assert kinds == {"broken-manifest", "dangling-tag"}
