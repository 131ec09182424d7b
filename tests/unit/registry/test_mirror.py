"""A pull-through cache: another registry's repositories, kept here."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from buildtool.errors import InvalidInput, NotFound
from buildtool.registry import RegistryConfig
from buildtool.registry.errors import RegistryRefused
from buildtool.registry.server.metrics import Metrics
from buildtool.registry.server.mirror import Mirror, Upstream
from buildtool.registry.server.verify import verify
from buildtool.registry.transport import Transport
from tests.unit.registry.conftest import QUICK, Cutter, Running, Side
from tests.unit.registry.test_copying import push_index

Make = Callable[..., Awaitable[Running]]


@pytest.fixture
def make_mirror(make_server: Callable[..., Awaitable[Running]]) -> Make:
    """`await make_mirror(host, prefix="hub", ttl=…)` starts a server that caches another one."""

    async def make(host: str, prefix: str = "hub", ttl: float = 300.0, **settings: Any) -> Running:
        metrics = Metrics()
        mirror = Mirror([Upstream(prefix, host)], Transport(RegistryConfig(), QUICK), ttl=ttl, metrics=metrics)
        return await make_server(mirror=mirror, metrics=metrics, **settings)

    return make


def outcomes(running: Running) -> dict[str, float]:
    """How requests to mirrored repositories went."""
    metrics = running.server.settings.metrics
    assert metrics is not None
    found: Counter[str] = Counter()
    for family in metrics.mirror.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                found[sample.labels["outcome"]] += int(sample.value)
    return dict(found)


async def cut_off(mirror: Running, front: Cutter) -> None:
    """Nobody answers at the other registry's address any more."""
    front.upstream = "127.0.0.1:9"
    assert mirror.server.mirror is not None
    await mirror.server.mirror._transport.close()


async def test_what_is_pulled_comes_through_and_stays(
    here: Side, there: Side, ours: Running, make_mirror: Make, make_cutter: Callable[..., Awaitable[Cutter]]
) -> None:
    """The second pull does not need the other registry at all."""
    image = here.make(f"{ours.host}/a/app:1", {"a": os.urandom(2 << 20)}, {"b": b"2"})
    await here.push(f"{ours.host}/a/app:1")
    front = await make_cutter(ours.host, "down", [])
    mirror = await make_mirror(front.host)

    assert (await there.pull(f"{mirror.host}/hub/a/app:1")).id == image.id
    await cut_off(mirror, front)
    assert (await here.pull(f"{mirror.host}/hub/a/app:1")).id == image.id
    assert verify(mirror.store).faults == []
    await mirror.server.collect()
    async with aiohttp.ClientSession() as session, session.get(f"{mirror.url}/v2/_catalog") as answer:
        assert await answer.json() == {"repositories": ["hub/a/app"]}


async def test_a_tag_is_asked_for_again_after_its_time(
    here: Side, there: Side, ours: Running, make_mirror: Make
) -> None:
    fresh, stale = await make_mirror(ours.host, ttl=300.0), await make_mirror(ours.host, ttl=0.0)
    old = here.make(f"{ours.host}/a/app:1", {"a": b"1"})
    await here.push(f"{ours.host}/a/app:1")
    for one in (fresh, stale):
        assert (await there.pull(f"{one.host}/hub/a/app:1")).id == old.id
    new = here.make(f"{ours.host}/a/app:1", {"a": b"2"})
    await here.push(f"{ours.host}/a/app:1")
    assert (await there.pull(f"{fresh.host}/hub/a/app:1")).id == old.id
    assert (await there.pull(f"{stale.host}/hub/a/app:1")).id == new.id
    await there.pull(f"{stale.host}/hub/a/app:1")
    assert outcomes(stale)["revalidated"] >= 1


