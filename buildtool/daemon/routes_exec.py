"""Exec: further processes in a running container."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from buildtool.daemon import attach
from buildtool.daemon.answers import json_answer, nothing
from buildtool.daemon.call import Call
from buildtool.daemon.routes_containers import size_of
from buildtool.daemon.routing import Routes
from buildtool.errors import BuildtoolError

routes = Routes()


@routes.add("POST", "/containers/{id}/exec")
async def create(call: Call) -> web.StreamResponse:
    """Note what is to be run."""
    return json_answer({"Id": await call.services.containers.exec_create(call.names["id"], await call.json())}, 201)


@routes.add("POST", "/exec/{id}/start", stream=True)
async def start(call: Call) -> web.StreamResponse:
    """Run it: on its own (`Detach`), or connected to this connection.

    As Docker does, the head is sent before the command is started (there are clients that lose output which comes
    with it),
    and a command that cannot be executed is told in the stream; its exit code is in `inspect`.
    """
    body = await call.json(optional=True)
    containers = call.services.containers
    if body.get("Detach"):
        await containers.exec_start(call.names["id"], body)
        return nothing(200)
    raw = call.hijack()
    containers.exec_check(call.names["id"], body)
    tty = (await containers.exec_inspect(call.names["id"]))["ProcessConfig"]["tty"]
    attach.begin(raw, tty=tty, version=call.version)
    try:
        attachment = await containers.exec_start(call.names["id"], body)
    except BuildtoolError as error:
        return await attach.tell(raw, f"{error}\r\n", tty=tty)
    assert attachment is not None  # only a detached one has no streams
    ended = partial(containers.exec_ended, call.names["id"])
    return await attach.serve(raw, attachment, stdin=attachment.stdin, ended=ended)


@routes.add("POST", "/exec/{id}/resize")
async def resize(call: Call) -> web.StreamResponse:
    """Tell its terminal its size."""
    await call.services.containers.exec_resize(call.names["id"], *size_of(call))
    return nothing(200)


@routes.add("GET", "/exec/{id}/json")
async def inspect(call: Call) -> web.StreamResponse:
    """How it is doing."""
    return json_answer(await call.services.containers.exec_inspect(call.names["id"]))
