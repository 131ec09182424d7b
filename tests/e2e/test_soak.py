"""Many containers at once for long, with the daemon killed in between: nothing is lost, and nothing is left.

`BUILDTOOL_SOAK=500 pytest tests/e2e/test_soak.py` makes it long: 500 containers, 20 at a time, five kills.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from buildtool.networks import kernel
from tests.conftest import Daemon, Http, load_busybox

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looks into control groups and network namespaces")
COUNT = int(os.environ.get("BUILDTOOL_SOAK", "40"))
AT_ONCE = 20
LINES = 300
_GONE = (OSError, http.client.HTTPException)


@pytest.fixture
def own(make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    daemon = make_daemon()
    load_busybox(daemon)
    yield daemon
    daemon.close()


class Patient:
    """Calls that survive the daemon: while it is away they are made again. `made` is the ids of all containers."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.made: set[str] = set()

    def __call__(
        self, method: str, path: str, body: Any = None, *, allowed: tuple[int, ...] = ()
    ) -> tuple[int, bytes]:
        deadline = time.monotonic() + 60
        while True:
            try:
                status, answer = self._daemon.raw(method, path, body)
            except _GONE:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            assert status < 400 or status in allowed, f"{method} {path}: {status} {answer[:300]!r}"
            return status, answer

    def document(self, path: str) -> Any:
        return json.loads(self("GET", path)[1])


def payload(frames: bytes) -> bytes:
    """The data of multiplexed frames."""
    data = b""
    while frames:
        size = int.from_bytes(frames[4:8], "big")
        data, frames = data + frames[8 : 8 + size], frames[8 + size :]
    return data


def live(call: Patient, number: int, prefix: str) -> None:
    """One container from create to remove, as a client sees it."""
    name, code = f"{prefix}-{number}", number % 7
    count = f"i=0; while [ $i -lt {LINES} ]; do echo $i; i=$((i+1)); done"
    script = f"{count}; while [ ! -e /go ]; do sleep 0.02; done; exit {code}"
    body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": {"Init": number % 3 == 0}}
    call("POST", f"/containers/create?name={name}", body, allowed=(409,))
    call.made.add(call.document(f"/containers/{name}/json")["Id"])
    call("POST", f"/containers/{name}/start")
    output = b""
    while output != b"in\n":  # an exec dies with nobody, but its output goes to whoever asked
        wanted = {"Cmd": ["sh", "-c", "echo in; touch /go"], "AttachStdout": True}
        _, answer = call("POST", f"/containers/{name}/exec", wanted, allowed=(409,))
        identity = json.loads(answer).get("Id")
        if identity is None:  # the exec before did its work; only its output was cut off
            break
        output = payload(call("POST", f"/exec/{identity}/start", {}, allowed=(404, 409))[1]) or b"?"
        if not output.startswith(b"in"):
            output = b""
    while (state := call.document(f"/containers/{name}/json")["State"])["Running"]:
        time.sleep(0.02)
    assert state["ExitCode"] == code, state
    log = payload(call("GET", f"/containers/{name}/logs?stdout=1")[1])
    assert log == b"".join(b"%d\n" % line for line in range(LINES)), log[-200:]
    call("DELETE", f"/containers/{name}?v=1", allowed=(404,))


def left_of(daemon: Daemon, made: set[str]) -> dict[str, Any]:
    """What containers of this daemon still occupy on the machine, by kind; nothing when all is given back."""
    mark = str(daemon.root)
    directory = daemon.data / "containers"
    parents = [f"/sys/fs/cgroup/{name}/buildtool" for name in (".", *os.listdir("/sys/fs/cgroup"))]
    found: dict[str, Any] = {
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{mark}/" in line],
        "control groups": [f"{place}/{one}" for place in parents for one in made if os.path.exists(f"{place}/{one}")],
        "directories": [name for name in os.listdir(directory) if not name.startswith(".")],
        "processes": [pid for pid in os.listdir("/proc") if pid.isdigit() and _group_of(pid) & made],
        "veths": [link.name for link in kernel.own_links(kernel.Names(daemon.data))[1]],
    }
    return {kind: what for kind, what in found.items() if what}


