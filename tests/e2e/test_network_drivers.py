"""macvlan networks, networks of several drivers together, settings of single connections, configurations."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from buildtool.networks import kernel
from buildtool.networks.netlink import Netlink
from tests.conftest import Daemon, Program
from tests.e2e.conftest import free_port
from tests.e2e.test_networks import HELLO, address, ask, inspect, looked_up, own_address, pings, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(autouse=True)
def clean(daemon: Daemon, busybox_image: str) -> Iterator[None]:
    """No container and no network of a test is left to the next one."""
    yield
    for container in daemon.request("GET", "/containers/json?all=1"):
        daemon.raw("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for network in daemon.request("GET", '/networks?filters={"type":["custom"]}'):
        daemon.raw("DELETE", f"/networks/{network['Id']}")


class Cable:
    """A pair of interfaces: `near` is the machine's, the far end has `lan`.1/24 in a namespace of its own."""

    def __init__(self) -> None:
        self.near = f"tn{secrets.token_hex(4)}"
        self.lan = f"10.213.{secrets.randbelow(256)}"
        self._router = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        home = os.stat("/proc/self/ns/net").st_ino
        while os.stat(f"/proc/{self._router.pid}/ns/net").st_ino == home:
            pass
        far = f"tf{self.near[2:]}"
        with Netlink() as host:
            host.create_pair(self.near, far)
        subprocess.run(["ip", "link", "set", far, "netns", str(self._router.pid)], check=True)
        kernel.in_namespace_of(self._router.pid, lambda: self._configure(far))

    def _configure(self, far: str) -> None:
        with Netlink() as inside:
            link = inside.link(far)
            assert link is not None
            inside.configure(link.index, [f"{self.lan}.1/24"], [], [])

    def plug(self) -> None:
        """Give the machine the address `lan`.2."""
        subprocess.run(["ip", "address", "replace", f"{self.lan}.2/24", "dev", self.near], check=True)

    def server(self) -> socket.socket:
        """A server of the far end, on any port."""
        return kernel.in_namespace_of(self._router.pid, lambda: socket.create_server((f"{self.lan}.1", 0)))

    def route(self, subnet: str) -> None:
        """Let the far end reach a subnet through the machine."""
        self.plug()
        command = ["nsenter", "-t", str(self._router.pid), "-n", "ip", "route", "add", subnet, "via", f"{self.lan}.2"]
        subprocess.run(command, check=True)

    def asks(self, address: str, port: int, size: int = 100) -> str:
        """What a connection from the far end answers; "" when nobody does for a second."""
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            with contextlib.closing(kernel.in_namespace_of(self._router.pid, socket.socket)) as asking:
                asking.settimeout(1)
                with contextlib.suppress(OSError):
                    asking.connect((address, port))
                    if answer := asking.recv(size):
                        return answer.decode()
            time.sleep(0.05)
        return ""

    def close(self) -> None:
        """Unplug it."""
        kernel.delete_links([self.near])
        self._router.kill()
        self._router.wait()


@pytest.fixture
def cable() -> Iterator[Cable]:
    """A cable to a router."""
    made = Cable()
    yield made
    made.close()


