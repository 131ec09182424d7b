"""Bridge networks, ours and dockerd's: starts over the API, the hundredth container, transfers, the name server.

`python -m tests.bench.bench_networks [--runs N] [--seconds S]`. Each daemon has a network namespace of its own, so
that neither's packet filter meets the other's. Needs iperf3.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from buildtool.networks.kernel import in_namespace_of
from buildtool.networks.netlink import Netlink
from tests.bench.rows import Row
from tests.bench.sides import BUILDTOOL

_SLEEP = ["sleep", "3600"]
_SLICE = 5


class Api(http.client.HTTPConnection):
    """The Engine API over a unix socket, one connection."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Raises SystemExit for a refusal."""
        data = None if body is None else json.dumps(body)
        self.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        answer = self.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text) if text.strip() else None


class Peer:
    """A daemon in a network namespace of its own, which a sleeping process holds."""

    def __init__(self, name: str, root: Path, command: list[str], environment: dict[str, str]) -> None:
        self.name, self.root = name, root
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        time.sleep(0.2)
        in_namespace_of(self.holder.pid, _loopback)
        with (root / "log").open("wb") as log:
            self.daemon = subprocess.Popen(
                [*self.inside(), *command], env={**os.environ, **environment}, stdout=log, stderr=log
            )
        self.socket = root / "engine.sock"
        deadline = time.monotonic() + 30
        while not self.socket.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.api = Api(self.socket)

    def inside(self) -> list[str]:
        """What runs a command in the daemon's network namespace."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def start(self, network: str, *, config: dict[str, Any] | None = None) -> tuple[str, float]:
        """A sleeping container: its id and the seconds of the start."""
        body = {"Image": "busybox", "Cmd": _SLEEP, "HostConfig": {"NetworkMode": network, **(config or {})}}
        identity = self.api.call("POST", "/containers/create", body)["Id"]
        began = time.perf_counter()
        self.api.call("POST", f"/containers/{identity}/start")
        return identity, time.perf_counter() - began

    def remove(self, *identities: str) -> None:
        """Remove containers by force."""
        for identity in identities:
            self.api.call("DELETE", f"/containers/{identity}?force=1")

    def pid(self, identity: str) -> int:
        """Its first process."""
        return int(self.api.call("GET", f"/containers/{identity}/json")["State"]["Pid"])

    def address(self, identity: str) -> str:
        """Its address in its first network."""
        networks = self.api.call("GET", f"/containers/{identity}/json")["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def close(self) -> None:
        """Stop the daemon, let the namespace go."""
        self.daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.daemon.wait(30)
        self.holder.kill()
        self.holder.wait()
        points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
        for point in sorted((one for one in points if one.startswith(f"{self.root}/")), reverse=True):
            subprocess.run(["umount", "-l", point], check=False)


def _loopback() -> None:
    with Netlink() as netlink:
        netlink.set_up(1)


def ours(folder: Path) -> Peer:
    """Our daemon, with busybox."""
    folder.mkdir()
    environment = {"BUILDTOOL_ROOT": str(folder / "data"), "BUILDTOOL_HOST": f"unix://{folder}/engine.sock"}
    peer = Peer("buildtool", folder, [BUILDTOOL, "daemon"], environment)
    for arguments in (["image", "bootstrap", "busybox"], ["save", "-o", f"{folder}/busybox.tar", "busybox"]):
        subprocess.run([BUILDTOOL, *arguments], env={**os.environ, **environment}, check=True, capture_output=True)
    return peer


def docker(folder: Path, image: Path) -> Peer:
    """Debian's dockerd, with the same busybox."""
    if not shutil.which("dockerd"):
        raise SystemExit("no dockerd here: apt-get install docker.io")
    folder.mkdir()
    command = ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    command += ["--pidfile", f"{folder}/pid", "-H", f"unix://{folder}/engine.sock"]
    peer = Peer("docker", folder, command, {})
    peer.api.request("POST", "/images/load", image.read_bytes(), {"Content-Type": "application/x-tar"})
    peer.api.getresponse().read()
    return peer


def starts(a: Peer, b: Peer, runs: int) -> Iterator[Row | str]:
    """Interleaved starts on the default network, on a network with names, and with a published port."""
    published = {"PortBindings": {"80/tcp": [{"HostPort": ""}]}}
    for what, network, config in (
        ("start without a network", "none", None),
        ("start on bridge", "bridge", None),
        ("start on a user-defined network", "named", None),
        ("start on bridge with a published port", "bridge", published),
    ):
        seconds: dict[str, list[float]] = {a.name: [], b.name: []}
        for _ in range(runs):
            for peer in (a, b):
                identity, took = peer.start(network, config=config)
                seconds[peer.name].append(took)
                peer.remove(identity)
        yield Row(f"{what}, over the API", *(statistics.median(seconds[one.name]) for one in (a, b)), 0.2)


