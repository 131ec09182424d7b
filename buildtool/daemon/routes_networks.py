"""Networks: those that always exist can be looked at; others cannot be made yet."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from buildtool.containers import times
from buildtool.containers.filters import Filters
from buildtool.daemon.answers import json_answer
from buildtool.daemon.call import Call
from buildtool.daemon.routing import Routes
from buildtool.errors import Forbidden, NotFound, Unavailable
from buildtool.networks.predefined import predefined_id

routes = Routes()

_PREDEFINED = ("host", "none")
_DRIVERS = {"host": "host", "none": "null"}
_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})


@routes.add("GET", "/networks")
async def list_networks(call: Call) -> web.StreamResponse:
    """The networks that pass the filters."""
    wanted = Filters.parse(call.filters(), _FILTERS)
    dangling = wanted.boolean("dangling")
    found = [
        network
        for name in _PREDEFINED
        if wanted.match("name", name)
        and wanted.match("id", predefined_id(name))
        and wanted.exact("driver", _DRIVERS[name])
        and wanted.exact("scope", "local")
        and wanted.exact("type", "builtin")
        and wanted.labels({})
        and dangling is not True
        and (network := _document(call, name))
    ]
    return json_answer(found)


@routes.add("POST", "/networks/create")
async def create(call: Call) -> web.StreamResponse:
    """Networks of one's own need the bridge driver."""
    body: dict[str, Any] = await call.json()
    raise Unavailable(
        f"cannot create network {body.get('Name', '')}: this daemon has the networks host and none only"
    )


@routes.add("POST", "/networks/prune")
async def prune(call: Call) -> web.StreamResponse:
    """There is never one to remove."""
    return json_answer({"NetworksDeleted": None})


@routes.add("GET", "/networks/{id}")
async def inspect(call: Call) -> web.StreamResponse:
    """One network."""
    return json_answer(_document(call, _name(call)))


@routes.add("DELETE", "/networks/{id}")
async def remove(call: Call) -> web.StreamResponse:
    """The predefined networks stay."""
    raise Forbidden(f"{_name(call)} is a pre-defined network and cannot be removed")


@routes.add("POST", "/networks/{id}/connect")
async def connect(call: Call) -> web.StreamResponse:
    """Containers keep the network they were created with."""
    raise Unavailable(f"cannot connect to network {_name(call)}: a container keeps the network it was created with")


@routes.add("POST", "/networks/{id}/disconnect")
async def disconnect(call: Call) -> web.StreamResponse:
    """Containers keep the network they were created with."""
    raise Unavailable(
        f"cannot disconnect from network {_name(call)}: a container keeps the network it was created with"
    )


def _name(call: Call) -> str:
    wanted = call.names["id"]
    for name in _PREDEFINED:
        if wanted == name or (len(wanted) >= 4 and predefined_id(name).startswith(wanted)):
            return name
    raise NotFound(f"network {wanted} not found")


def _document(call: Call, name: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Id": predefined_id(name),
        "Created": times.rfc3339nano(int(call.services.started) * times.SECOND),
        "Scope": "local",
        "Driver": _DRIVERS[name],
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": None},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }
