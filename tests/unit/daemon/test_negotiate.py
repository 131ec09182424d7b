"""API versions and the route table."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from buildtool.daemon import answers
from buildtool.daemon.api import make_router
from buildtool.daemon.call import Call
from buildtool.daemon.negotiate import negotiate, split_version
from buildtool.daemon.routing import Routes
from buildtool.errors import Conflict, InvalidInput, NotModified, StepFailed


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1.43/info", ("1.43", "/info")),
        ("/info", ("", "/info")),
        ("/v1.43", ("", "/v1.43")),
        ("/volumes", ("", "/volumes")),
        ("/v1.24/images/a/v1.30/json", ("1.24", "/images/a/v1.30/json")),
    ],
)
def test_version_prefix_is_split_off(path: str, expected: tuple[str, str]) -> None:
    assert split_version(path) == expected


def test_versions_outside_of_ours_are_refused_in_docker_s_words() -> None:
    assert negotiate("") == (1, 50)
    assert negotiate("1.24") == (1, 24)
    with pytest.raises(
        InvalidInput, match=r"^client version 1.51 is too new. Maximum supported API version is 1.50$"
    ):
        negotiate("1.51")
    with pytest.raises(
        InvalidInput, match=r"^client version 1.12 is too old. Minimum supported API version is 1.24, ple"
    ):
        negotiate("1.12")


@pytest.mark.parametrize(
    ("method", "path", "pattern", "names"),
    [
        ("GET", "/images/json", "/images/json", {}),
        ("GET", "/images/get", "/images/get", {}),
        ("GET", "/images/a/b:c/json", "/images/{name:path}/json", {"name": "a/b:c"}),
        ("GET", "/images/host:5000/json/json", "/images/{name:path}/json", {"name": "host:5000/json"}),
        ("DELETE", "/images/a/b", "/images/{name:path}", {"name": "a/b"}),
        ("POST", "/containers/prune", "/containers/prune", {}),
        ("POST", "/containers/abc/start", "/containers/{id}/start", {"id": "abc"}),
        ("POST", "/swarm/init", "/swarm/init", {}),
        ("POST", "/swarm/leave", "/swarm/{rest:path}", {"rest": "leave"}),
        ("HEAD", "/_ping", "/_ping", {}),
    ],
)
def test_routes_are_found(method: str, path: str, pattern: str, names: dict[str, str]) -> None:
    found = make_router().find(method, path)
    assert found is not None
    assert (found[0].pattern, found[1]) == (pattern, names)


@pytest.mark.parametrize(("method", "path"), [("PATCH", "/info"), ("GET", "/"), ("GET", "/containers/a/b/json")])
def test_other_paths_have_no_route(method: str, path: str) -> None:
    assert make_router().find(method, path) is None


def raising(error: BaseException) -> Routes:
    routes = Routes()

    @routes.add("GET", "/x")
    async def handler(call: Call) -> web.StreamResponse:
        raise error

    @routes.add("POST", "/json")
    async def echo(call: Call) -> web.StreamResponse:
        return answers.json_answer({"body": await call.json(), "filters": call.filters(), "flag": call.flag("flag")})

    @routes.add("GET", "/stream", stream=True)
    async def stream(call: Call) -> web.StreamResponse:
        async with answers.json_lines(call) as out:
            await out.line({"stream": "one"})
            raise error
        return out.response

    return routes


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (Conflict("in use"), 409, "in use"),
        (StepFailed("failed", hint="do this"), 500, "failed\\ndo this"),
        (ValueError("boom"), 500, "internal error of the daemon: ValueError: boom (its log has the details)"),
    ],
)
async def test_errors_are_json_with_their_status(serve: Any, error: BaseException, status: int, message: str) -> None:
    served = await serve(raising(error))
    head, body = await served.ask(b"GET /v1.30/x HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Api-Version: 1.50" in head
    assert body == f'{{"message":"{message}"}}\n'.encode()


async def test_not_modified_has_no_body(serve: Any) -> None:
    served = await serve(raising(NotModified("runs")))
    head, body = await served.ask(b"GET /x HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
    assert (head[:12], body) == (b"HTTP/1.1 304", b"")


async def test_unknown_paths_and_versions(serve: Any) -> None:
    served = await serve(raising(ValueError()))
    _, body = await served.ask(b"GET /v1.50/nothing HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
    assert body == b'{"message":"page not found"}\n'
    head, body = await served.ask(b"GET /v1.99/x HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"client version 1.99 is too new" in body


async def test_an_error_in_a_stream_is_its_last_line(serve: Any) -> None:
    served = await serve(raising(StepFailed("the command failed", exit_code_of_step=3)))
    head, body = await served.ask(b"GET /stream HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b'{"stream":"one"}\r\n' in body
    detail = b'{"errorDetail":{"code":3,"message":"the command failed"},"error":"the command failed"}\r\n'
    assert detail in body


@pytest.mark.parametrize(
    ("content_type", "body", "status", "says"),
    [
        (b"application/json", b'{"a": 1}', 200, b'{"body":{"a":1},"filters":{"l":["x"]},"flag":true}'),
        (b"application/json; charset=utf-8", b"{}", 200, b'"body":{}'),
        (b"text/plain", b"{}", 400, b"must be 'application/json'"),
        (b"application/json", b"", 400, b"got EOF"),
        (b"application/json", b"[1]", 400, b"not an object"),
        (b"application/json", b'{"a": ', 400, b"invalid JSON"),
        (b"application/json", b"\xff\xfe", 400, b"invalid JSON"),
    ],
)
async def test_bodies(serve: Any, content_type: bytes, body: bytes, status: int, says: bytes) -> None:
    served = await serve(raising(ValueError()))
    query = b'/json?flag=1&filters={"l":{"x":true,"y":false}}'
    head, answer = await served.ask(
        b"POST %s HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
        % (query, content_type, len(body), body)
    )
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert says in answer
