"""Playing the script on one engine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.compare.script import NAME, STEPS
from tests.conftest import Http, busybox_rootfs

VERSION = "v1.41"  # the newest that Debian's dockerd speaks
_START_SECONDS = 60


class Dockerd:
    """A dockerd with everything of its own, its network included: it touches nothing of this machine's.

    `alone=False`: it has no networks, and sees this machine's loopback.
    """

    def __init__(self, alone: bool = True) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="compare-", dir="/tmp"))
        self.socket = str(self.root / "docker.sock")
        before = "ip link set lo up; " if alone else ""
        network = "" if alone else " --bridge=none --ip-masq=false"
        command = (
            f"{before}exec dockerd --data-root {self.root}/data --exec-root {self.root}/exec "
            f"--pidfile {self.root}/pid -H unix://{self.socket} --iptables=false --ip6tables=false{network}"
        )
        with (self.root / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*(["unshare", "--net"] if alone else []), "sh", "-c", command],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not Path(self.socket).exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                text = (self.root / "log").read_text(errors="replace")[-2000:]
                self.close()
                raise RuntimeError(f"dockerd does not start: {text}")
            time.sleep(0.05)

    def close(self) -> None:
        """End it, and remove what is left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if (point := line.split()[4]).startswith(f"{self.root}/"):
                subprocess.run(["umount", "-l", point], check=False, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)


def play(socket: str) -> dict[str, Any]:
    """The answers to all steps: `{"status": …, "body": …}` by the steps' names."""
    import_busybox(socket)
    answers: dict[str, Any] = {}
    names = {"c": "nope", "e": "nope", "begin": str(time.time())}
    try:
        for step in STEPS:
            path = step.path
            for name, value in {**names, "now": str(time.time())}.items():
                path = path.replace(f"{{{name}}}", value)
            status, body = request(socket, step.method, f"/{VERSION}{path}", step.body)
            if status == 201 and isinstance(body, dict) and "Id" in body:
                if step.path.startswith("/containers/create"):
                    names["c"] = body["Id"]
                elif step.path.endswith("/exec"):
                    names["e"] = body["Id"]
            if step.name == "exec: start":
                _wait_for_exec(socket, names["e"])
            answers[step.name] = {"status": status, "body": _ordered(body)}
    finally:
        for name in (names["c"], NAME, "renamed"):
            request(socket, "DELETE", f"/{VERSION}/containers/{name}?force=1&v=1", None)
        request(socket, "DELETE", f"/{VERSION}/networks/net", None)
        for name in ("vol", "named"):
            request(socket, "DELETE", f"/{VERSION}/volumes/{name}", None)
    return answers


def _ordered(body: Any) -> Any:
    """Lists that have no order by a key of theirs."""
    if isinstance(body, dict):
        ordered = {key: _ordered(value) for key, value in body.items()}
        if isinstance(ordered.get("Mounts"), list):
            ordered["Mounts"] = sorted(ordered["Mounts"], key=lambda mount: str(mount.get("Destination")))
        return ordered
    if isinstance(body, list):
        members = [_ordered(member) for member in body]
        named = all(isinstance(member, dict) and "Name" in member for member in members)
        return sorted(members, key=lambda member: str(member["Name"])) if named else members
    return body


def request(socket: str, method: str, path: str, body: Any) -> tuple[int, Any]:
    """Status and decoded body (text when it is not JSON)."""
    connection = Http(socket)
    headers = {}
    if body is not None or method == "POST":
        headers["Content-Type"] = "application/json"
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    try:
        connection.request(method, path.replace('"', "%22"), data, headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    with contextlib.suppress(ValueError):
        return answer.status, json.loads(text)
    with contextlib.suppress(ValueError):
        return answer.status, [json.loads(line) for line in text.splitlines()]
    return answer.status, text.decode(errors="replace")


def _wait_for_exec(socket: str, identity: str) -> None:
    for _ in range(100):
        if not request(socket, "GET", f"/{VERSION}/exec/{identity}/json", None)[1]["Running"]:
            return
        time.sleep(0.05)


def import_busybox(socket: str) -> None:
    """Give an engine the image `busybox`."""
    connection = Http(socket)
    path = "/images/create?fromSrc=-&repo=busybox&tag=latest&changes=CMD%20%5B%22sh%22%5D"
    connection.request("POST", path, busybox_rootfs(), {"Content-Type": "application/x-tar"})
    answer = connection.getresponse().read()
    connection.close()
    assert b"errorDetail" not in answer, answer
