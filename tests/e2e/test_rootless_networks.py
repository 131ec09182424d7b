"""A plain user's bridges: pasta or slirp4netns leads out; without either, the host's network is used."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildtool.networks import kernel
from buildtool.networks.netlink import Netlink, Peer
from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox
from tests.e2e.conftest import free_port
from tests.e2e.test_networks import HELLO, ask, looked_up, own_address, run
from tests.rootless import ALONE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
_UID = 12346
_SIX = socket.AF_INET6
# Every user may open the tun device, as on most machines.
_LAUNCH = f"""{ALONE}
uid, root = int(sys.argv[1]), sys.argv[2]
tun = root + "/tun"
if not os.path.exists(tun):
    os.mknod(tun, stat.S_IFCHR, os.makedev(10, 200))
    os.chmod(tun, 0o666)
sc.mount(tun, "/dev/net/tun", None, sc.MS_BIND)
become(uid)
os.execve(sys.executable, [sys.executable, "-m", "buildtool.daemon.main"], os.environ)
"""


class PlainDaemon(Daemon):
    """A daemon of a user without rights; `program` leads its containers out."""

    def __init__(self, program: str, namespace: int = 0) -> None:
        super().__init__()
        self._namespace = namespace
        os.chown(self.root, _UID, _UID)
        self.environment |= {
            "HOME": str(self.root),
            "XDG_RUNTIME_DIR": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "BUILDTOOL_ROOTLESS_NETWORK": program,
        }

    def command(self) -> list[str]:
        """Become the user first, in the network namespace of another process when one is named."""
        own = [sys.executable, "-c", _LAUNCH, str(_UID), str(self.root)]
        return ["nsenter", f"--net=/proc/{self._namespace}/ns/net", *own] if self._namespace else own


@pytest.fixture
def plain() -> Iterator[Callable[..., PlainDaemon]]:
    """`plain(program)` starts a plain user's daemon, `plain(program, pid)` in the network namespace of a process."""
    made: list[PlainDaemon] = []

    def make(program: str, namespace: int = 0) -> PlainDaemon:
        if not Path("/dev/net/tun").exists():
            pytest.skip("the kernel has no tun device")
        made.append(PlainDaemon(program, namespace))
        made[-1].start()
        load_busybox(made[-1])
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()


