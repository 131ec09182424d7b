"""The description of the API, made when it is first asked for."""

from __future__ import annotations

import functools
from typing import Any

from aiohttp import web

from buildtool.aio import offload
from buildtool.daemon.answers import json_answer
from buildtool.daemon.call import Call
from buildtool.daemon.routing import Routes

routes = Routes()


@routes.add("GET", "/buildtool/v1/openapi.json")
async def openapi(call: Call) -> web.StreamResponse:
    """This description."""
    return json_answer(await offload(_document))


@functools.cache
def _document() -> dict[str, Any]:
    from buildtool.daemon.api import make_router
    from buildtool.daemon.openapi import describe

    return describe(list(make_router()))
