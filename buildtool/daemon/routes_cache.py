"""/buildtool/v1/cache: the build cache, looked at and looked after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from buildtool.aio import offload
from buildtool.daemon.answers import byte_stream, json_answer
from buildtool.daemon.call import Call
from buildtool.daemon.routing import Routes
from buildtool.daemon.threads import body_file, in_own_thread, iterate
from buildtool.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buildtool.solve.cache_keeper import CacheKeeper

routes = Routes()


class ProtectBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The request of protect."""

    ids: list[str]
    protect: bool = True


async def _keeper(call: Call) -> CacheKeeper:
    return (await call.services.builder()).cache


def _shape(entry: Any) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(entry)
    return {**document, "reclaimable": entry.reclaimable}


@routes.add("GET", "/buildtool/v1/cache")
async def entries(call: Call) -> web.StreamResponse:
    """All entries that fulfil the filters, the last used first."""
    import time

    from buildtool.solve.cache_entries import matcher

    wanted = matcher(call.filters(), time.time())
    keeper = await _keeper(call)
    found = await offload(lambda: keeper.entries(call.services.pins()))
    return json_answer([_shape(entry) for entry in found if wanted(entry)])


@routes.add("GET", "/buildtool/v1/cache/{id:path}/json")
async def inspect(call: Call) -> web.StreamResponse:
    """One entry, with its records and the ingredients of their keys."""
    keeper = await _keeper(call)

    def work() -> dict[str, Any]:
        entry = keeper.find(call.names["id"], call.services.pins())
        return {**_shape(entry), "records": keeper.records(entry) if entry.type == "step" else []}

    return json_answer(await offload(work))


@routes.add("POST", "/buildtool/v1/cache/prune")
async def prune(call: Call) -> web.StreamResponse:
    """Remove what a policy says; with `dry_run=1` only tell."""
    from buildtool.solve.cache_entries import Policy

    try:
        policy = msgspec.json.decode(await call.body() or b"{}", type=Policy)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"invalid request: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"invalid JSON: {error}") from None
    keeper, services = await _keeper(call), call.services
    gone, report = await offload(lambda: keeper.prune(policy, services.pins(), dry_run=call.flag("dry_run")))
    return json_answer({"removed": [_shape(entry) for entry in gone], "bytes": report.bytes})


@routes.add("POST", "/buildtool/v1/cache/protect")
async def protect(call: Call) -> web.StreamResponse:
    """Protect entries from every removal, or end that."""
    try:
        body = msgspec.json.decode(await call.body(), type=ProtectBody)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"invalid request: {error}") from None
    keeper, services = await _keeper(call), call.services
    found = await offload(lambda: keeper.protect(body.ids, services.pins(), protect=body.protect))
    return json_answer([entry.id for entry in found])


@routes.add("GET", "/buildtool/v1/cache/{id:path}/export", stream=True)
async def export(call: Call) -> web.StreamResponse:
    """The contents of a cache mount as a tar archive."""
    keeper, services = await _keeper(call), call.services
    chunks = await offload(lambda: keeper.export_mount(keeper.find(call.names["id"], services.pins())))

    async def stream() -> AsyncIterator[bytes]:
        async for chunk in iterate(lambda: chunks):
            yield chunk

    return await byte_stream(call, "application/x-tar", stream())


@routes.add("POST", "/buildtool/v1/cache/import", stream=True)
async def import_(call: Call) -> web.StreamResponse:
    """Make a tar archive the contents of the cache mount `id`."""
    keeper = await _keeper(call)
    body = body_file(call.request)
    name = await in_own_thread(lambda: keeper.import_mount(call.text("id"), body), "cache")
    return json_answer({"name": name})
