from __future__ import annotations

import asyncio
import threading

import pytest

from buildtool.containers.events import Event, Events, Subscription
from buildtool.errors import InvalidInput


async def _take(subscription: Subscription, count: int) -> list[Event]:
    return [await asyncio.wait_for(anext(subscription), 2) for _ in range(count)]


async def test_an_event_has_dockers_members_old_and_new() -> None:
    bus = Events()
    subscription = bus.subscribe()
    bus.publish("container", "start", "c1", {"image": "busybox", "name": "web"})
    (event,) = await _take(subscription, 1)
    assert event["status"] == event["Action"] == "start"
    assert event["id"] == event["Actor"]["ID"] == "c1"
    assert event["from"] == "busybox"
    assert event["Actor"]["Attributes"] == {"image": "busybox", "name": "web"}
    assert (event["Type"], event["scope"]) == ("container", "local")
    assert event["timeNano"] // 1_000_000_000 == event["time"]


async def test_nothing_published_after_subscribing_is_lost() -> None:
    bus = Events()
    subscription = bus.subscribe()
    for number in range(1000):
        bus.publish("image", "tag", str(number))
    assert [event["id"] for event in await _take(subscription, 1000)] == [str(n) for n in range(1000)]


async def test_only_the_last_256_are_replayed() -> None:
    bus = Events()
    for number in range(300):
        bus.publish("image", "tag", str(number))
    subscription = bus.subscribe(since="1")
    replayed = await _take(subscription, 256)
    assert (replayed[0]["id"], replayed[-1]["id"]) == ("44", "299")


async def test_until_in_the_past_ends_after_the_replay() -> None:
    bus = Events()
    bus.publish("image", "tag", "x")
    now = bus.subscribe(since="1", until="9999999999")
    (event,) = await _take(now, 1)
    past = bus.subscribe(since="1", until=f"{event['time']}.999999999")
    await asyncio.sleep(0)
    assert [e["id"] for e in [e async for e in past]] in (["x"],)


@pytest.mark.parametrize("until", ["0", "1", "0.5"])
async def test_until_1970_is_in_the_past_too(until: str) -> None:
    bus = Events()
    bus.publish("container", "start", "x", {})
    assert [event async for event in bus.subscribe(until=until)] == []


async def test_until_in_the_future_ends_by_itself() -> None:
    bus = Events()
    from buildtool.containers import times

    moment = times.now() + 50_000_000
    subscription = bus.subscribe(until=f"{moment // times.SECOND}.{moment % times.SECOND:09d}")
    async with asyncio.timeout(2):
        assert [event async for event in subscription] == []


async def test_since_after_until_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Events().subscribe(since="20", until="10")


@pytest.mark.parametrize(
    ("filters", "seen"),
    [
        ({"type": ["image"]}, ["tag"]),
        ({"event": ["start", "tag"]}, ["start", "tag"]),
        ({"container": ["web"]}, ["start", "exec_create: ls"]),
        ({"container": ["c1"]}, ["start", "exec_create: ls"]),
        ({"image": ["busybox"]}, ["start", "exec_create: ls", "tag"]),
        ({"label": ["tier=front"]}, ["start"]),
        ({"event": ["exec_create"]}, ["exec_create: ls"]),
        ({"container": ["other"]}, []),
    ],
)
async def test_filters(filters: dict[str, list[str]], seen: list[str]) -> None:
    bus = Events()
    subscription = bus.subscribe(filters=filters)
    bus.publish("container", "start", "c1", {"image": "busybox:latest", "name": "web", "tier": "front"})
    bus.publish("container", "exec_create: ls", "c1", {"image": "busybox:latest", "name": "web"})
    bus.publish("image", "tag", "sha256:1", {"name": "busybox:latest"})
    assert [event["Action"] for event in await _take(subscription, len(seen))] == seen
    subscription.close()


async def test_unknown_filters_are_refused() -> None:
    with pytest.raises(InvalidInput, match="invalid filter"):
        Events().subscribe(filters={"colour": ["red"]})


async def test_other_threads_may_publish() -> None:
    bus = Events()
    subscription = bus.subscribe()
    thread = threading.Thread(target=lambda: [bus.publish("image", "tag", str(n)) for n in range(50)])
    thread.start()
    events = await _take(subscription, 50)
    thread.join()
    assert [event["id"] for event in events] == [str(n) for n in range(50)]


async def test_a_closed_subscription_gets_nothing_and_ends() -> None:
    bus = Events()
    subscription = bus.subscribe()
    subscription.close()
    bus.publish("image", "tag", "x")
    assert bus.listeners == 0
    assert [event async for event in subscription] == []