def macvlan(cli: Program, name: str, *flags: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    probe = ["ip", "link", "add", "link", "lo", "name", "probe0", "type", "macvlan"]
    if "Unknown device type" in subprocess.run(probe, capture_output=True, text=True, check=False).stderr:
        pytest.skip("this kernel has no macvlan")
    return cli("network", "create", "-d", "macvlan", *flags, name, check=check)


def route(cli: Program, name: str) -> str:
    return str(cli("exec", name, "ip", "route").stdout)


def test_macvlan_containers_are_in_the_network_of_their_parent(cli: Program, cable: Cable) -> None:
    lan = cable.lan
    subnet = ("--subnet", f"{lan}.0/24", "--gateway", f"{lan}.1", "--ip-range", f"{lan}.64/26")
    macvlan(cli, "lan", *subnet, "-o", f"parent={cable.near}")
    port = free_port()
    run(cli, "one", "--network", "lan", "--mac-address", "02:11:22:33:44:55", "-p", f"{port}:80", command=HELLO)
    run(cli, "two", "--network", "lan", "--ip", f"{lan}.99")
    assert address(cli, "one", "lan") == f"{lan}.64"
    assert inspect(cli, "one")["NetworkSettings"]["Networks"]["lan"]["MacAddress"] == "02:11:22:33:44:55"
    assert "02:11:22:33:44:55" in cli("exec", "one", "ip", "link", "show", "eth0").stdout
    assert f"default via {lan}.1" in route(cli, "two")
    assert pings(cli, "two", f"{lan}.1") and pings(cli, "two", "one")
    assert looked_up(cli, "two", "one") == {f"{lan}.64"}
    assert ask("127.0.0.1", port, 0.3) == "" and cli("port", "one").stdout == ""
    assert "macvlan" in cli("network", "ls", "-f", "driver=macvlan", "--format", "{{.Name}} {{.Driver}}").stdout
    again = macvlan(cli, "again", "-o", f"parent={cable.near}", check=False)
    assert again.returncode != 0 and f"already using parent interface {cable.near}" in again.stderr
    cli("network", "disconnect", "lan", "two")
    assert "eth0" not in cli("exec", "two", "ip", "link").stdout
    cli("rm", "-f", "one", "two")
    cli("network", "rm", "lan")
    with Netlink() as netlink:
        assert netlink.link(cable.near) is not None


def test_macvlan_without_a_parent_leads_nowhere_and_leaves_nothing(cli: Program) -> None:
    identity = macvlan(cli, "island").stdout.strip()
    run(cli, "one", "--network", "island")
    run(cli, "two", "--network", "island", "--network-alias", "other")
    assert pings(cli, "one", "other") and "default" not in route(cli, "one")
    assert not pings(cli, "one", own_address())
    with Netlink() as netlink:
        assert netlink.link(f"dm-{identity[:12]}") is not None
        cli("rm", "-f", "one", "two")
        cli("network", "rm", "island")
        assert netlink.link(f"dm-{identity[:12]}") is netlink.link(f"dp-{identity[:12]}") is None


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("-o", "parent=nothere0"), "no parent interface nothere0"),
        (("-o", "parent=lo"), "loopback interface is not a valid macvlan parent link"),
        (("-o", "macvlan_mode=wild"), "unknown macvlan mode 'wild'"),
    ],
)
def test_macvlan_networks_that_cannot_be_are_refused(cli: Program, flags: tuple[str, ...], reason: str) -> None:
    refused = macvlan(cli, "bad", *flags, check=False)
    assert refused.returncode != 0 and reason in refused.stderr
    assert "bad" not in cli("network", "ls", "--format", "{{.Name}}").stdout


def test_the_gateway_follows_priorities_and_ports_stay_on_the_bridge(cli: Program, cable: Cable) -> None:
    lan = cable.lan
    macvlan(cli, "lan", "--subnet", f"{lan}.0/24", "-o", f"parent={cable.near}")
    cli("network", "create", "side")
    port = free_port()
    first = ("--network", "name=side,gw-priority=1", "--network", "lan")
    run(cli, "web", *first, "-p", f"{port}:80", command=HELLO)
    side = inspect(cli, "web")["NetworkSettings"]["Networks"]["side"]
    assert f"default via {side['Gateway']}" in route(cli, "web") and side["GwPriority"] == 1
    assert ask("127.0.0.1", port) == "hello\n"
    cli("network", "disconnect", "lan", "web")
    cli("network", "connect", "--gw-priority", "5", "lan", "web")
    assert f"default via {lan}.1" in route(cli, "web")
    assert pings(cli, "web", f"{lan}.1")
    assert inspect(cli, "web")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] == str(port)
    assert ask(address(cli, "web", "side"), 80) == "hello\n"


def test_a_connection_has_its_own_names_addresses_and_parameters(cli: Program) -> None:
    cli("network", "create", "net")
    run(cli, "plain", "--network", "net")
    spec = "name=net,driver-opt=com.docker.network.endpoint.ifname=up0"
    sysctl = '"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1"'
    run(cli, "own", "--network", f"{spec},{sysctl}", "--link-local-ip", "169.254.9.9")
    assert "169.254.9.9/16" in cli("exec", "own", "ip", "address", "show", "up0").stdout
    assert cli("exec", "own", "cat", "/proc/sys/net/ipv4/conf/up0/log_martians").stdout == "1\n"
    run(cli, "late")
    cli("network", "connect", "--link", "plain:friend", "--alias", "newcomer", "net", "late")
    assert pings(cli, "late", "friend") and pings(cli, "plain", "newcomer") and not pings(cli, "plain", "friend")
    for flags, reason in (
        (("--network", "net", "--link-local-ip", "10.0.0.1"), "invalid link-local IP address"),
        (("--network", "name=net,driver-opt=com.docker.network.endpoint.ifname=a/b"), "invalid interface name"),
        (("--network", "name=net,driver-opt=com.docker.network.endpoint.sysctls=kernel.x=1"), "invalid sysctl"),
    ):
        refused = cli("run", "--rm", *flags, "busybox", "true", check=False)
        assert refused.returncode == 125 and reason in refused.stderr


