"""Bridges and pairs in a network namespace of the test's own."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildtool.errors import BuildtoolError, Conflict
from buildtool.networks import kernel
from buildtool.networks.addresses import mac_of
from buildtool.networks.model import Endpoint, Ipam, NetworkRecord, Sandbox
from buildtool.networks.netlink import Link, Netlink

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
Processes = Callable[[], int]


def record(name: str = "bt-unit", **fields: Any) -> NetworkRecord:
    ipam = [Ipam("10.234.5.0/24", gateway="10.234.5.1"), Ipam("fd99::/64", gateway="fd99::1")]
    return NetworkRecord(id=name, name=name, created=1, bridge=name, ipam=ipam, **fields)


def endpoint(number: int, name: str, interface: str = "eth0") -> Endpoint:
    address = f"10.234.5.{number}"
    return Endpoint(
        network_id="bt-unit",
        network="bt-unit",
        id="e",
        host_interface=name,
        interface=interface,
        mac=mac_of(address),
        address=address,
        prefix=24,
        gateway="10.234.5.1",
        address6=f"fd99::{number}",
        prefix6=64,
        gateway6="fd99::1",
    )


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts processes, each in a network namespace of its own: their pids."""
    started = []

    def start() -> int:
        process = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        started.append(process)
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def within(pid: int, work: Callable[[], Any]) -> Any:
    """Run a function in a thread of its own in the namespace of a process, which plays the host."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(kernel.in_namespace_of(pid, work))
        except BaseException as error:  # handed on to the test
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def shell(pid: int, command: str) -> str:
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "sh", "-c", command], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_two_containers_and_the_host_reach_each_other(processes: Processes, tmp_path: Path) -> None:
    host, one, two = processes(), processes(), processes()
    names, network = kernel.Names(tmp_path), record()
    ends = [endpoint(2, names.veth()), endpoint(3, names.veth())]

    def work() -> None:
        kernel.make_bridge(network, names)
        kernel.make_bridge(network, names)  # takes it over
        for pid, end in zip((one, two), ends, strict=True):
            kernel.plug(Sandbox(id="s", container="c", endpoints=[end]), [end], {"bt-unit": network}, pid)

    within(host, work)
    assert "isolated off" in shell(host, "bridge -d link")
    for address in ("10.234.5.1", "10.234.5.3", "fd99::1", "fd99::3"):
        assert " 0% packet loss" in shell(one, f"busybox ping -c1 -W2 {address}")
    assert "default via 10.234.5.1" in shell(one, "ip route") and "default via fd99::1" in shell(one, "ip -6 route")
    assert mac_of("10.234.5.2") in shell(one, "ip link show eth0")

    bridges, veths = within(host, lambda: kernel.own_links(names))
    assert [link.name for link in bridges] == ["bt-unit"]
    assert {link.name for link in veths} == {end.host_interface for end in ends}
    within(host, lambda: kernel.delete_links([link.name for link in (*veths, *bridges)]))
    assert within(host, lambda: kernel.own_links(names)) == ([], [])


def test_ports_of_a_bridge_without_icc_are_isolated(processes: Processes, tmp_path: Path) -> None:
    host, one, two = processes(), processes(), processes()
    names, network = kernel.Names(tmp_path), record(options={"com.docker.network.bridge.enable_icc": "false"})
    ends = [endpoint(2, names.veth()), endpoint(3, names.veth())]

    def work() -> None:
        kernel.make_bridge(network, names)
        for pid, end in zip((one, two), ends, strict=True):
            kernel.plug(Sandbox(id="s", container="c", endpoints=[end]), [end], {"bt-unit": network}, pid)

    within(host, work)
    assert shell(host, "bridge -d link").count("isolated on") == 2
    assert "100% packet loss" in shell(one, "busybox ping -c1 -W1 10.234.5.3")
    assert " 0% packet loss" in shell(one, "busybox ping -c1 -W1 10.234.5.1")


def test_a_bridge_of_somebody_else_is_not_touched(processes: Processes, tmp_path: Path) -> None:
    host = processes()
    shell(host, "ip link add bt-unit type bridge")
    with pytest.raises(Conflict, match="is not this daemon's"):
        within(host, lambda: kernel.make_bridge(record(), kernel.Names(tmp_path)))
    assert "bt-unit" in shell(host, "ip link")


def test_a_pair_that_cannot_be_set_up_leaves_nothing(processes: Processes, tmp_path: Path) -> None:
    host, container = processes(), processes()
    names, network = kernel.Names(tmp_path), record()
    bad = endpoint(2, names.veth())
    bad.gateway = "10.99.99.1"  # no route leads there
    sandbox = Sandbox(id="s", container="c", endpoints=[bad])

    def work() -> None:
        kernel.make_bridge(network, names)
        kernel.plug(sandbox, [bad], {"bt-unit": network}, container)

    with pytest.raises(BuildtoolError, match="cannot connect the container to its network"):
        within(host, work)
    assert within(host, lambda: kernel.own_links(names)[1]) == []


def test_the_default_route_moves_between_interfaces(processes: Processes, tmp_path: Path) -> None:
    host, container = processes(), processes()
    names, network = kernel.Names(tmp_path), record()
    one, two = endpoint(2, names.veth()), endpoint(3, names.veth(), "eth1")
    sandbox = Sandbox(id="s", container="c", endpoints=[one, two])

    def work() -> None:
        kernel.make_bridge(network, names)
        kernel.plug(sandbox, [one, two], {"bt-unit": network}, container)
        kernel.move_default_route(container, one, two)

    within(host, work)
    assert "dev eth1" in shell(container, "ip route show default")
    within(host, lambda: kernel.move_default_route(container, two, None))
    assert shell(container, "ip route show default; ip -6 route show default") == ""


def test_a_plugged_container_can_be_reached_at_once(processes: Processes, tmp_path: Path) -> None:
    names, name = kernel.Names(tmp_path), f"bu{secrets.token_hex(4)}"
    network = record(name)
    network.ipam = []
    kernel.make_bridge(network, names)
    try:
        for _ in range(5):
            end = endpoint(2, names.veth())
            end.network_id, end.address, end.address6, end.gateway, end.gateway6 = name, "", "", "", ""
            kernel.plug(Sandbox(id="s", container="c", endpoints=[end]), [end], {name: network}, processes())
            place = Path("/sys/class/net", end.host_interface)
            assert (place / "operstate").read_text() == "up\n"
            assert (place / "brport/state").read_text() == "3\n"  # forwarding
    finally:
        kernel.delete_links([name, *(link.name for link in kernel.own_links(names)[1])])


def test_what_is_there_is_read_as_ip_shows_it(processes: Processes) -> None:
    host = processes()

    def work() -> tuple[Link | None, list[str], list[Link]]:
        with Netlink() as netlink:
            first = netlink.create_pair("a0", "b0")
            assert first == netlink.index("a0")
            netlink.set_alias(first, "mine")
            netlink.configure(first, ["10.7.0.1/24", "fd07::1/64"], ["10.7.0.9", "fd07::9"], ["10.8.0.0/16"])
            netlink.configure(first, ["10.7.0.1/24"], ["10.7.0.9"], [])  # again: nothing changes
            assert netlink.index("zz") == 0 and netlink.link("zz") is None and not netlink.delete_link("zz")
            return netlink.link("a0"), netlink.addresses(first), netlink.links()

    link, addresses, links = within(host, work)
    assert (link.name, link.up, link.kind, link.alias, link.mtu) == ("a0", True, "veth", "mine", 1500)
    assert {"10.7.0.1/24", "fd07::1/64"} < {*addresses, ""}
    assert {one.name for one in links} >= {"lo", "a0", "b0"}
    shown = shell(host, "ip route; ip -6 route; ip link show a0")
    assert "default via 10.7.0.9 dev a0 proto static" in shown and link.mac in shown
    assert "default via fd07::9 dev a0 proto static" in shown
    assert "10.8.0.0/16 dev a0 proto static scope link" in shown
    assert "brd 10.7.0.255" in shell(host, "ip -4 address show a0")


def test_routes_of_the_machine_are_seen(processes: Processes) -> None:
    host = processes()
    shell(host, "ip link add d0 type bridge && ip link set d0 up && ip addr add 10.88.0.1/16 dev d0")
    assert "10.88.0.0/16" in [str(one) for one in within(host, kernel.taken_subnets)]
    assert "10.88.0.0/16" not in [str(one) for one in within(host, lambda: kernel.taken_subnets(without="d0"))]


def test_the_kernels_own_words_are_in_the_error(processes: Processes) -> None:
    host = processes()

    def work() -> None:
        with Netlink() as netlink:
            netlink.create_bridge("a" * 20, "02:42:00:00:00:01", 0)

    with pytest.raises(OSError):
        within(host, work)


def test_roots_do_not_share_names() -> None:
    default, other = kernel.Names(Path("/var/lib/buildtool")), kernel.Names(Path("/srv/bt"))
    assert (default.table, default.default_bridge) == ("buildtool", "buildtool0")
    assert other.table != default.table and other.default_bridge.startswith("bt-")
    assert len(other.veth()) <= 15 and other.veth() != other.veth()
