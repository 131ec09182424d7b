"""/buildtool/v1/sessions: connections over which a client lends things to its builds, and shells where they stop."""

from __future__ import annotations

from aiohttp import web

from buildtool.daemon.answers import nothing
from buildtool.daemon.call import Call
from buildtool.daemon.hijack import Hijacked
from buildtool.daemon.routes_containers import size_of
from buildtool.daemon.routing import Routes
from buildtool.errors import InvalidInput

routes = Routes()


@routes.add("POST", "/buildtool/v1/sessions/{id}", stream=True)
async def session(call: Call) -> web.StreamResponse:
    """Be a session until the client closes it."""
    raw = call.hijack()
    if not raw.upgrade:
        raise InvalidInput("a session takes over its connection: send Connection: Upgrade, Upgrade: tcp")
    await call.services.sessions.serve(call.names["id"], raw)
    return Hijacked()


@routes.add("POST", "/buildtool/v1/sessions/{id}/shells/{number}", stream=True)
async def shell(call: Call) -> web.StreamResponse:
    """A shell where a build has stopped, on this connection."""
    from buildtool.solve.debugger import ShellOptions

    desk = call.services.sessions.desk(call.names["id"])
    rows, columns = call.number("h", 0) or 0, call.number("w", 0) or 0
    options = ShellOptions(call.flag("tty"), rows, columns, call.text("term"))
    await desk.shell(_number(call), call.hijack(), options)
    return Hijacked()


@routes.add("POST", "/buildtool/v1/sessions/{id}/shells/{number}/resize")
async def resize(call: Call) -> web.StreamResponse:
    """Tell the shell's terminal its size."""
    await call.services.sessions.desk(call.names["id"]).resize(_number(call), *size_of(call))
    return nothing(200)


@routes.add("POST", "/buildtool/v1/sessions/{id}/shells/{number}/leave")
async def leave(call: Call) -> web.StreamResponse:
    """Let the build go on, or end it (`abort`)."""
    call.services.sessions.desk(call.names["id"]).leave(_number(call), abort=call.flag("abort"))
    return nothing(200)


def _number(call: Call) -> int:
    text = call.names["number"]
    if not text.isdecimal() or len(text) > 9:
        raise InvalidInput(f"{text!r} is no shell's number")
    return int(text)