def hundredth(a: Peer, b: Peer, runs: int) -> Iterator[Row | str]:
    """The last ten of a hundred and ten containers of one network against the first ten."""
    for peer in (a, b):
        started = [peer.start("named") for _ in range(110)]
        first = statistics.median(took for _, took in started[:10])
        last = statistics.median(took for _, took in started[100:])
        peer.remove(*(identity for identity, _ in started))
        yield Row(f"{peer.name}: containers 101-110 of a network, first 10", last, first, 1.5)


def transfers(a: Peer, b: Peer, seconds: int) -> Iterator[Row | str]:
    """iperf3, each way for so long, in slices that take turns: Gbit/s, ours and dockerd's."""
    ends = {peer: (peer.start("named")[0], peer.start("named")[0]) for peer in (a, b)}
    for what in ("host to container", "container to host", "container to container"):
        slices = max(1, seconds // _SLICE)
        figures = [[_transfer(peer, what, ends[peer], seconds // slices) for peer in (a, b)] for _ in range(slices)]
        mine, theirs = (statistics.mean(column) for column in zip(*figures, strict=True))
        text = f"{mine:7.2f} Gbit/s{theirs:7.2f} Gbit/s{mine / theirs:7.2f} ≥ 0.9 ×"
        yield f"{what + f', {seconds} s':52}{text}  {'ok' if mine >= 0.9 * theirs else 'MISSED'}"
    for peer in (a, b):
        peer.remove(*ends[peer])


def _transfer(peer: Peer, what: str, ends: tuple[str, str], seconds: int) -> float:
    inside = [["nsenter", "-t", str(peer.pid(identity)), "-n"] for identity in ends]
    if what == "container to host":
        return _iperf(peer.inside(), inside[0], _gateway(peer), seconds)
    client = inside[1] if what == "container to container" else peer.inside()
    return _iperf(inside[0], client, peer.address(ends[0]), seconds)


def _gateway(peer: Peer) -> str:
    return str(peer.api.call("GET", "/networks/named")["IPAM"]["Config"][0]["Gateway"])


def _iperf(server: list[str], client: list[str], target: str, seconds: int) -> float:
    serving = subprocess.Popen([*server, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    try:
        done = subprocess.run(
            [*client, "iperf3", "-J", "-c", target, "-t", str(seconds)], capture_output=True, check=True
        )
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9
    finally:
        serving.terminate()
        serving.wait()


def names(a: Peer, b: Peer, runs: int) -> Iterator[Row | str]:
    """Questions a second about a container's name, 64 on their way at a time; none may be lost."""
    for peer in (a, b):
        identity = peer.start("named")[0]
        pid = peer.pid(identity)
        count, lost, seconds = in_namespace_of(pid, lambda identity=identity: _ask(identity[:12], 20_000))
        peer.remove(identity)
        verdict = "ok" if count / seconds >= 5000 and not lost else "MISSED"
        yield f"{peer.name + ': answers a second, lost':52}{count / seconds:9.0f}{lost:7}   ≥ 5000, 0  {verdict}"


def _ask(name: str, count: int) -> tuple[int, int, float]:
    label = name.encode()
    tail = b"\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("127.0.0.11", 53))
        asking.settimeout(3)
        sent = received = 0
        began = time.perf_counter()
        with contextlib.suppress(TimeoutError):
            while received < count:
                while sent < count and sent - received < 64:
                    head = struct.pack("!HHHHHH", sent & 0xFFFF, 0x100, 1, 0, 0, 0)
                    asking.send(head + bytes([len(label)]) + label + tail)
                    sent += 1
                asking.recv(512)
                received += 1
        return received, sent - received, time.perf_counter() - began


def main() -> None:
    cases: dict[str, Callable[[Peer, Peer, int], Iterator[Row | str]]] = {
        "starts": starts, "hundredth": hundredth, "transfers": transfers, "names": names
    }  # fmt: skip
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_networks")
    parser.add_argument("cases", nargs="*", choices=[*cases, []], help="all when none is named")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        mine = ours(folder / "ours")
        stack.callback(mine.close)
        theirs = docker(folder / "docker", folder / "ours/busybox.tar")
        stack.callback(theirs.close)
        for peer in (mine, theirs):
            peer.remove(peer.start("bridge")[0])
            with contextlib.suppress(SystemExit):
                peer.api.call("POST", "/networks/create", {"Name": "named"})
        print(f"{'':52}{'buildtool':>12}{'docker':>14}{'ratio':>8}   wanted")
        for name in options.cases or cases:
            for row in cases[name](mine, theirs, options.seconds if name == "transfers" else options.runs):
                print(row, flush=True)


if __name__ == "__main__":
    main()