async def test_the_old_is_served_while_the_other_registry_is_down(
    here: Side, there: Side, ours: Running, make_mirror: Make, make_cutter: Callable[..., Awaitable[Cutter]]
) -> None:
    image = here.make(f"{ours.host}/a/app:1", {"a": b"1"})
    await here.push(f"{ours.host}/a/app:1")
    front = await make_cutter(ours.host, "down", [])
    mirror = await make_mirror(front.host, ttl=0.0)
    await there.pull(f"{mirror.host}/hub/a/app:1")

    await cut_off(mirror, front)
    assert (await here.pull(f"{mirror.host}/hub/a/app:1")).id == image.id
    assert outcomes(mirror)["stale"] >= 1
    with pytest.raises(RegistryRefused):
        await here.pull(f"{mirror.host}/hub/a/other:1")


async def test_many_who_want_the_same_cause_one_fetch(
    here: Side, ours: Running, make_side: Callable[..., Side], make_mirror: Make
) -> None:
    here.make(f"{ours.host}/a/app:1", {"a": os.urandom(3 << 20)})
    await here.push(f"{ours.host}/a/app:1")
    mirror = await make_mirror(ours.host)
    asked: Counter[str] = Counter()
    handle = ours.server._route

    async def count(request: Any, told: Any) -> Any:
        if request.method == "GET" and "/blobs/" in request.path:
            asked[request.path] += 1
        return await handle(request, told)

    ours.server._route = count  # type: ignore[method-assign]
    sides = [make_side(f"puller{number}") for number in range(4)]
    await asyncio.gather(*(side.pull(f"{mirror.host}/hub/a/app:1") for side in sides))
    assert asked and set(asked.values()) == {1}


async def test_a_fetch_that_breaks_goes_on_and_a_lie_is_not_kept(
    here: Side, there: Side, ours: Running, make_mirror: Make, make_cutter: Callable[..., Awaitable[Cutter]]
) -> None:
    image = here.make(f"{ours.host}/a/app:1", {"a": os.urandom(3 << 20)})
    await here.push(f"{ours.host}/a/app:1")
    front = await make_cutter(ours.host, "down", [1 << 20, 1 << 19])
    mirror = await make_mirror(front.host)
    assert (await there.pull(f"{mirror.host}/hub/a/app:1")).id == image.id
    assert front.cuts == 2

    digest = max(ours.store.blobs.list(), key=ours.store.blobs.size)
    path = ours.store.blobs.path(digest)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    other = await make_mirror(ours.host)
    with pytest.raises(Exception):  # noqa: B017 - as a break, or as the digest that does not fit
        await read_layers(other)
    assert not other.store.blobs.has(digest) and verify(other.store).faults == []


async def read_layers(mirror: Running) -> None:
    """Every layer, whole."""
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        async with session.get(f"{mirror.url}/v2/hub/a/app/manifests/1") as answer:
            layers = (await answer.json(content_type=None))["layers"]
        for layer in layers:
            async with session.get(f"{mirror.url}/v2/hub/a/app/blobs/{layer['digest']}") as answer:
                await answer.read()


async def test_indexes_ranges_lists_and_refusals(here: Side, there: Side, ours: Running, make_mirror: Make) -> None:
    digest = await push_index(here, ours.host, "a/app")
    mirror = await make_mirror(ours.host)
    await there.pull(f"{mirror.host}/hub/a/app:1")
    async with aiohttp.ClientSession() as session:

        async def get(path: str, **headers: str) -> tuple[int, bytes]:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            async with session.get(mirror.url + path, headers=fields) as answer:
                return answer.status, await answer.read()

        assert (await get(f"/v2/hub/a/app/manifests/{digest}"))[0] == 200
        assert b'["1","amd64","arm64"]' in (await get("/v2/hub/a/app/tags/list"))[1]
        assert b'["amd64"]' in (await get("/v2/hub/a/app/tags/list?n=1&last=1"))[1]
        assert (await get(f"/v2/hub/a/app/referrers/{digest}"))[0] == 200
        assert (await get("/v2/hub/a/none/tags/list"))[0] == 404
        assert (await get("/v2/hub/a/app/manifests/none"))[0] == 404
        assert (await get(f"/v2/hub/a/app/blobs/sha256:{'0' * 64}"))[0] == 404
        layer = max(ours.store.blobs.list(), key=ours.store.blobs.size)
        status, part = await get(f"/v2/hub/a/app/blobs/{layer}", Range="bytes=1-3")
        assert (status, part) == (206, ours.store.blobs.read(layer)[1:4])
        async with session.post(f"{mirror.url}/v2/hub/a/app/blobs/uploads/") as answer:
            assert answer.status == 405
        async with session.post(f"{mirror.url}/v2/own/app/blobs/uploads/") as answer:
            assert answer.status == 202
    with pytest.raises(NotFound):
        await there.pull(f"{mirror.host}/hub/a/none:1")


