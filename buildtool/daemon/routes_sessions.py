"""/buildtool/v1/sessions: connections over which a client lends things to its builds."""

from __future__ import annotations

from aiohttp import web

from buildtool.daemon.call import Call
from buildtool.daemon.hijack import Hijacked
from buildtool.daemon.routing import Routes

routes = Routes()


@routes.add("POST", "/buildtool/v1/sessions/{id}", stream=True)
async def session(call: Call) -> web.StreamResponse:
    """Be a session until the client closes it."""
    await call.services.sessions.serve(call.names["id"], call.hijack())
    return Hijacked()