def test_configurations_are_made_into_networks(cli: Program) -> None:
    cli("network", "create", "--config-only", "--subnet", "10.214.3.0/24", "--label", "a=b", "settings")
    cli("network", "create", "--config-from", "settings", "real")
    shown: dict[str, Any] = json.loads(cli("network", "inspect", "real").stdout)[0]
    assert shown["IPAM"]["Config"][0]["Subnet"] == "10.214.3.0/24" and shown["Labels"] == {"a": "b"}
    assert shown["ConfigFrom"] == {"Network": "settings"} and not shown["ConfigOnly"]
    assert json.loads(cli("network", "inspect", "settings").stdout)[0]["ConfigOnly"]
    run(cli, "one", "--network", "real")
    assert address(cli, "one", "real") == "10.214.3.2"
    for command, reason in (
        (("run", "--network", "settings", "busybox", "true"), "configuration for other networks"),
        (("network", "rm", "settings"), "in use"),
        (("network", "create", "--config-from", "nothing", "x"), "does not exist"),
        (("network", "create", "--config-from", "real", "x"), "not a configuration network"),
        (("network", "create", "--config-from", "settings", "--subnet", "10.1.0.0/24", "x"), "takes its config"),
    ):
        refused = cli(*command, check=False)
        assert refused.returncode != 0 and reason in refused.stderr
    cli("rm", "-f", "one")
    cli("network", "rm", "real", "settings")


def test_ports_of_a_network_are_bound_where_it_says(cli: Program) -> None:
    cli("network", "create", "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "local")
    port = free_port()
    run(cli, "web", "--network", "local", "-p", f"{port}:80", command=HELLO)
    assert cli("port", "web").stdout == f"80/tcp -> 127.0.0.1:{port}\n"
    assert ask("127.0.0.1", port) == "hello\n" and ask(own_address(), port, 0.3) == ""


def test_gateway_modes_open_containers_to_the_outside(cli: Program, cable: Cable) -> None:
    net = f"10.214.{secrets.randbelow(256)}"
    cable.route(f"{net}.0/24")
    both = "while true; do echo hello | nc -l -p 81; done & " + HELLO
    for mode, published, other in (
        ("nat", "", ""),
        ("nat-unprotected", "hello\n", "hello\n"),
        ("routed", "hello\n", ""),
    ):
        option = f"com.docker.network.bridge.gateway_mode_ipv4={mode}"
        cli("network", "create", "--subnet", f"{net}.0/24", "-o", option, "net")
        run(cli, "web", "--network", "net", "-p", "127.0.0.1::80", command=both)
        assert ask(f"{net}.2", 80) == ask(f"{net}.2", 81) == "hello\n"
        assert (cable.asks(f"{net}.2", 80), cable.asks(f"{net}.2", 81)) == (published, other)
        ports = inspect(cli, "web")["NetworkSettings"]["Ports"]["80/tcp"]
        assert (ports == [{"HostIp": "127.0.0.1", "HostPort": ""}]) is (mode == "routed")
        assert ("->80/tcp" in cli("ps").stdout) is (mode != "routed")
        cli("rm", "-f", "web")
        cli("network", "rm", "net")


def test_isolated_networks_have_no_gateway(cli: Program) -> None:
    option = "com.docker.network.bridge.gateway_mode_ipv4=isolated"
    cli("network", "create", "--internal", "-o", option, "net")
    run(cli, "one", "--network", "net")
    run(cli, "two", "--network", "net")
    first = address(cli, "one", "net").rpartition(".")[0]
    assert pings(cli, "one", "two") and not pings(cli, "one", f"{first}.1")
