"""Volumes of the local driver."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from buildtool.aio import offload
from buildtool.containers.volumes import check_request
from buildtool.daemon.answers import byte_stream, json_answer, nothing
from buildtool.daemon.call import Call
from buildtool.daemon.routing import Routes
from buildtool.daemon.threads import body_file
from buildtool.errors import Unavailable

routes = Routes()


@routes.add("GET", "/volumes")
async def list_volumes(call: Call) -> web.StreamResponse:
    """All volumes that pass the filters."""
    volumes = await offload(call.services.containers.volumes.list, call.filters())
    return json_answer({"Volumes": volumes, "Warnings": None})


@routes.add("POST", "/volumes/create")
async def create(call: Call) -> web.StreamResponse:
    """Make a volume; one of that name is answered as it is."""
    body: dict[str, Any] = check_request(await call.json(optional=True))
    volume = await offload(
        call.services.containers.volumes.create,
        body.get("Name") or "",
        driver=body.get("Driver") or "",
        options=body.get("DriverOpts") or None,
        labels=body.get("Labels") or None,
    )
    return json_answer(volume, 201)


@routes.add("POST", "/volumes/prune")
async def prune(call: Call) -> web.StreamResponse:
    """Remove unused volumes: the anonymous ones, with the filter `all` every one (before API 1.42 always)."""
    filters = call.filters()
    if call.version < (1, 42):
        filters.setdefault("all", ["true"])
    return json_answer(await offload(call.services.containers.volumes.prune, filters))


@routes.add("GET", "/volumes/{name}")
async def inspect(call: Call) -> web.StreamResponse:
    """One volume."""
    return json_answer(await offload(call.services.containers.volumes.inspect, call.names["name"]))


@routes.add("PUT", "/volumes/{name}")
async def update(call: Call) -> web.StreamResponse:
    """Only cluster volumes can be updated: their `version` is not asked for where there is no cluster."""
    call.text("version")
    raise Unavailable("only cluster volumes can be updated, and this daemon has none")


@routes.add("DELETE", "/volumes/{name}")
async def remove(call: Call) -> web.StreamResponse:
    """Remove a volume and its content."""
    await offload(call.services.containers.volumes.remove, call.names["name"], force=call.flag("force"))
    return nothing()


@routes.add("GET", "/buildtool/v1/volumes/{name}/export", stream=True)
async def export(call: Call) -> web.StreamResponse:
    """Its content as a tar archive, `compression` gzip, zstd or none."""
    archive = await call.services.containers.volume_archives.export(call.names["name"], call.text("compression"))
    return await byte_stream(call, "application/x-tar", archive)


@routes.add("POST", "/buildtool/v1/volumes/{name}/import", stream=True)
async def import_(call: Call) -> web.StreamResponse:
    """Fill a new or empty volume from a tar archive; with `replace` the content of another gives way."""
    archives = call.services.containers.volume_archives
    await archives.restore(call.names["name"], body_file(call.request), replace=call.flag("replace"))
    return nothing(200)
