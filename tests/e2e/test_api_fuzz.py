"""Requests made from the daemon's own description of its API, wild ones among them: none is answered by a 500.

`make fuzz` tries more requests for each operation (FUZZ=200 says how many). No operation is left out; where any value
would reach out of this machine, install packages or wait for ever, the parameter that decides it gets values that do
not (`_TAME`): registries are at a port where nobody listens.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildtool.daemon.api import make_router
from buildtool.daemon.openapi import describe
from tests.conftest import Daemon, load_busybox

Json = dict[str, Any]
EXAMPLES = int(os.environ.get("BUILDTOOL_FUZZ", "2"))
_NOBODY = st.sampled_from(
    ["127.0.0.1:1/x", "127.0.0.1:1/a/b:c", "127.0.0.1:1/x@sha256:1", "../x", "a:b:c", "é\u0000", ""]
)
_TAME: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "/images/create": {
        "fromImage": _NOBODY,
        "fromSrc": st.sampled_from(["-", "", "http://127.0.0.1:1/x", "127.0.0.1:1", "ftp://x"]),
    },
    "/images/{name}/push": {"name": _NOBODY, "image": _NOBODY},
    "/distribution/{name}/json": {"name": _NOBODY},
    "/images/search": {"term": _NOBODY},
    "/events": {"until": st.sampled_from(["0", "1", "-1", "x", "1.5"])},
    "/containers/{id}/wait": {"condition": st.sampled_from(["", "not-running", "x"])},
    "/build": {"remote": st.sampled_from(["http://127.0.0.1:1/x", "git://127.0.0.1:1/x.git", "nope", "file:///x"])},
}
# Bodies likewise: a field that decides where the request goes.
_TAME_BODY: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "/auth": {"serveraddress": st.sampled_from(["127.0.0.1:1", "http://127.0.0.1:1/v1/", "a b", "\u0000"])},
    "/buildtool/v1/bootstrap": {"base": st.sampled_from(["", "nope", "../x", "é"])},
}
_UNREACHABLE = b"cannot reach the registry 127.0.0.1:1"
_REFUSALS = {500, 502, 504, 507}
_TEXTS = st.sampled_from(
    ["", "x", "0", "-1", "nope", "busybox", "a/b", "../x", "a:b:c", "é\u0000", "%", "9" * 25, "y" * 300]
)
_NUMBERS = st.sampled_from([0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**30])

DOCUMENT = describe(list(make_router()))
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def anything(depth: int = 1) -> st.SearchStrategy[Any]:
    """Any JSON, not deep."""
    leaves = st.none() | st.booleans() | _NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS
    if depth == 0:
        return leaves
    inner = anything(depth - 1)
    return leaves | st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=2)


def of_schema(schema: Json, depth: int = 3) -> st.SearchStrategy[Any]:
    """Values that the schema allows, and now and then one that it does not."""
    return st.one_of(_valid(schema, depth), _valid(schema, depth), _valid(schema, depth), anything())


def _valid(schema: Json, depth: int) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _valid(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]], depth)
    if "anyOf" in schema:
        return st.one_of([_valid(one, depth) for one in schema["anyOf"]])
    kind = schema.get("type")
    if kind == "object":
        if depth == 0:
            return st.just({})
        known = schema.get("properties") or {}
        if known:
            chosen = st.lists(st.sampled_from(sorted(known)), max_size=3, unique=True)
            return chosen.flatmap(
                lambda names: st.fixed_dictionaries({n: of_schema(known[n], depth - 1) for n in names})
            )
        inner = schema.get("additionalProperties")
        values = of_schema(inner, depth - 1) if isinstance(inner, dict) else anything(0)
        return st.dictionaries(_TEXTS, values, max_size=2)
    if kind == "array":
        return st.lists(of_schema(schema.get("items") or {}, depth - 1) if depth else st.nothing(), max_size=2)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        "string": _TEXTS,
        "integer": _NUMBERS,
        "number": _NUMBERS,
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return simple.get(kind, anything(depth and 1))


@pytest.fixture(scope="module")
def own(make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon that may be maltreated."""
    daemon = make_daemon()
    load_busybox(daemon)
    yield daemon
    daemon.close()