def _group_of(pid: str) -> set[str]:
    try:
        return set(Path(f"/proc/{pid}/cgroup").read_text().replace("\n", "/").split("/"))
    except OSError:
        return set()


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def settled(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """What the condition gives once it is empty (or at last)."""
    deadline = time.monotonic() + seconds
    while (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def storm(call: Patient, prefix: str, count: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for one in [pool.submit(live, call, number, prefix) for number in range(count)]:
            one.result()


def test_nothing_is_left_of_many_containers_and_memory_is_flat(own: Daemon) -> None:
    call = Patient(own)
    storm(call, "warm", AT_ONCE)
    assert call.document("/containers/json?all=1") == []
    before = (len(os.listdir(f"/proc/{own.pid}/fd")), resident(own.pid))

    storm(call, "soak", COUNT)

    assert settled(lambda: left_of(own, call.made)) == {}
    call.document("/containers/json?all=1")
    descriptors = settled(lambda: max(0, len(os.listdir(f"/proc/{own.pid}/fd")) - before[0] - 2))
    assert not descriptors
    assert resident(own.pid) - before[1] < 8 * 1024 + COUNT * 8, "KiB"


def test_a_daemon_killed_in_the_storm_loses_nothing(own: Daemon) -> None:
    call = Patient(own)
    ticking = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done"
    call("POST", "/containers/create?name=ticker", {"Image": "busybox", "Cmd": ["sh", "-c", ticking]})
    call("POST", "/containers/ticker/start")
    pid = call.document("/containers/ticker/json")["State"]["Pid"]
    done = threading.Event()

    def kill_now_and_then() -> None:
        for _ in range(2 if COUNT <= 100 else 5):
            if done.wait(0.7):
                return
            own.kill()
            own.start()

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        storm(call, "killed", COUNT)
    finally:
        done.set()
        killer.join()

    state = call.document("/containers/ticker/json")["State"]
    assert (state["Running"], state["Pid"]) == (True, pid)
    call("POST", "/containers/ticker/kill")
    numbers = [int(line) for line in payload(call("GET", "/containers/ticker/logs?stdout=1")[1]).split()]
    assert numbers == list(range(len(numbers)))
    call("DELETE", "/containers/ticker")
    assert call.document("/containers/json?all=1") == []
    assert settled(lambda: left_of(own, call.made)) == {}
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        raise AssertionError(f"process {pid} is still there")


def test_auto_removed_containers_answer_their_waiters_and_go(own: Daemon) -> None:
    """As `docker run --rm` does: attached and waiting before the start, for the exit and for the removal."""

    def once(number: int) -> tuple[int, int, bytes]:
        body = {"Image": "busybox", "Cmd": ["sh", "-c", f"echo {number}; exit {number % 5}"], "AttachStdout": True,
                "HostConfig": {"AutoRemove": True}}  # fmt: skip
        identity = own.request("POST", "/containers/create", body)["Id"]
        made.add(identity)
        streams = [Http(own.socket) for _ in range(3)]
        targets = ("attach?stream=1&stdout=1", "wait?condition=next-exit", "wait?condition=removed")
        for connection, target in zip(streams, targets, strict=True):
            connection.request("POST", f"/containers/{identity}/{target}", headers={"Content-Length": "0"})
        answers = [connection.getresponse() for connection in streams]  # the heads come before the start
        own.request("POST", f"/containers/{identity}/start")
        output, ended, removed = (answer.read() for answer in answers)
        gone = own.raw("GET", f"/containers/{identity}/json")[0]
        for connection in streams:
            connection.close()
        assert (json.loads(removed)["StatusCode"], gone) == (number % 5, 404)
        return number, json.loads(ended)["StatusCode"], payload(output)

    made: set[str] = set()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(once, range(COUNT)))
    assert found == [(number, number % 5, b"%d\n" % number) for number in range(COUNT)]
    assert settled(lambda: left_of(own, made)) == {}
