"""Whatever is asked of the API: an answer with a status that blames the right side, and a message. Never a 500."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any
from urllib.parse import quote

import pytest

from buildtool.daemon.api import make_router
from buildtool.daemon.routing import Route
from tests.conftest import Daemon

# These wait for the end of something or stream without end; the others answer at once.
_ENDLESS = {"/events", "/containers/{id}/stats", "/containers/{id}/wait"}
_OUTSIDE = {"/buildtool/v1/bootstrap", "/auth", "/distribution/{name:path}/json", "/images/search"}
_BODIES: list[Any] = [
    b"",
    b"\x00\xff",
    b"[]",
    b"null",
    b'{"',
    {},
    {"Image": 5},
    {"Cmd": "x", "HostConfig": []},
    {"Name": {}},
]
_VALUES = ["", "nope", "a b", "../..", "%ff", "-1", "9" * 40, "{}", '{"x":', "[1]", "\u00e4" * 300]
_NAMES = [
    "tag",
    "repo",
    "filters",
    "signal",
    "condition",
    "h",
    "w",
    "limit",
    "since",
    "tail",
    "path",
    "fromSrc",
    "platform",
    "name",
    "changes",
]


def all_routes() -> list[Route]:
    router = make_router()
    routes = list(router._literal.values())
    routes += [route for patterns in router._patterns.values() for _, route in patterns]
    return sorted(routes, key=lambda route: (route.pattern, route.method))


def path_of(pattern: str, value: str) -> str:
    return re.sub(r"\{\w+(:path)?\}", quote(value, safe="") or "x", pattern)


def check(daemon: Daemon, method: str, path: str, body: Any) -> None:
    status, answer = daemon.raw(method, path, body)
    seen = f"{method} {path} {body!r}: {status} {answer[:300]!r}"
    assert status not in (500, 502, 504, 507), seen
    if status >= 400 and method != "HEAD":
        assert json.loads(answer)["message"], seen


INSIDE = [route for route in all_routes() if route.pattern not in _OUTSIDE]


@pytest.mark.parametrize("route", INSIDE, ids=lambda route: f"{route.method} {route.pattern}")
def test_nonsense_is_refused_politely(daemon: Daemon, busybox_image: str, container: Any, route: Route) -> None:
    identity = container("sleep", "60", start=False, StopTimeout=0) if "{id}" in route.pattern else ""
    if route.pattern == "/events":
        return
    for value in ("nope", "a%b", "x" * 300):
        check(daemon, route.method, path_of(route.pattern, value), None if route.method in ("GET", "HEAD") else {})
    targets = [path_of(route.pattern, identity or "nope")]
    if route.pattern in _ENDLESS:
        return
    if route.method not in ("GET", "HEAD"):
        for body in _BODIES:
            check(daemon, route.method, targets[0], body)
    if route.pattern.endswith("/prune") or route.method == "DELETE":
        return
    for number, value in enumerate(_VALUES):
        query = "&".join(f"{name}={quote(value)}" for name in _NAMES[number % 3 :: 3])
        check(daemon, route.method, f"{targets[0]}?{query}", None if route.method in ("GET", "HEAD") else {})


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /info HTTP/1.1\r\nHost: d\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\nHost: d\r\n\r\n", 400),
        (b"GET /info HTTP/1.1\r\nHost: d\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /v1.51/info HTTP/1.1\r\nHost: d\r\n\r\n", 400),
        (b"GET /v1.23/info HTTP/1.1\r\nHost: d\r\n\r\n", 400),
        (b"GET /v999999999999999999999999.1/info HTTP/1.1\r\nHost: d\r\n\r\n", 400),
        (b"GET /images/a%00b/json HTTP/1.1\r\nHost: d\r\n\r\n", 400),
        (b"POST /build?dockerfile=a%00 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n", 400),
        (b"BREW /info HTTP/1.1\r\nHost: d\r\n\r\n", 400),
        (b"PATCH /info HTTP/1.1\r\nHost: d\r\n\r\n", 404),
    ],
)
def test_malformed_requests(daemon: Daemon, request_bytes: bytes, status: int) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(daemon.socket)
        client.sendall(request_bytes)
        assert int(client.recv(65536).split()[1]) == status
    assert daemon.request("GET", "/version")


def test_a_build_ends_when_its_client_goes(daemon: Daemon, busybox_image: str) -> None:
    marker = f"31{time.monotonic_ns() % 10**6:06d}"
    body = json.dumps({"dockerfile": f"FROM {busybox_image}\nRUN sleep {marker}\n"}).encode()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(daemon.socket)
        head = "POST /buildtool/v1/build HTTP/1.1\r\nHost: d\r\nContent-Type: application/json"
        client.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        assert eventually(lambda: running(marker))
    assert eventually(lambda: not running(marker))


def running(marker: str) -> bool:
    from pathlib import Path

    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == f"sleep\0{marker}\0".encode():
                return True
        except OSError:
            continue
    return False


def eventually(condition: Any, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
