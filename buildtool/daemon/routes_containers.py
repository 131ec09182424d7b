"""Containers: create, inspect, list, start to remove, wait, attach, logs, stats, top, diff, update, prune."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from buildtool.daemon import attach as attaching
from buildtool.daemon.answers import Stream, byte_stream, json_answer, message_of, nothing, stream_type
from buildtool.daemon.call import Call
from buildtool.daemon.routing import Routes
from buildtool.errors import InvalidInput, NotFound

routes = Routes()

_HEAD_START = 0.01  # docker-py loses output that arrives together with the head, and the log is there at once


@routes.add("GET", "/containers/json")
async def list_containers(call: Call) -> web.StreamResponse:
    """The running containers, with `all` every one."""
    containers = call.services.containers
    return json_answer(
        await containers.list(
            all=call.flag("all"), limit=call.number("limit"), size=call.flag("size"), filters=call.filters()
        )
    )


@routes.add("POST", "/containers/create")
async def create(call: Call) -> web.StreamResponse:
    """Make a container; it does not run yet."""
    body = await call.json()
    id, warnings = await call.services.containers.create(
        body, name=call.text("name") or None, platform=call.text("platform") or None
    )
    limit = (body.get("HostConfig") or {}).get("KernelMemory")
    if limit and call.version < (1, 42):  # from 1.42 on it is passed over
        text = "Specifying a kernel memory limit is deprecated and will be removed in a future release."
        warnings = [*warnings, text]
    return json_answer({"Id": id, "Warnings": warnings or []}, 201)


@routes.add("POST", "/containers/prune")
async def prune(call: Call) -> web.StreamResponse:
    """Remove the stopped containers."""
    return json_answer(await call.services.containers.prune(call.filters()))


@routes.add("GET", "/containers/{id}/json")
async def inspect(call: Call) -> web.StreamResponse:
    """One container."""
    document = await call.services.containers.inspect(call.names["id"], size=call.flag("size"))
    if call.version < (1, 45):
        _name_by_id(document)
    return json_answer(document)


def _name_by_id(document: dict[str, Any]) -> None:
    """Until API 1.44 the short id was among the aliases in networks of the user's own; now it is in DNSNames."""
    for name, endpoint in document["NetworkSettings"]["Networks"].items():
        if name not in ("bridge", "host", "none"):
            names = (*(endpoint["Aliases"] or ()), document["Id"][:12], document["Config"]["Hostname"])
            endpoint["Aliases"] = list(dict.fromkeys(names))


@routes.add("GET", "/containers/{id}/top")
async def top(call: Call) -> web.StreamResponse:
    """The processes in it, as ps shows them."""
    return json_answer(await call.services.containers.top(call.names["id"], call.text("ps_args") or "-ef"))


@routes.add("GET", "/containers/{id}/changes")
async def changes(call: Call) -> web.StreamResponse:
    """What differs from its image."""
    return json_answer(await call.services.containers.files.changes(call.names["id"]))


@routes.add("GET", "/containers/{id}/logs", stream=True)
async def logs(call: Call) -> web.StreamResponse:
    """What it wrote, and with `follow` what it writes."""
    stdout, stderr = call.flag("stdout"), call.flag("stderr")
    if not stdout and not stderr:
        raise InvalidInput("Bad parameters: you must choose at least one stream")
    containers = call.services.containers
    id = call.names["id"]
    tty = containers.get(id).record.config.tty
    chunks = containers.logs(
        id,
        stdout=stdout,
        stderr=stderr,
        follow=call.flag("follow"),
        since=call.text("since"),
        until=call.text("until"),
        timestamps=call.flag("timestamps"),
        tail=call.text("tail"),
        details=call.flag("details"),
    )
    return await byte_stream(call, stream_type(call.version, tty=tty), chunks)


@routes.add("GET", "/containers/{id}/stats", stream=True)
async def stats(call: Call) -> web.StreamResponse:
    """What it uses: once, or every second."""
    samples = call.services.containers.stats(
        call.names["id"], stream=call.flag("stream", True), one_shot=call.flag("one-shot")
    )
    stream = Stream(call, "application/json")
    async for sample in samples:
        await stream.line(sample)
    await stream.open()
    return stream.response


@routes.add("POST", "/containers/{id}/resize")
async def resize(call: Call) -> web.StreamResponse:
    """Tell its terminal its size."""
    await call.services.containers.resize(call.names["id"], *size_of(call))
    return nothing(200)