@pytest.fixture(scope="module")
def target(own: Daemon) -> dict[str, str]:
    """Something real for each name of a path."""
    body = {"Image": "busybox", "Cmd": ["sleep", "1"], "StopTimeout": 0}
    identity = str(own.request("POST", "/containers/create?name=target", body)["Id"])
    own.request("POST", "/volumes/create", {"Name": "target"})
    return {"id": identity, "name": "target"}


def test_the_description_is_served_and_complete(own: Daemon) -> None:
    served = own.request("GET", "/buildtool/v1/openapi.json")
    assert served == json.loads(json.dumps(DOCUMENT))
    assert set(served["paths"]) >= {
        "/containers/create",
        "/build",
        "/images/{name}/json",
        "/buildtool/v1/openapi.json",
    }
    logs = served["paths"]["/containers/{id}/logs"]["get"]
    assert [one["name"] for one in logs["parameters"]][:3] == ["id", "details", "follow"]
    build = {one["name"] for one in served["paths"]["/build"]["post"]["parameters"]}
    wanted = (
        "dockerfile t extrahosts remote q nocache pull buildargs shmsize squash labels networkmode platform target"
    )
    assert set(wanted.split()) <= build
    memory = served["components"]["schemas"]["HostConfig"]["properties"]["Memory"]
    assert memory["type"] == "integer"


@pytest.mark.parametrize(
    ("method", "path", "operation"), OPERATIONS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_request_is_answered_by_a_500(
    own: Daemon, target: dict[str, str], method: str, path: str, operation: Json
) -> None:
    parameters = operation.get("parameters", ())
    tame = _TAME.get(path, {})
    names = {one["name"]: st.sampled_from([target.get(one["name"], "x"), "nope", "y" * 300, "a b"])
             for one in parameters if one["in"] == "path"}  # fmt: skip
    queries = {one["name"]: st.none() | of_schema(one["schema"]) for one in parameters
               if one["in"] == "query" and one["name"] not in ("follow", "stream")}  # fmt: skip
    if "remote" in queries and "name" in names:
        tame = {**tame, "name": _NOBODY}
    names |= {name: values for name, values in tame.items() if name in names}
    queries |= {name: values for name, values in tame.items() if name in queries}
    content = (operation.get("requestBody") or {}).get("content", {})
    body = (
        of_schema(content["application/json"]["schema"]) if "application/json" in content else st.binary(max_size=50)
    )

    @settings(max_examples=EXAMPLES, database=None, derandomize=EXAMPLES < 10,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(
        st.fixed_dictionaries(names),
        st.fixed_dictionaries(queries),
        body if method != "GET" else st.none(),
        st.fixed_dictionaries(_TAME_BODY.get(path, {})),
    )
    def attempt(names: dict[str, str], query: Json, body: Any, fixed: Json) -> None:
        url = path
        for name, value in names.items():
            url = url.replace(f"{{{name}}}", quote(value, safe=""))
        given = {name: value for name, value in query.items() if value is not None}
        flat = {name: value if isinstance(value, (str, list)) else json.dumps(value) for name, value in given.items()}
        if path in _TAME_BODY and (body is None or isinstance(body, dict)):  # null is the default registry
            body = {**(body or {}), **fixed}
        if "logs" in path or "stats" in path or "attach" in path:
            flat |= {"follow": "0", "stream": "0", "one-shot": "1"}
        encoded = urlencode(flat, doseq=True, errors="replace")
        data = json.dumps(body).encode() if "application/json" in content else body
        headers = {"Content-Type": "application/json"} if "application/json" in content else None
        status, answer = own.raw(method, f"{url}?{encoded}" if encoded else url, data, headers)
        if status == 500 and _UNREACHABLE in answer:  # as Docker answers for a registry that is not there
            return
        assert status not in _REFUSALS, f"{method} {url}?{encoded} {data!r}: {status} {answer[:400]!r}"
        if status >= 400 and method != "HEAD":
            assert json.loads(answer)["message"]

    attempt()