class Greeter:
    """A server on the machine's address that says hello to everybody."""

    def __init__(self) -> None:
        self._socket = socket.create_server((own_address(), 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                client.sendall(b"welcome\n")

    def close(self) -> None:
        """Stop."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def left(daemon: Daemon) -> list[str]:
    """The command lines of processes that were started for a daemon's networks."""
    mark = f"{daemon.data}/network".encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark in line:
            found.append(line.decode(errors="replace"))
    return found


@pytest.mark.parametrize("program", ["pasta", "slirp4netns"])
def test_a_plain_users_containers_have_networks_of_their_own(
    plain: Callable[[str], PlainDaemon], program: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    daemon = plain(program)
    cli = Program(BUILDTOOL, {**daemon.environment, "NO_COLOR": "1"})
    assert left(daemon) == []
    port = free_port()
    cli("network", "create", "net")
    run(cli, "web", "--network", "net", "-p", f"{port}:80", command=HELLO)
    run(cli, "peer", "--network", "net", "--add-host", "machine:host-gateway")
    web = json.loads(cli("inspect", "web").stdout)[0]["NetworkSettings"]["Networks"]["net"]["IPAddress"]
    assert looked_up(cli, "peer", "web") == {web}
    assert cli("exec", "peer", "sh", "-c", "nc web 80 < /dev/null").stdout == "hello\n"
    assert ask("127.0.0.1", port) == ask(own_address(), port) == "hello\n"
    greeter = Greeter()
    # An old pasta may keep the connection open, and repeat what came.
    out = cli("exec", "peer", "sh", "-c", f"timeout 2 nc machine {greeter.port} < /dev/null", check=False).stdout
    assert out.startswith("welcome\n")
    build = f"FROM busybox\nRUN timeout 2 nc {own_address()} {greeter.port} < /dev/null | grep welcome\n"
    (daemon.root / "Buildfile").write_text(build)
    cli("build", str(daemon.root), timeout=60)
    greeter.close()
    taken = cli("run", "--rm", "-p", "80:80", "busybox", "true", check=False)
    assert "permission denied" in taken.stderr and "ip_unprivileged_port_start" in taken.stderr

    daemon.kill()
    daemon.start()
    assert looked_up(cli, "peer", "web") == {web}
    assert ask("127.0.0.1", port) == "hello\n"
    cli("network", "create", "more")
    cli("network", "connect", "more", "web")
    run(cli, "third", "--network", "more")
    assert cli("exec", "third", "ping", "-c1", "-W2", "web").returncode == 0
    assert len(left(daemon)) == 2
    cli("rm", "-f", "web", "peer", "third")
    daemon.stop()
    deadline = time.monotonic() + 5
    while left(daemon) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left(daemon) == []


class Site:
    """A machine and its router, each a network namespace: fd77::2 leads out by fd77::1, in IPv4 10.212.0.2 by .1."""

    def __init__(self) -> None:
        self.machine, self.router = (subprocess.Popen(["unshare", "-n", "sleep", "600"]) for _ in range(2))
        home = os.stat("/proc/self/ns/net").st_ino
        while any(os.stat(f"/proc/{one.pid}/ns/net").st_ino == home for one in (self.machine, self.router)):
            time.sleep(0.01)
        kernel.in_namespace_of(self.machine.pid, lambda: self._connect(kernel.open_namespace(self.router.pid)))
        addresses = ["10.212.0.1/24", "fd77::1/64"]
        kernel.in_namespace_of(self.router.pid, lambda: self._configure("up0", addresses, []))
        self.server = kernel.in_namespace_of(
            self.router.pid, lambda: socket.create_server(("fd77::1", 0), family=_SIX)
        )

    def _connect(self, router: int) -> None:
        with Netlink() as netlink:
            lan = netlink.create_bridge("lan0", "02:42:00:00:00:01", 0)
            netlink.create_veth("lan1", lan, 0, Peer("up0", "02:42:00:00:00:02", router))
        os.close(router)
        self._configure("lan0", ["10.212.0.2/24", "fd77::2/64"], ["10.212.0.1", "fd77::1"])

    def _configure(self, name: str, addresses: list[str], gateways: list[str]) -> None:
        with Netlink() as netlink:
            netlink.set_up(1)
            netlink.configure(netlink.index(name), addresses, gateways, [])

    def asks(self, port: int) -> str:
        """What the machine answers the router over IPv6."""
        with kernel.in_namespace_of(self.router.pid, lambda: socket.socket(_SIX)) as asking:
            asking.settimeout(5)
            asking.connect(("fd77::2", port))
            return asking.recv(100).decode()

    def close(self) -> None:
        """Let it go."""
        self.server.close()
        for one in (self.machine, self.router):
            one.kill()
            one.wait()


@pytest.fixture
def site() -> Iterator[Site]:
    """A machine with IPv6."""
    made = Site()
    yield made
    made.close()


@pytest.mark.parametrize("program", ["pasta", "slirp4netns"])
def test_a_plain_users_containers_reach_the_outside_over_ipv6(
    plain: Callable[..., PlainDaemon], site: Site, program: str, background: Callable[..., subprocess.Popen[bytes]]
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    daemon = plain(program, site.machine.pid)
    cli = Program(BUILDTOOL, {**daemon.environment, "NO_COLOR": "1"})
    cli("network", "create", "--ipv6", "net")
    run(cli, "web", "--network", "net", "-p", "8080:80", command=HELLO)
    command = f"timeout 2 nc fd77::1 {site.server.getsockname()[1]} < /dev/null"
    asking = background(cli, "exec", "web", "sh", "-c", command)
    site.server.settimeout(10)
    connection, source = site.server.accept()
    with connection:
        connection.sendall(b"outside\n")
    assert asking.communicate(timeout=10)[0].startswith(b"outside\n") and source[0] == "fd77::2"
    assert site.asks(8080) == "hello\n"
    cli("rm", "-f", "web")


def test_without_a_way_out_containers_use_the_hosts_network_and_say_so(plain: Callable[[str], PlainDaemon]) -> None:
    cli = Program(BUILDTOOL, {**(daemon := plain("host")).environment, "NO_COLOR": "1"})
    told = cli("run", "--rm", "busybox", "ip", "-4", "address")
    assert own_address() in told.stdout
    assert "containers use the host's network" in told.stderr and "BUILDTOOL_ROOTLESS_NETWORK" in told.stderr
    refused = cli("network", "create", "net", check=False)
    assert refused.returncode != 0 and "a plain user's daemon has no bridge networks here" in refused.stderr
    assert left(daemon) == []

    place = daemon.root / "there"
    place.mkdir()
    os.chown(place, _UID, _UID)
    cli("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={place}", "there")
    cli("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "quick")
    mounts = ("-v", "there:/t", "-v", "quick:/q")
    run(cli, "one", *mounts, command="echo one > /t/f; echo two > /q/f; exec sleep 600")
    assert cli("run", "--rm", *mounts, "busybox", "cat", "/t/f", "/q/f").stdout == "one\ntwo\n"
    assert (place / "f").read_text() == "one\n"
    daemon.kill()
    daemon.start()
    assert cli("run", "--rm", *mounts, "busybox", "cat", "/t/f").stdout == "one\n"
    cli("rm", "-f", "one")
    cli("volume", "rm", "there", "quick")
    assert (place / "f").exists()
