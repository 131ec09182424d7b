"""Ping, version, info, events, disk usage, build cache prune."""

from __future__ import annotations

import time
from collections import Counter

from aiohttp import web

from buildtool.aio import offload
from buildtool.daemon import info, usage
from buildtool.daemon.answers import Stream, json_answer, text_answer
from buildtool.daemon.call import Call
from buildtool.daemon.negotiate import BUILDER_VERSION
from buildtool.daemon.routing import Routes
from buildtool.errors import InvalidInput

routes = Routes()

_PING_HEADERS = {
    "Builder-Version": BUILDER_VERSION,
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Ostype": "linux",
    "Swarm": "inactive",
}


@routes.add("GET", "/_ping")
async def ping(call: Call) -> web.StreamResponse:
    """`OK`, and the versions in the header."""
    return text_answer("OK", _PING_HEADERS)


@routes.add("HEAD", "/_ping")
async def ping_head(call: Call) -> web.StreamResponse:
    """The header of `ping`."""
    return text_answer("", {**_PING_HEADERS, "Content-Length": "0"})


@routes.add("GET", "/version")
async def version(call: Call) -> web.StreamResponse:
    """What this daemon is."""
    return json_answer(info.version())


@routes.add("GET", "/info")
async def system_info(call: Call) -> web.StreamResponse:
    """What this daemon has and can."""
    services = call.services
    containers = await services.containers.list(all=True, limit=None, size=False, filters={})
    states = Counter(str(container["State"]) for container in containers)
    document = await offload(info.info, services, dict(states))
    if call.version < (1, 25):  # names only, without options
        document["SecurityOptions"] = [
            option.removeprefix("name=").partition(",")[0] for option in document["SecurityOptions"]
        ]
    return json_answer(document)


@routes.add("GET", "/events", stream=True)
async def events(call: Call) -> web.StreamResponse:
    """What happens, one JSON object a line."""
    subscription = call.services.events.subscribe(call.text("since"), call.text("until"), call.filters())
    async with subscription:
        stream = Stream(call, "application/json")
        await stream.open()
        async for event in subscription:
            await stream.line(event)
    return stream.response


@routes.add("GET", "/system/df")
async def disk_usage(call: Call) -> web.StreamResponse:
    """What takes how much space. `verbose` is of API 1.52; until then all objects are listed anyway."""
    types = set(call.texts("type"))
    if unknown := types - usage.TYPES:
        raise InvalidInput(f"unknown object type: {min(unknown)}")
    found = await usage.disk_usage(call.services, types or usage.TYPES)
    if call.version < (1, 44):
        for image in found.get("Images") or ():
            image["VirtualSize"] = image["Size"]
    return json_answer(found)


@routes.add("POST", "/build/prune")
async def build_prune(call: Call) -> web.StreamResponse:
    """Forget build results that no image needs, and free their space.

    `reserved-space`, `max-used-space` and `min-free-space` are of API 1.48; `keep-storage` is how older ones call the
    first.
    """
    from buildtool.solve.cache_entries import Policy

    until = call.filters().get("until", [])
    new = call.version >= (1, 48)
    limits = {
        "reserved": call.number("reserved-space") if new else None,
        "max_used": call.number("max-used-space") if new else None,
        "min_free": call.number("min-free-space") if new else None,
    }
    keep = call.number("keep-storage")
    limits["reserved"] = limits["reserved"] or keep
    if any(value is not None and value < 0 for value in limits.values()):
        raise InvalidInput("the sizes of a prune of the build cache are not negative")
    if any(limits.values()):
        unused_for = time.time() - usage.moment(until[0]) if until else None
        policy = Policy(
            reserved=limits["reserved"] or 0,
            max_used=limits["max_used"] or None,
            min_free=limits["min_free"] or None,
            unused_for=unused_for,
            all=call.flag("all"),
            mounts=True,
        )
        keeper, services = (await call.services.builder()).cache, call.services
        gone, report = await offload(lambda: keeper.prune(policy, services.pins()))
        return json_answer({"CachesDeleted": [entry.id for entry in gone] or None, "SpaceReclaimed": report.bytes})
    report = await call.services.collect(
        unused_since=usage.moment(until[0]) if until else None,
        actions="all" if call.flag("all") else "unused",
    )
    return json_answer(usage.prune_shape(report))
