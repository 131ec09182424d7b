"""The Engine API itself, call by call, the same requests to both daemons: containers, exec, lists, logs, attach."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.bench.rows import Row
from tests.bench.sides import Side
from tests.conftest import Http

if TYPE_CHECKING:
    from tests.bench.__main__ import Bench

_MANY = 200
_LOG_BYTES = 100 << 20
_ATTACH_BYTES = 256 << 20


class Api:
    """One connection to one side."""

    def __init__(self, side: Side) -> None:
        self.socket = side.environment["DOCKER_HOST"].removeprefix("unix://")
        self._connection = Http(self.socket)

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        except (BrokenPipeError, http.client.CannotSendRequest):
            self._connection.close()
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {data!r}")
        return json.loads(data) if data.strip().startswith((b"{", b"[")) else data

    def create(self, *command: str, driver: str = "json-file") -> str:
        host = {"NetworkMode": "none", "LogConfig": {"Type": driver}}
        body = {"Image": "busybox:latest", "Cmd": list(command), "AttachStdout": True, "HostConfig": host}
        return str(self("POST", "/containers/create", body)["Id"])

    def started(self, *command: str) -> str:
        identity = self.create(*command)
        self("POST", f"/containers/{identity}/start")
        return identity

    def remove(self, identity: str) -> None:
        self("DELETE", f"/containers/{identity}?force=1")


def _life(api: Api) -> float:
    begin = time.perf_counter()
    identity = api.create("true")
    api("POST", f"/containers/{identity}/start")
    api("POST", f"/containers/{identity}/wait")
    api("DELETE", f"/containers/{identity}")
    return time.perf_counter() - begin


def _exec(api: Api, identity: str) -> float:
    begin = time.perf_counter()
    body = {"Cmd": ["echo", "hi"], "AttachStdout": True, "AttachStderr": True}
    further = api("POST", f"/containers/{identity}/exec", body)["Id"]
    other = Http(api.socket)
    other.request("POST", f"/exec/{further}/start", "{}", {"Content-Type": "application/json"})
    output = other.getresponse().read()
    other.close()
    assert output.endswith(b"hi\n"), output
    api("GET", f"/exec/{further}/json")
    return time.perf_counter() - begin


def _timed(api: Api, path: str) -> float:
    begin = time.perf_counter()
    api("GET", path)
    return time.perf_counter() - begin


def _read(api: Api, path: str) -> float:
    """Read a long answer in pieces and drop it."""
    begin = time.perf_counter()
    connection = Http(api.socket)
    connection.request("GET", path)
    answer = connection.getresponse()
    while answer.read(1 << 20):
        pass
    connection.close()
    return time.perf_counter() - begin


def _attach(api: Api) -> float:
    """From the start to the last byte of an attached container's output; nothing is logged."""
    identity = api.create("head", "-c", str(_ATTACH_BYTES), "/dev/zero", driver="none")
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(api.socket)
        head = f"POST /containers/{identity}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\n"
        stream.sendall(f"{head}Upgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode())
        assert stream.recv(4096).startswith(b"HTTP/1.1 101")
        begin = time.perf_counter()
        api("POST", f"/containers/{identity}/start")
        buffer, total = bytearray(1 << 20), 0
        while count := stream.recv_into(buffer):
            total += count
        seconds = time.perf_counter() - begin
    assert total >= _ATTACH_BYTES
    api.remove(identity)
    return seconds


def compare(bench: Bench) -> Iterator[Row]:
    """The figures of containers over the API."""
    ours, docker = Api(bench.ours), Api(bench.docker)
    yield Row("API: create, start, wait, remove", *bench.compare(lambda: _life(ours), lambda: _life(docker)), 0.15)
    running = {api: api.started("sleep", "3600") for api in (ours, docker)}
    pair = bench.compare(lambda: _exec(ours, running[ours]), lambda: _exec(docker, running[docker]))
    yield Row("API: exec of `echo`", *pair, 0.3)
    many = {api: [api.create("true") for _ in range(_MANY)] for api in (ours, docker)}
    path = "/containers/json?all=1"
    pair = bench.compare(lambda: _timed(ours, path), lambda: _timed(docker, path))
    yield Row(f"API: list of {_MANY} containers", *pair, 1.0)
    command = ("ps", "-a")
    pair = bench.compare(
        lambda: bench.ours.run(*command, cli=bench.docker.stock),
        lambda: bench.docker.run(*command, cli=bench.docker.stock),
    )
    yield Row(f"stock docker ps with {_MANY} containers", *pair, 1.0)
    for api, identities in many.items():
        for identity in (*identities, running[api]):
            api.remove(identity)
    few = max(3, bench.runs // 5)
    script = f"yes {'x' * 99} | head -c {_LOG_BYTES}"
    logged = {api: api.started("sh", "-c", script) for api in (ours, docker)}
    for api, identity in logged.items():
        api("POST", f"/containers/{identity}/wait")
    query = "stdout=1&stderr=1"
    pair = bench.compare(
        lambda: _read(ours, f"/containers/{logged[ours]}/logs?{query}"),
        lambda: _read(docker, f"/containers/{logged[docker]}/logs?{query}"),
        few,
    )
    yield Row("API: logs of 100 MB", *pair, 1.0)
    tail = f"{query}&tail=10"
    pair = bench.compare(
        lambda: _read(ours, f"/containers/{logged[ours]}/logs?{tail}"),
        lambda: _read(docker, f"/containers/{logged[docker]}/logs?{tail}"),
    )
    yield Row("API: the last 10 lines of 100 MB", *pair, 2.0)
    for api, identity in logged.items():
        api.remove(identity)
    yield Row("API: 256 MiB by attach", *bench.compare(lambda: _attach(ours), lambda: _attach(docker), few), 1.0)