@pytest.mark.parametrize(
    ("prefix", "domain", "name", "path"),
    [
        ("", "docker.io", "busybox", "library/busybox"),
        ("hub", "docker.io", "hub/busybox", "library/busybox"),
        ("hub", "docker.io", "hub/a/b", "a/b"),
        ("hub", "docker.io", "hubs/a", None),
        ("quay", "quay.io", "quay/a", "a"),
        ("", "quay.io", "a/b", "a/b"),
    ],
)
def test_names_here_and_there(prefix: str, domain: str, name: str, path: str | None) -> None:
    assert Upstream(prefix, domain).path(name) == path


async def test_our_client_asks_mirrors_of_any_registry_first(
    here: Side, ours: Running, make_mirror: Make, make_side: Callable[..., Side]
) -> None:
    """A cache with prefixes in front of several registries; one that does not answer is passed over."""
    image = here.make(f"{ours.host}/a/app:1", {"a": b"1"})
    await here.push(f"{ours.host}/a/app:1")
    mirror = await make_mirror(ours.host, prefix="cache/other")
    config = RegistryConfig(mirrors_for={ours.host: ("127.0.0.1:9/x", f"{mirror.host}/cache/other")})
    side = make_side("mirrored", config)
    assert (await side.pull(f"{ours.host}/a/app:1")).id == image.id
    assert outcomes(mirror)["miss"] >= 1
    with pytest.raises(NotFound):
        await side.pull(f"{ours.host}/a/none:1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"mirrors": []}', "mirrors is not an object"),
        ('{"mirrors": {"quay.io": "x"}}', "quay.io is not a list of strings"),
        ('{"mirrors": {"quay.io": ["https://x"]}}', "is not HOST"),
        ('{"mirrors": {"quay.io": ["/x"]}}', "is not HOST"),
    ],
)
def test_wrong_mirrors_are_told(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "daemon.json").write_text(text)
    monkeypatch.setenv("BUILDTOOL_CONFIG_DIR", str(tmp_path))
    with pytest.raises(InvalidInput, match=said):
        RegistryConfig.load()
    (tmp_path / "daemon.json").write_text('{"mirrors": {"quay.io": ["cache.lan:5000/quay/"]}}')
    assert RegistryConfig.load().mirrors_of("quay.io") == ("cache.lan:5000/quay",)


async def test_what_nobody_pulls_is_not_kept_for_ever(
    here: Side, there: Side, ours: Running, make_mirror: Make, make_side: Callable[..., Side]
) -> None:
    """What is pulled stays, what was pushed here does, and what is deleted can be pulled again."""
    mirror = await make_mirror(ours.host, mirror_keep=1000.0, grace=0.0)
    for name in ("old", "new"):
        here.make(f"{ours.host}/a/{name}:1", {"a": name.encode()})
        await here.push(f"{ours.host}/a/{name}:1")
        await there.pull(f"{mirror.host}/hub/a/{name}:1")
    here.make(f"{mirror.host}/own:1", {"a": b"own"})
    await here.push(f"{mirror.host}/own:1")
    local = mirror.server.local
    assert local is not None
    for name in ("hub/a/old", "hub/a/new", "own"):
        manifests = mirror.store.state.documents(f"registry-manifests:{name}")
        for digest, document in list(manifests.items()):
            manifests.put(digest, {**document, "pushed": document["pushed"] - 2000})
    await there.pull(f"{mirror.host}/hub/a/new:1")

    before = len(list(mirror.store.blobs.list()))
    await mirror.server.collect()
    assert local.repositories("", 10) == ["hub/a/new", "own"]
    assert len(list(mirror.store.blobs.list())) < before and verify(mirror.store).faults == []
    assert await make_side("late").pull(f"{mirror.host}/hub/a/old:1")
