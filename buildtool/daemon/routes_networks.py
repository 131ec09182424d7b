"""Networks."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from buildtool.daemon.answers import json_answer, nothing
from buildtool.daemon.call import Call, parse_bool
from buildtool.daemon.routing import Routes
from buildtool.errors import InvalidInput

routes = Routes()


@routes.add("GET", "/networks")
async def list_networks(call: Call) -> web.StreamResponse:
    """The networks that pass the filters."""
    return json_answer(await call.services.containers.network_views.list(call.filters()))


@routes.add("POST", "/networks/create")
async def create(call: Call) -> web.StreamResponse:
    """Make a network."""
    identity, warning = await call.services.containers.networks.create(await call.json())
    return json_answer({"Id": identity, "Warning": warning}, 201)


@routes.add("POST", "/networks/prune")
async def prune(call: Call) -> web.StreamResponse:
    """Remove the networks that nothing is connected to."""
    return json_answer(await call.services.containers.network_views.prune(call.filters()))


@routes.add("GET", "/networks/{id}")
async def inspect(call: Call) -> web.StreamResponse:
    """One network, with the containers that are connected to it. `verbose` is about services, which need a swarm."""
    parse_bool(call.text("verbose"), "verbose")
    views = call.services.containers.network_views
    return json_answer(await views.inspect(call.names["id"], scope=call.text("scope")))


@routes.add("DELETE", "/networks/{id}")
async def remove(call: Call) -> web.StreamResponse:
    """Remove a network that no container is connected to."""
    await call.services.containers.network_views.remove(call.names["id"])
    return nothing()


@routes.add("POST", "/networks/{id}/connect")
async def connect(call: Call) -> web.StreamResponse:
    """Connect a container, running or not."""
    body = await call.json()
    settings: dict[str, Any] = body.get("EndpointConfig") or {}
    if not isinstance(settings, dict):
        raise InvalidInput("invalid connect request: EndpointConfig is an object")
    containers = call.services.containers
    container = containers.get(_container(body))
    await containers.connections.connect(call.names["id"], container, settings)
    return json_answer(None)


@routes.add("POST", "/networks/{id}/disconnect")
async def disconnect(call: Call) -> web.StreamResponse:
    """Disconnect a container, running or not."""
    body = await call.json()
    containers = call.services.containers
    container = containers.get(_container(body))
    await containers.connections.disconnect(call.names["id"], container)
    return json_answer(None)


def _container(body: dict[str, Any]) -> str:
    name = body.get("Container")
    if not name or not isinstance(name, str):
        raise InvalidInput("no container given: the Container of the request is empty")
    return name
