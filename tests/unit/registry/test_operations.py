"""Running a server: health, draining, limits, audit log, figures, immutable tags, garbage, proof of what it keeps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from buildtool.cache import Store
from buildtool.oci import Digest
from buildtool.registry.server.access import Guarded
from buildtool.registry.server.audit import Audit
from buildtool.registry.server.limits import RateLimit
from buildtool.registry.server.metrics import Metrics
from buildtool.registry.server.rules import parse_rules
from buildtool.registry.server.verify import verify
from tests.unit.registry.conftest import Running, Side
from tests.unit.registry.test_server_api import (
    INDEX,
    MANIFEST,
    Api,
    descriptor,
    digest_of,
    manifest,
)

IMMUTABLE = parse_rules("immutable: [{repositories: [team/**], tags: ['v*']}]", "rules")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


Start = Callable[..., Awaitable[tuple[Running, Api]]]


@pytest.fixture
def start(make_server: Callable[..., Awaitable[Running]], session: aiohttp.ClientSession) -> Start:
    async def make(**settings: Any) -> tuple[Running, Api]:
        running = await make_server(**settings)
        return running, Api(running.url, session)

    return make


async def put(api: Api, name: str, tag: str, *layers: bytes, expect: int = 201) -> str:
    """Push an image of these layers; its digest."""
    for blob in (b"{}", *layers):
        await api("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(blob)}", blob, 201)
    data = manifest(b"{}", *layers)
    await api("PUT", f"/v2/{name}/manifests/{tag}", data, expect, Content_Type=MANIFEST)
    return digest_of(data)


async def test_health_and_readiness(start: Start) -> None:
    running, api = await start()
    for path in ("/healthz", "/readyz"):
        assert (await api("GET", path))[1] == b"ok\n"
    running.server.draining = True
    await api("GET", "/healthz")
    await api("GET", "/readyz", expect=503)


async def test_a_server_whose_storage_fails_is_not_ready(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running, api = await start()

    def broken(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(running.server.content, "repositories", broken)
    assert b"storage" in (await api("GET", "/readyz", expect=503))[1]


async def test_running_requests_end_when_it_drains(start: Start) -> None:
    running, api = await start()
    gate = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"first"
        await gate.wait()
        yield b"last"

    data = b"firstlast"
    pushing = asyncio.ensure_future(api("POST", f"/v2/a/b/blobs/uploads/?digest={digest_of(data)}", slowly(), 201))
    while not running.server.in_flight:
        await asyncio.sleep(0.01)
    assert not await running.server.drained(0.05)
    gate.set()
    assert await running.server.drained(10)
    await pushing


async def test_too_many_requests_are_told_when_to_come_again(start: Start) -> None:
    _, api = await start(rate=RateLimit(0.001, burst=2))
    for _ in range(2):
        await api("GET", "/v2/")
    headers, body = await api("GET", "/v2/", expect=429)
    assert int(headers["Retry-After"]) > 1 and json.loads(body)["errors"][0]["code"] == "TOOMANYREQUESTS"
    await api("GET", "/healthz")


async def test_guessing_passwords_is_limited(start: Start) -> None:
    _, api = await start(access=Guarded(), rate=RateLimit(0.001, burst=2))
    for status in (401, 401, 429):
        await api("GET", "/v2/", expect=status, Authorization="Basic YTpi")


async def test_large_blobs_are_refused(start: Start) -> None:
    _, api = await start(max_blob=1000)
    data = bytes(1001)
    _, body = await api("POST", f"/v2/a/b/blobs/uploads/?digest={digest_of(data)}", data, 413)
    assert json.loads(body)["errors"][0]["code"] == "SIZE_INVALID"


async def test_the_audit_log_says_who_did_what(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "audit"
    audit = Audit(path)
    _, api = await start(audit=audit)
    digest = await put(api, "team/app", "1", b"x")
    await api("GET", "/v2/team/app/manifests/1", Authorization="Bearer secret")
    await api("DELETE", f"/v2/team/app/manifests/{digest}", expect=202)
    await api("GET", "/healthz")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(one["method"], one["kind"], one["status"]) for one in lines] == [
        ("POST", "uploads", 201),
        ("POST", "uploads", 201),
        ("PUT", "manifests", 201),
        ("GET", "manifests", 200),
        ("DELETE", "manifests", 202),
    ]
    assert lines[2] | {"time": "", "seconds": 0} == {
        "time": "",
        "address": "127.0.0.1",
        "method": "PUT",
        "kind": "manifests",
        "repository": "team/app",
        "reference": "1",
        "digest": digest,
        "status": 201,
        "seconds": 0,
    }
    assert "secret" not in path.read_text()
    path.rename(tmp_path / "old")
    audit.reopen()
    await api("GET", "/v2/team/app/tags/list", expect=404)
    assert json.loads(path.read_text())["kind"] == "tags"
    audit.close()


async def test_figures_for_prometheus(start: Start) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    metrics = Metrics()
    _, api = await start(metrics=metrics)
    await put(api, "team/app", "1", bytes(100_000))
    await api("GET", f"/v2/team/app/blobs/{digest_of(bytes(100_000))}")
    await api("GET", "/v2/team/app/manifests/no", expect=404)

    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }
    prefix = "buildtool_registry_"
    assert samples[(f"{prefix}received_bytes_total",)] == 100_002
    assert samples[(f"{prefix}sent_bytes_total",)] == 100_000
    labels = (("kind", "manifests"), ("method", "GET"), ("status", "404"))
    assert samples[(f"{prefix}requests_total", *labels)] == 1
    assert samples[(f"{prefix}uploads_open",)] == 0
    assert ("process_resident_memory_bytes",) in samples


async def test_immutable_tags_stay_what_they_are(start: Start) -> None:
    _, api = await start(immutable=lambda: IMMUTABLE)
    first = await put(api, "team/app", "v1", b"1")
    await put(api, "team/app", "v1", b"1")  # the same again is no change
    await put(api, "team/app", "v1", b"2", expect=403)
    await put(api, "team/app", "latest", b"1")
    await put(api, "team/app", "latest", b"2")
    await put(api, "other/app", "v1", b"1")
    await put(api, "other/app", "v1", b"2")
    for reference in ("v1", first):
        await api("DELETE", f"/v2/team/app/manifests/{reference}", expect=403)
    await api("DELETE", "/v2/team/app/manifests/latest", expect=202)
    assert (await api("GET", "/v2/team/app/manifests/v1"))[0]["Docker-Content-Digest"] == first


async def test_what_no_tag_leads_to_goes_when_asked(start: Start) -> None:
    """An index's children and what refers to something kept stay."""
    running, api = await start(grace=0.0, untagged=0.0)
    old = await put(api, "a/b", "1", b"old")
    child = await put(api, "a/b", "child", b"child")
    entry = descriptor(manifest(b"{}", b"child"), MANIFEST)
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    await api("PUT", "/v2/a/b/manifests/2", index, 201, Content_Type=INDEX)
    await api("DELETE", "/v2/a/b/manifests/child", expect=202)
    signature = manifest(b"{}", b"child", subject=entry)
    await api("PUT", f"/v2/a/b/manifests/{digest_of(signature)}", signature, 201, Content_Type=MANIFEST)
    orphan = manifest(b"{}", b"old", subject=descriptor(manifest(b"{}", b"old"), MANIFEST))
    await api("PUT", f"/v2/a/b/manifests/{digest_of(orphan)}", orphan, 201, Content_Type=MANIFEST)

    await running.server.collect()
    await api("GET", f"/v2/a/b/manifests/{old}")
    await api("DELETE", "/v2/a/b/manifests/1", expect=202)
    await running.server.collect()
    for reference, status in (
        (old, 404),
        (digest_of(orphan), 404),
        (child, 200),
        (digest_of(signature), 200),
        ("2", 200),
    ):
        await api("GET", f"/v2/a/b/manifests/{reference}", expect=status)
    assert not verify(running.store).faults