def size_of(call: Call) -> tuple[int, int]:
    """Height and width. Raises InvalidInput."""
    height, width = call.number("h"), call.number("w")
    if height is None or width is None or not 0 <= height < 65536 or not 0 <= width < 65536:
        raise InvalidInput("the parameters h and w must be numbers from 0 to 65535")
    return height, width


@routes.add("POST", "/containers/{id}/start")
async def start(call: Call) -> web.StreamResponse:
    """Start it; 304 when it runs. `detachKeys` count for those who attach without naming any."""
    await call.services.containers.start(call.names["id"], detach_keys=call.text("detachKeys"))
    return nothing()


@routes.add("POST", "/containers/{id}/stop")
async def stop(call: Call) -> web.StreamResponse:
    """Stop it by its signal, after the timeout by force; 304 when it does not run."""
    await call.services.containers.stop(call.names["id"], signal=call.text("signal"), timeout=call.number("t"))
    return nothing()


@routes.add("POST", "/containers/{id}/restart")
async def restart(call: Call) -> web.StreamResponse:
    """Stop, then start."""
    await call.services.containers.restart(call.names["id"], signal=call.text("signal"), timeout=call.number("t"))
    return nothing()


@routes.add("POST", "/containers/{id}/kill")
async def kill(call: Call) -> web.StreamResponse:
    """Send it a signal."""
    await call.services.containers.kill(call.names["id"], signal=call.text("signal"))
    return nothing()


@routes.add("POST", "/containers/{id}/update")
async def update(call: Call) -> web.StreamResponse:
    """Change its limits and restart policy."""
    warnings = await call.services.containers.update(call.names["id"], await call.json())
    return json_answer({"Warnings": warnings or None})


@routes.add("POST", "/containers/{id}/rename")
async def rename(call: Call) -> web.StreamResponse:
    """Give it another name."""
    await call.services.containers.rename(call.names["id"], call.text("name"))
    return nothing()


@routes.add("POST", "/containers/{id}/pause")
async def pause(call: Call) -> web.StreamResponse:
    """Freeze it."""
    await call.services.containers.pause(call.names["id"])
    return nothing()


@routes.add("POST", "/containers/{id}/unpause")
async def unpause(call: Call) -> web.StreamResponse:
    """Thaw it."""
    await call.services.containers.unpause(call.names["id"])
    return nothing()


@routes.add("POST", "/containers/{id}/wait", stream=True)
async def wait(call: Call) -> web.StreamResponse:
    """How it ended. The header goes out at once: then the client knows that the end will not be missed."""
    waiter = await call.services.containers.waiter(call.names["id"], call.text("condition"))
    stream = Stream(call, "application/json")
    await stream.open()
    try:
        result = await waiter
    except Exception as error:  # noqa: BLE001 - the header is out: the answer has a place for errors
        await stream.line({"StatusCode": -1, "Error": {"Message": message_of(error)}})
    else:
        await stream.line(result.document())
    return stream.response


@routes.add("POST", "/containers/{id}/attach", stream=True)
async def attach(call: Call) -> web.StreamResponse:
    """Connect to its streams by taking over the connection."""
    raw = call.hijack()
    attachment = await _attach(call)
    attaching.begin(raw, tty=attachment.tty, version=call.version)
    if call.flag("logs"):
        await asyncio.sleep(_HEAD_START)
    return await attaching.serve(raw, attachment, stdin=call.flag("stdin"))


@routes.add("GET", "/containers/{id}/attach/ws", stream=True)
async def attach_websocket(call: Call) -> web.StreamResponse:
    """Connect to its streams by a web socket."""
    call.services.containers.get(call.names["id"])
    socket = web.WebSocketResponse()
    await socket.prepare(call.request)
    return await attaching.serve_websocket(socket, await _attach(call))


async def _attach(call: Call) -> Any:
    return await call.services.containers.attach(
        call.names["id"],
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        logs=call.flag("logs"),
        stream=call.flag("stream"),
        detach_keys=call.text("detachKeys"),
    )


@routes.add("DELETE", "/containers/{id}")
async def remove(call: Call) -> web.StreamResponse:
    """Remove it; a running one only with `force`."""
    if call.flag("link"):
        return await remove_link(call)
    await call.services.containers.remove(call.names["id"], force=call.flag("force"), volumes=call.flag("v"))
    return nothing()


@routes.add("DELETE", "/containers/{id:path}")
async def remove_link(call: Call) -> web.StreamResponse:
    """Remove a link, named as `container/alias`."""
    if not call.flag("link"):
        raise NotFound(f"No such container: {call.names['id']}")
    await call.services.containers.remove_link(call.names["id"])
    return nothing()
