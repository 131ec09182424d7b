"""Files of containers: copying in and out, export, commit."""

from __future__ import annotations

import base64

import msgspec
from aiohttp import web

from buildtool.daemon.answers import byte_stream, json_answer, nothing
from buildtool.daemon.call import Call
from buildtool.daemon.negotiate import STANDARD_HEADERS
from buildtool.daemon.routing import Routes
from buildtool.daemon.threads import body_file
from buildtool.errors import InvalidInput

routes = Routes()

_STAT_HEADER = "X-Docker-Container-Path-Stat"


@routes.add("HEAD", "/containers/{id}/archive")
async def stat(call: Call) -> web.StreamResponse:
    """What a path is, in a header."""
    found = await call.services.containers.files.archive_stat(call.names["id"], _path(call))
    return web.Response(headers={**STANDARD_HEADERS, _STAT_HEADER: _encoded(found)})


@routes.add("GET", "/containers/{id}/archive", stream=True)
async def get(call: Call) -> web.StreamResponse:
    """A path's content as a tar."""
    found, chunks = await call.services.containers.files.archive_get(call.names["id"], _path(call))
    return await byte_stream(call, "application/x-tar", chunks, {_STAT_HEADER: _encoded(found)})


@routes.add("PUT", "/containers/{id}/archive", stream=True)
async def put(call: Call) -> web.StreamResponse:
    """Unpack a tar below a path. `beforeFirstStart` (ours) also where the root filesystem will be read-only."""
    await call.services.containers.files.archive_put(
        call.names["id"],
        _path(call),
        body_file(call.request),
        no_overwrite=call.flag("noOverwriteDirNonDir"),
        copy_ids=call.flag("copyUIDGID"),
        before_first_start=call.flag("beforeFirstStart"),
    )
    return nothing(200)


@routes.add("GET", "/containers/{id}/export", stream=True)
async def export(call: Call) -> web.StreamResponse:
    """Its whole file system as a tar."""
    return await byte_stream(call, "application/x-tar", await call.services.containers.files.export(call.names["id"]))


@routes.add("POST", "/commit")
async def commit(call: Call) -> web.StreamResponse:
    """Make an image of a container."""
    if not call.text("container"):
        raise InvalidInput("the parameter container is missing")
    image_id = await call.services.containers.files.commit(
        call.text("container"),
        repo=call.text("repo"),
        tag=call.text("tag"),
        comment=call.text("comment"),
        author=call.text("author"),
        pause=call.flag("pause", True),
        changes=call.texts("changes"),
        config=await call.json(optional=True),
    )
    return json_answer({"Id": image_id}, 201)


def _path(call: Call) -> str:
    path = call.text("path")
    if not path:
        raise InvalidInput("Bad parameters: path cannot be empty")
    return path


def _encoded(document: object) -> str:
    return base64.b64encode(msgspec.json.encode(document)).decode()