async def test_damage_is_found_moved_aside_and_healed_by_a_push(here: Side, ours: Running, there: Side) -> None:
    name = f"{ours.host}/team/app:1"
    image = here.make(name, {"a": b"1" * 5000}, {"b": b"2" * 5000})
    await here.push(name)
    report = verify(ours.store)
    assert (report.manifests, report.tags, report.faults) == (1, 1, []) and report.blobs == 4

    blobs = sorted(ours.store.blobs.list(), key=ours.store.blobs.size)
    layer = next(one for one in blobs if ours.store.blobs.read(one)[:2] == b"\x1f\x8b")
    ours.store.blobs.path(layer).write_bytes(b"damaged")
    with Store.open(ours.store.root, readonly=True) as beside:
        kinds = [(one.kind, one.subject) for one in verify(beside).faults or []]
        assert ("corrupt-blob", layer) in kinds and ("wrong-size", layer) in kinds
        assert (verify(beside, quarantine=True).faults or [])[0].quarantined
    assert (ours.store.root / "quarantine" / layer[7:]).read_bytes() == b"damaged"
    assert [one.kind for one in verify(ours.store).faults or []] == ["missing-blob"]

    await here.push(name)
    assert verify(ours.store).faults == []
    assert (await there.pull(name)).id == image.id


async def test_every_kind_of_fault_is_told(ours: Running, session: aiohttp.ClientSession) -> None:
    api = Api(ours.url, session)
    digest = await put(api, "a/b", "1", b"x")
    state = ours.store.state
    state.documents("registry-tags:a/b").put("lost", {"digest": digest_of(b"nothing"), "tagged": 0})
    state.documents("registry-blobs:a/b").delete(digest_of(b"x"))
    assert {one.kind for one in verify(ours.store).faults or []} == {"dangling-tag", "broken-manifest"}
    ours.store.blobs.path(Digest(digest)).unlink()
    assert {one.kind for one in verify(ours.store).faults or []} == {"dangling-tag", "missing-blob"}
