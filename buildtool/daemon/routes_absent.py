"""Parts of Docker's API that this daemon does not have: swarm, plugins, checkpoints, BuildKit's sessions."""

from __future__ import annotations

from aiohttp import web

from buildtool.daemon.answers import json_answer
from buildtool.daemon.call import Call
from buildtool.daemon.routing import Handler, Routes
from buildtool.errors import Unavailable

routes = Routes()

_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
_METHODS = ("GET", "POST", "PUT", "DELETE")


class _NotInSwarm(Unavailable):
    http_status = 503


def _refuse(error: type[Unavailable], text: str) -> Handler:
    async def handler(call: Call) -> web.StreamResponse:
        raise error(text)

    return handler


for _noun in ("swarm", "services", "nodes", "tasks", "secrets", "configs"):
    for _method in _METHODS:
        routes.add(_method, f"/{_noun}")(_refuse(_NotInSwarm, _NO_SWARM))
        routes.add(_method, f"/{_noun}/{{rest:path}}")(_refuse(_NotInSwarm, _NO_SWARM))
for _pattern in ("/swarm/init", "/swarm/join"):
    routes.add("POST", _pattern)(_refuse(Unavailable, "swarm mode is not supported by this daemon"))
for _method in _METHODS:
    routes.add(_method, "/plugins/{rest:path}")(_refuse(Unavailable, "plugins are not supported by this daemon"))
    for _pattern in ("/containers/{id}/checkpoints", "/containers/{id}/checkpoints/{rest:path}"):
        routes.add(_method, _pattern)(_refuse(Unavailable, "checkpoints are not supported by this daemon"))
for _pattern in ("/session", "/grpc"):
    routes.add("POST", _pattern)(
        _refuse(
            Unavailable,
            "BuildKit sessions are not supported by this daemon: use the classic builder (DOCKER_BUILDKIT=0)",
        )
    )


@routes.add("GET", "/plugins")
async def plugins(call: Call) -> web.StreamResponse:
    """None."""
    return json_answer([])


@routes.add("POST", "/build/cancel")
async def build_cancel(call: Call) -> web.StreamResponse:
    """Classic builds are cancelled by closing their connection."""
    raise Unavailable("close the connection of the build to cancel it")
