"""The daemon's own description of its API, as OpenAPI 3.1: GET /buildtool/v1/openapi.json.

It is read from what there is and cannot lag behind: paths and methods from the route tables, texts from the handlers'
docstrings, query parameters from the handlers' own calls of `call.text`, `call.flag` and the like, bodies from the
types that decode them.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

import msgspec

import buildtool
from buildtool.containers.execs import ExecRequest, StartRequest
from buildtool.containers.model import Config, HostConfig
from buildtool.daemon.routes_own import BootstrapBody, BuildBody, GcBody
from buildtool.daemon.routing import Route

Json = dict[str, Any]
_QUERY: dict[str, Json] = {
    "flag": {"type": "boolean"},
    "number": {"type": "integer"},
    "text": {"type": "string"},
    "texts": {"type": "array", "items": {"type": "string"}},
    "document": {"type": "string", "contentMediaType": "application/json"},
}
_FILTERS: Json = {**_QUERY["document"], "description": 'names to lists of values: {"label": ["a=b"]}'}
_BODIES: dict[tuple[str, str], type] = {
    ("POST", "/containers/{id}/exec"): ExecRequest,
    ("POST", "/exec/{id}/start"): StartRequest,
    ("POST", "/containers/{id}/update"): HostConfig,
    ("POST", "/commit"): Config,
    ("POST", "/buildtool/v1/build"): BuildBody,
    ("POST", "/buildtool/v1/buildfile"): BuildBody,
    ("POST", "/buildtool/v1/bootstrap"): BootstrapBody,
    ("POST", "/buildtool/v1/gc"): GcBody,
}
_REF = "#/components/schemas/{name}"
_ERROR: Json = {
    "type": "object",
    "required": ["message"],
    "properties": {"message": {"type": "string"}, "code": {"type": "string"}},
}
_TEXT: Json = {"type": "string"}
_TEXTS: Json = {"type": "object", "additionalProperties": _TEXT}
_BY_HAND: dict[tuple[str, str], dict[str, Json]] = {
    ("POST", "/networks/create"): {
        "Name": _TEXT,
        "Driver": _TEXT,
        "Internal": {"type": "boolean"},
        "Attachable": {"type": "boolean"},
        "EnableIPv4": {"type": "boolean"},
        "EnableIPv6": {"type": "boolean"},
        "IPAM": {
            "type": "object",
            "properties": {
                "Driver": _TEXT,
                "Options": _TEXTS,
                "Config": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "Subnet": _TEXT,
                            "IPRange": _TEXT,
                            "Gateway": _TEXT,
                            "AuxiliaryAddresses": _TEXTS,
                        },
                    },
                },
            },
        },
        "Options": _TEXTS,
        "Labels": _TEXTS,
    },
    ("POST", "/networks/{id}/connect"): {"Container": _TEXT, "EndpointConfig": {"type": "object"}},
    ("POST", "/networks/{id}/disconnect"): {"Container": _TEXT, "Force": {"type": "boolean"}},
    ("POST", "/volumes/create"): {"Name": _TEXT, "Driver": _TEXT, "DriverOpts": _TEXTS, "Labels": _TEXTS},
    ("POST", "/auth"): {"username": _TEXT, "password": _TEXT, "serveraddress": _TEXT, "identitytoken": _TEXT},
}


@dataclass
class _Reads:
    """What a handler takes from its call."""

    query: dict[str, Json] = field(default_factory=dict)
    json: bool = False
    raw: bool = False


def describe(routes: Iterator[Route] | list[Route]) -> Json:
    """The whole document for these routes."""
    types = tuple(dict.fromkeys([Config, HostConfig, *_BODIES.values()]))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    named = {kind.__name__: schema for kind, schema in zip(types, schemas, strict=True)}
    create = components["Config"]
    components["ContainerCreate"] = {
        **create,
        "title": "ContainerCreate",
        "properties": {
            **create["properties"],
            "HostConfig": {"$ref": _REF.format(name="HostConfig")},
            "NetworkingConfig": {
                "type": "object",
                "properties": {"EndpointsConfig": {"type": "object", "additionalProperties": {"type": "object"}}},
            },
        },
    }
    components["Error"] = _ERROR
    paths: dict[str, Json] = {}
    for route in sorted(routes, key=lambda one: (one.pattern, one.method)):
        path = re.sub(r"\{(\w+):path\}", r"{\1}", route.pattern)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, named)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "buildtool",
            "version": buildtool.__version__,
            "description": "The Docker Engine API as this daemon serves it, and its additions. "
            "Every path is also there below /v1.24 to /v1.50.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(route: Route, named: dict[str, Json]) -> Json:
    reads = reads_of(route.handler)
    text = " ".join((inspect.getdoc(route.handler) or "").split())
    names = re.findall(r"\{(\w+)(?::path)?\}", route.pattern)
    parameters = [{"name": one, "in": "path", "required": True, "schema": {"type": "string"}} for one in names]
    parameters += [{"name": one, "in": "query", "schema": schema} for one, schema in sorted(reads.query.items())]
    body = _body(route, reads, named)
    error = {"application/json": {"schema": {"$ref": _REF.format(name="Error")}}}
    return {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.pattern}").strip("_"),
        "summary": text,
        "tags": [route.pattern.split("/")[1] or "system"],
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": body} if body else {}),
        "responses": {
            "2XX": {"description": "done, or a stream of what happens"},
            "default": {"description": "refused", "content": error},
        },
    }


def _body(route: Route, reads: _Reads, named: dict[str, Json]) -> Json | None:
    if (route.method, route.pattern) == ("POST", "/containers/create"):
        schema: Json = {"$ref": _REF.format(name="ContainerCreate")}
        return {"required": True, "content": {"application/json": {"schema": schema}}}
    kind = _BODIES.get((route.method, route.pattern))
    if kind is not None:
        return {"content": {"application/json": {"schema": named[kind.__name__]}}}
    if reads.json:
        properties = _BY_HAND.get((route.method, route.pattern))
        schema = {"type": "object", **({"properties": properties} if properties else {})}
        return {"content": {"application/json": {"schema": schema}}}
    if reads.raw:
        return {"content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}}
    return None


@functools.cache
def reads_of(handler: Callable[..., Any]) -> _Reads:
    """What the handler, and the functions that it passes its call on to, read of the request."""
    found = _Reads()
    _read(handler, {}, found, set())
    return found


def _read(function: Any, known: dict[str, str], found: _Reads, seen: set[Any]) -> None:
    """Read one function; `known` are the texts that its caller gave for its parameters."""
    ours = isinstance(function, FunctionType) and function.__module__.startswith("buildtool.daemon")
    key = (function, *known.items())
    if not ours or key in seen:
        return
    seen.add(key)
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and _is_call(node.func.value):
            _note(node.func.attr, node, known, found)
        elif any(map(_is_call, node.args)):
            for one in (node.func, *node.args):  # `offload(f, call)` calls f
                called = _resolve(one, function)
                _read(called, _texts(called, node) if one is node.func else {}, found, seen)
        if any(map(_is_request, node.args)):
            found.raw = True


def _texts(function: Any, node: ast.Call) -> dict[str, str]:
    """The parameters of the called function that are given as plain texts."""
    if not isinstance(function, FunctionType):
        return {}
    pairs = zip(inspect.signature(function).parameters, node.args, strict=False)
    return {
        name: argument.value
        for name, argument in pairs
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def _note(attribute: str, node: ast.Call, known: dict[str, str], found: _Reads) -> None:
    if attribute == "filters":
        found.query["filters"] = _FILTERS
    elif attribute == "json":
        found.json = True
    elif attribute == "body":
        found.raw = True
    elif attribute in _QUERY and node.args:
        first = node.args[0]
        name = first.value if isinstance(first, ast.Constant) else known.get(getattr(first, "id", ""))
        if isinstance(name, str):
            found.query[name] = _QUERY[attribute]


def _is_call(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "call"


def _is_request(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "request" and _is_call(node.value)


def _resolve(node: ast.expr, function: FunctionType) -> Any:
    """The function that a called name or attribute of a module means; None for what is something else."""
    if isinstance(node, ast.Name):
        return function.__globals__.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = function.__globals__.get(node.value.id)
        return getattr(module, node.attr, None) if isinstance(module, ModuleType) else None
    return None
