"""Networks as users see them: containers, the host, published ports, names, and what stays when the daemon dies."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildtool.networks import kernel
from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox
from tests.e2e.conftest import free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
HELLO = "while true; do echo hello | nc -l -p 80; done"
"""Answers every connection to port 80 with one line."""


@pytest.fixture(autouse=True)
def clean(daemon: Daemon, busybox_image: str) -> Iterator[None]:
    """No container and no network of a test is left to the next one."""
    yield
    for container in daemon.request("GET", "/containers/json?all=1"):
        daemon.raw("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    daemon.request("POST", "/networks/prune")


def run(cli: Program, name: str, *flags: str, command: str = "exec sleep 600") -> str:
    return cli("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", command).stdout.strip()


def inspect(cli: Program, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cli("inspect", name).stdout)[0]
    return document


def address(cli: Program, name: str, network: str = "bridge") -> str:
    return str(inspect(cli, name)["NetworkSettings"]["Networks"][network]["IPAddress"])


def ask(host: str, port: int, seconds: float = 3.0) -> str:
    """What a connection answers; "" when nobody does within that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1) as connection:
            connection.settimeout(1)
            if answer := connection.recv(100):
                return answer.decode()
        time.sleep(0.05)
    return ""


def own_address() -> str:
    """This machine's address on its way out."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.254", 9))
        return str(probe.getsockname()[0])


def traces(daemon: Daemon) -> list[str]:
    """What the kernel has of a daemon's networks."""
    names = kernel.Names(daemon.data)
    bridges, veths = kernel.own_links(names)
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    found = [link.name for link in (*bridges, *veths)]
    return found + [line for line in tables.splitlines() if line.endswith(names.table)]


def pings(cli: Program, name: str, target: str) -> bool:
    return cli("exec", name, "ping", "-c1", "-W1", target, check=False).returncode == 0


def looked_up(cli: Program, name: str, host: str, *flags: str) -> set[str]:
    """The addresses that a container finds for a name."""
    text = cli("exec", name, "nslookup", *flags, host, check=False).stdout.partition("answer:")[2]
    return {line.split()[1] for line in text.splitlines() if line.startswith("Address:")}


def test_the_default_network_reaches_the_host_and_other_containers(cli: Program) -> None:
    run(cli, "one")
    run(cli, "two", command=HELLO)
    settings = inspect(cli, "one")["NetworkSettings"]
    assert settings["IPAddress"] == address(cli, "one") and settings["Gateway"] and settings["IPPrefixLen"] == 16
    assert pings(cli, "one", address(cli, "two"))
    assert pings(cli, "one", own_address())
    assert ask(address(cli, "two"), 80) == "hello\n"
    hosts = cli("exec", "one", "cat", "/etc/hosts").stdout
    assert f"{address(cli, 'one')}\t{inspect(cli, 'one')['Config']['Hostname']}" in hosts


def test_published_ports_answer_on_every_address_of_the_host(cli: Program) -> None:
    port = free_port()
    run(cli, "web", "-p", f"{port}:80", command=HELLO)
    assert ask("127.0.0.1", port) == "hello\n"
    assert ask(own_address(), port) == "hello\n"
    if Path("/proc/net/if_inet6").exists():
        assert ask("::1", port) == "hello\n"
    run(cli, "other")
    reached = cli("exec", "other", "sh", "-c", f"nc -w 2 {own_address()} {port} < /dev/null").stdout
    assert reached == "hello\n"
    assert cli("port", "web", "80").stdout.splitlines()[0] == f"0.0.0.0:{port}"
    ports = inspect(cli, "web")["NetworkSettings"]["Ports"]
    assert {"HostIp": "0.0.0.0", "HostPort": str(port)} in ports["80/tcp"]
    assert f"0.0.0.0:{port}->80/tcp" in cli("ps").stdout
    cli("rm", "-f", "web")
    assert ask("127.0.0.1", port, 0.3) == ""


def test_a_port_of_one_address_answers_there_only(cli: Program) -> None:
    port = free_port()
    run(cli, "web", "-p", f"127.0.0.1:{port}:80", command=HELLO)
    assert ask("127.0.0.1", port) == "hello\n"
    assert ask(own_address(), port, 0.3) == ""


def test_datagrams_are_published(cli: Program) -> None:
    run(cli, "echo", "-p", "7/udp")
    pid = inspect(cli, "echo")["State"]["Pid"]
    port = int(cli("port", "echo", "7/udp").stdout.split()[0].rpartition(":")[2])
    server = kernel.in_namespace_of(pid, lambda: socket.socket(type=socket.SOCK_DGRAM))
    with server, socket.socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("0.0.0.0", 7))
        server.settimeout(5)
        client.settimeout(5)
        for target in ("127.0.0.1", own_address()):
            client.sendto(b"hello", (target, port))
            data, asking = server.recvfrom(100)
            server.sendto(data, asking)
            assert client.recv(100) == b"hello"


def test_a_client_that_goes_on_sending_reaches_the_next_container(cli: Program) -> None:
    port = free_port()
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect((own_address(), port))
        for name in ("first", "next"):
            run(cli, "keep")  # so that the next one has another address
            run(cli, name, "-p", f"{port}:7/udp")
            pid = inspect(cli, name)["State"]["Pid"]
            with kernel.in_namespace_of(pid, lambda: socket.socket(type=socket.SOCK_DGRAM)) as server:
                server.bind(("0.0.0.0", 7))
                server.settimeout(0.2)
                got = b""
                for _ in range(25):
                    client.send(name.encode())
                    with contextlib.suppress(TimeoutError):
                        got = server.recv(100)
                        break
                assert got == name.encode()
            cli("rm", "-f", name)
            cli("rename", "keep", f"kept-{name}")


def test_a_taken_port_is_refused_with_its_holder(cli: Program) -> None:
    port = free_port()
    run(cli, "first", "-p", f"{port}:80")
    done = cli("run", "-d", "--name", "second", "-p", f"{port}:80", "busybox", check=False)
    assert done.returncode == 125
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in done.stderr
    assert "driver failed programming external connectivity on endpoint second" in done.stderr
    assert 'container "first"' in done.stderr
    cli("rm", "-f", "first")
    cli("start", "second")


def test_exposed_ports_are_published_to_free_ones(cli: Program) -> None:
    run(cli, "web", "-P", "--expose", "80-81", command=HELLO)
    ports = inspect(cli, "web")["NetworkSettings"]["Ports"]
    assert set(ports) == {"80/tcp", "81/tcp"}
    assert ask("127.0.0.1", int(ports["80/tcp"][0]["HostPort"])) == "hello\n"


def test_containers_of_a_network_find_each_other_by_name(cli: Program) -> None:
    cli("network", "create", "front")
    run(cli, "web", "--network", "front", "--network-alias", "all")
    identity = run(cli, "web2", "--network", "front", "--network-alias", "all")
    first, second = address(cli, "web", "front"), address(cli, "web2", "front")
    assert looked_up(cli, "web", "web2") == {second}
    assert looked_up(cli, "web", identity[:12]) == looked_up(cli, "web", "web2.front") == {second}
    assert looked_up(cli, "web", "all") == {first, second}
    assert pings(cli, "web", "web2")
    assert "name = web2.front" in cli("exec", "web", "nslookup", second).stdout
    assert "nameserver 127.0.0.11" in cli("exec", "web", "cat", "/etc/resolv.conf").stdout
    cli("rename", "web2", "renamed")
    assert looked_up(cli, "web", "renamed") == {second} and not looked_up(cli, "web", "web2")
    cli("stop", "-t", "0", "renamed")
    assert looked_up(cli, "web", "all") == {first}


def test_networks_are_isolated_from_each_other(cli: Program) -> None:
    cli("network", "create", "one")
    cli("network", "create", "two")
    run(cli, "aa", "--network", "one")
    run(cli, "bb", "--network", "two")
    run(cli, "cc")
    inner, outer = address(cli, "bb", "two"), address(cli, "cc")
    for here, there in (("aa", inner), ("cc", inner), ("bb", outer)):
        assert not pings(cli, here, there)
    assert not looked_up(cli, "aa", "bb")


def test_an_internal_network_leads_nowhere_else(cli: Program) -> None:
    cli("network", "create", "--internal", "inside")
    run(cli, "aa", "--network", "inside")
    run(cli, "bb", "--network", "inside")
    assert pings(cli, "aa", "bb")
    assert "default" not in cli("exec", "aa", "ip", "route").stdout
    cli("exec", "--privileged", "aa", "ip", "route", "add", "default", "dev", "eth0")
    run(cli, "cc")
    assert not pings(cli, "aa", address(cli, "cc"))


def test_containers_without_icc_do_not_reach_each_other(cli: Program) -> None:
    cli("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart")
    run(cli, "aa", "--network", "apart")
    run(cli, "bb", "--network", "apart")
    assert not pings(cli, "aa", "bb")
    assert pings(cli, "aa", own_address())


def test_a_running_container_changes_its_networks(cli: Program) -> None:
    cli("network", "create", "extra")
    run(cli, "web")
    run(cli, "peer", "--network", "extra")
    cli("network", "connect", "--alias", "shop", "extra", "web")
    mine = address(cli, "web", "extra")
    assert looked_up(cli, "peer", "shop") == {mine} and pings(cli, "peer", "shop")
    assert looked_up(cli, "web", "peer") and mine in cli("exec", "web", "cat", "/etc/hosts").stdout
    cli("network", "disconnect", "bridge", "web")
    assert pings(cli, "web", own_address())
    assert set(inspect(cli, "web")["NetworkSettings"]["Networks"]) == {"extra"}
    cli("network", "disconnect", "extra", "web")
    assert not looked_up(cli, "peer", "shop") and "eth" not in cli("exec", "web", "ip", "link").stdout
    done = cli("network", "disconnect", "extra", "web", check=False)
    assert done.returncode == 1 and "is not connected to network extra" in done.stderr


def test_addresses_can_be_chosen(cli: Program) -> None:
    cli(
        "network",
        "create",
        "--subnet",
        "10.211.7.0/24",
        "--ip-range",
        "10.211.7.128/25",
        "--gateway",
        "10.211.7.9",
        "mine",
    )
    run(cli, "aa", "--network", "mine", "--ip", "10.211.7.20", "--mac-address", "02:42:00:00:00:99")
    run(cli, "bb", "--network", "mine")
    settings = inspect(cli, "aa")["NetworkSettings"]["Networks"]["mine"]
    assert (settings["IPAddress"], settings["Gateway"], settings["MacAddress"]) == (
        "10.211.7.20",
        "10.211.7.9",
        "02:42:00:00:00:99",
    )
    assert address(cli, "bb", "mine") == "10.211.7.128"
    done = cli("run", "--rm", "--network", "mine", "--ip", "10.211.7.20", "busybox", "true", check=False)
    assert done.returncode == 125 and "Address already in use" in done.stderr
    cli("restart", "-t", "0", "aa")
    assert address(cli, "aa", "mine") == "10.211.7.20"


def test_ipv6_networks_have_ipv6_addresses(cli: Program) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this kernel has no IPv6")
    cli("network", "create", "--ipv6", "six")
    port = free_port()
    run(cli, "web", "--network", "six", "-p", f"[::]:{port}:80", command=HELLO.replace("-l", "-l -s ::"))
    run(cli, "peer", "--network", "six")
    settings = inspect(cli, "web")["NetworkSettings"]["Networks"]["six"]
    assert settings["GlobalIPv6Address"].startswith("fd") and settings["IPv6Gateway"]
    assert pings(cli, "peer", settings["GlobalIPv6Address"])
    assert looked_up(cli, "peer", "web", "-type=aaaa") == {settings["GlobalIPv6Address"]}


def test_ports_of_containers_with_ipv6_addresses_answer_on_both_loopbacks(cli: Program) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    for name, flags in (("both", ["--ipv6"]), ("six", ["--ipv6", "--ipv4=false"])):
        cli("network", "create", *flags, name)
        port = free_port()
        run(cli, f"on-{name}", "--network", name, "-p", f"{port}:80", command=HELLO)
        assert [ask(host, port) for host in ("::1", "127.0.0.1", own_address())] == ["hello\n"] * 3
    run(cli, "peer", "--network", "six")
    assert pings(cli, "peer", "on-six")
    assert looked_up(cli, "peer", "on-six", "-type=aaaa") == {
        inspect(cli, "on-six")["NetworkSettings"]["Networks"]["six"]["GlobalIPv6Address"]
    }


def test_networks_in_use_and_predefined_ones_stay(cli: Program) -> None:
    cli("network", "create", "used")
    run(cli, "aa", "--network", "used")
    done = cli("network", "rm", "used", "bridge", "missing", check=False)
    assert done.returncode == 1
    assert "has active endpoints" in done.stderr and 'name:"aa"' in done.stderr
    assert "bridge is a pre-defined network and cannot be removed" in done.stderr
    assert "network missing not found" in done.stderr
    assert "already exists" in cli("network", "create", "used", check=False).stderr


def test_the_stock_client_manages_networks(docker: Program, cli: Program) -> None:
    docker("network", "create", "--label", "a=b", "-o", "com.docker.network.driver.mtu=1400", "dn")
    container = docker("run", "-d", "--network", "dn", "busybox", "sleep", "600").stdout.strip()
    document = json.loads(docker("network", "inspect", "dn").stdout)[0]
    assert list(document["Containers"]) == [container] and document["Labels"] == {"a": "b"}
    assert "mtu 1400" in docker("exec", container, "ip", "link", "show", "eth0").stdout
    assert docker("network", "ls", "-q", "--filter", "label=a=b").stdout.strip() == document["Id"][:12]
    assert docker("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").stdout.split() == ["dn"]
    done = docker("run", "--rm", "--network", "nowhere", "busybox", "true", check=False)
    assert done.returncode == 125 and "network nowhere not found" in done.stderr
    docker("network", "disconnect", "-f", "dn", container)
    assert docker("network", "prune", "-f").stdout.split() == ["Deleted", "Networks:", "dn"]


def test_hosts_and_resolv_conf_follow_the_flags(cli: Program) -> None:
    flags = (
        "--dns",
        "192.0.2.53",
        "--dns-search",
        "a.example",
        "--dns-option",
        "timeout:1",
        "--add-host",
        "up:host-gateway",
    )
    run(cli, "aa", *flags)
    assert cli("exec", "aa", "cat", "/etc/resolv.conf").stdout == (
        "nameserver 192.0.2.53\nsearch a.example\noptions timeout:1\n"
    )
    gateway = inspect(cli, "aa")["NetworkSettings"]["Gateway"]
    assert f"{gateway}\tup\n" in cli("exec", "aa", "cat", "/etc/hosts").stdout


def test_builds_take_the_bridge_the_hosts_network_none_or_another(cli: Program, tmp_path: Path) -> None:
    cli("network", "create", "for-builds")
    run(cli, "helper", "--network", "for-builds")
    (tmp_path / "Buildfile").write_text(
        "FROM busybox\nARG WHICH\nRUN echo $WHICH; ip -o -4 addr show | grep -c eth0 || true; hostname\n"
        "RUN ping -c1 -W2 helper > /dev/null && echo found || echo lost\n"
    )

    def build(network: str) -> str:
        flags = ("--no-cache", "--progress", "plain", "--network", network, "--build-arg", f"WHICH=<{network}>")
        done = cli("build", *flags, str(tmp_path))
        return str(done.stdout + done.stderr)

    assert "lost" in build("default")
    assert "found" in build("for-builds")
    assert "lost" in build("none")
    assert "lost" in build("host")
    done = cli("build", "--network", "nowhere", str(tmp_path), check=False)
    assert done.returncode != 0 and "network nowhere not found" in done.stderr


def test_steps_take_over_the_connected_namespace_of_those_before(cli: Program, tmp_path: Path) -> None:
    show = "readlink /proc/self/ns/net; ip -o -4 addr show dev eth0"
    quiet = "".join(f"RUN echo {n}; {show}\n" for n in range(3))
    listener = f"RUN (nc -l -p 99 &) ; {show}; (echo | nc 127.0.0.1 99) && sleep 0.1\n"  # remembered
    (tmp_path / "Buildfile").write_text(f"FROM busybox\n{quiet}{listener}RUN {show}\n")
    done = cli("build", "--no-cache", "--progress", "plain", str(tmp_path))
    seen = re.findall(r"net:\[\d+\]", done.stdout + done.stderr)
    assert len(seen) == 5
    assert len(set(seen[:4])) == 1, "a quiet step's namespace goes on"
    assert seen[4] != seen[3], "one with remembered connections does not"


@pytest.fixture
def fragile(make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon that may be killed."""
    own = make_daemon()
    load_busybox(own)
    yield own
    own.close()


def test_networks_survive_a_killed_daemon_and_leave_nothing(fragile: Daemon) -> None:
    cli = Program(BUILDTOOL, {**fragile.environment, "NO_COLOR": "1"})
    assert traces(fragile) == []
    cli("network", "create", "net")
    cli("network", "create", "more")
    port = free_port()
    run(cli, "web", "--network", "net", "-p", f"{port}:80", command=HELLO)
    cli("network", "connect", "more", "web")
    run(cli, "peer", "--network", "net")
    run(cli, "gone", "-p", "80")
    before = inspect(cli, "web")["NetworkSettings"]

    fragile.kill()
    assert ask("127.0.0.1", port) == ask(own_address(), port) == "hello\n"
    fragile.start()
    assert inspect(cli, "web")["NetworkSettings"] == before
    assert ask("127.0.0.1", port) == "hello\n"
    assert looked_up(cli, "peer", "web") == {before["Networks"]["net"]["IPAddress"]}
    assert "port is already allocated" in cli("run", "--rm", "-p", f"{port}:80", "busybox", check=False).stderr
    run(cli, "new", "--network", "net")
    assert address(cli, "new", "net") not in {address(cli, "web", "net"), address(cli, "peer", "net")}

    fragile.stop()
    assert ask("127.0.0.1", port) == "hello\n"
    fragile.start()
    cli("rm", "-f", "web", "peer", "gone", "new")
    cli("network", "rm", "net", "more")
    fragile.stop()
    assert traces(fragile) == []


def test_what_a_killed_daemon_left_is_removed(fragile: Daemon) -> None:
    cli = Program(BUILDTOOL, {**fragile.environment, "NO_COLOR": "1"})
    cli("network", "create", "net")
    run(cli, "aa", "--network", "net")
    pid = inspect(cli, "aa")["State"]["Pid"]
    fragile.kill()
    os.kill(pid, 9)
    time.sleep(0.2)
    fragile.start()
    assert traces(fragile) == []
    cli("start", "aa")
    assert pings(cli, "aa", "aa")


def test_two_daemons_do_not_meet(fragile: Daemon, daemon: Daemon, cli: Program) -> None:
    other = Program(BUILDTOOL, {**fragile.environment, "NO_COLOR": "1"})
    run(cli, "here")
    run(other, "there")
    subnets = [json.loads(one("network", "inspect", "bridge").stdout)[0]["IPAM"]["Config"] for one in (cli, other)]
    assert subnets[0] != subnets[1]
    assert not pings(cli, "here", address(other, "there"))


def test_the_packet_filters_table_comes_back_when_somebody_flushes_it(fragile: Daemon) -> None:
    cli = Program(BUILDTOOL, {**fragile.environment, "NO_COLOR": "1"})
    port = free_port()
    run(cli, "web", "-p", f"127.0.0.1:{port}:80", command=HELLO)
    run(cli, "out")
    table = kernel.Names(fragile.data).table
    rules = subprocess.run(["nft", "list", "table", "inet", table], capture_output=True, check=True).stdout
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)
    deadline = time.monotonic() + 10
    while (f"table inet {table}" not in traces(fragile)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert subprocess.run(["nft", "list", "table", "inet", table], capture_output=True, check=True).stdout == rules
    assert ask("127.0.0.1", port) == "hello\n"
    cli("rm", "-f", "web", "out")
    fragile.stop()
    assert traces(fragile) == []
    assert "is put back" in fragile.log and fragile.log.count("is put back") == 1


def test_nothing_leaks_from_containers_that_come_and_go(fragile: Daemon) -> None:
    cli = Program(BUILDTOOL, {**fragile.environment, "NO_COLOR": "1"})
    cli("network", "create", "net")
    cli("network", "create", "-d", "macvlan", "island")
    run(cli, "stays", "--network", "net", "-p", "80")

    def turn() -> None:
        for name in ("one", "two"):
            run(cli, name, "--network", "net", "-p", "81-82", "-p", "83/udp")
        cli("network", "connect", "island", "one")
        cli("network", "connect", "bridge", "two")
        cli("network", "disconnect", "net", "two")
        cli("kill", "one")
        cli("rm", "-f", "one", "two")

    turn()
    before = settled(fragile)
    for _ in range(3):
        turn()
    assert settled(fragile) == before
    fragile.kill()
    fragile.start()
    assert set(traces(fragile)) < set(before[0])  # bridges that nobody is connected to come with the next container
    turn()
    assert settled(fragile)[0] == before[0]
    cli("rm", "-f", "stays")
    cli("network", "rm", "net", "island")
    fragile.stop()
    assert traces(fragile) == []


def settled(daemon: Daemon) -> tuple[list[str], str, set[str], int]:
    """What it holds when all but one container are gone: ended ones take a moment to go."""
    deadline, last = time.monotonic() + 20, state(daemon)
    while time.monotonic() < deadline:
        _, veths = kernel.own_links(kernel.Names(daemon.data))
        time.sleep(0.3)
        if (now := state(daemon)) == last and len(veths) == 1:
            break
        last = now
    return last


def state(daemon: Daemon) -> tuple[list[str], str, set[str], int]:
    """What a daemon holds: interfaces, published ports, descriptors of sockets and namespaces, other descriptors."""
    table = kernel.Names(daemon.data).table
    rules = subprocess.run(["nft", "list", "table", "inet", table], capture_output=True, text=True, check=True).stdout
    held = [str(path.readlink()) for path in Path(f"/proc/{daemon.pid}/fd").iterdir() if path.is_symlink()]
    namespaces = {target for target in held if target.startswith("net:")}
    return sorted(traces(daemon)), rules, namespaces, sum(target.startswith("socket:") for target in held)


def test_the_administrators_settings_count(tmp_path: Path) -> None:
    third = secrets.randbelow(200)
    settings = {
        "bip": f"10.215.{third}.1/24",
        "default-address-pools": [{"base": f"10.216.{third}.0/24", "size": 28}],
        "mtu": 1300,
        "dns": ["192.0.2.53"],
        "dns-search": ["corp.example"],
        "ip": "127.0.0.1",
        "host-gateway-ip": "192.0.2.99",
    }
    (tmp_path / "daemon.json").write_text(json.dumps(settings))
    own = Daemon()
    own.environment["BUILDTOOL_CONFIG_DIR"] = str(tmp_path)
    try:
        own.start()
        load_busybox(own)
        cli = Program(BUILDTOOL, {**own.environment, "NO_COLOR": "1"})
        run(cli, "one", "-p", "80", "--add-host", "up:host-gateway")
        assert address(cli, "one") == f"10.215.{third}.2"
        assert "mtu 1300" in cli("exec", "one", "ip", "link", "show", "eth0").stdout
        assert cli("exec", "one", "cat", "/etc/resolv.conf").stdout == "nameserver 192.0.2.53\nsearch corp.example\n"
        assert "192.0.2.99\tup" in cli("exec", "one", "cat", "/etc/hosts").stdout
        assert cli("port", "one").stdout.startswith("80/tcp -> 127.0.0.1:")
        cli("network", "create", "net")
        assert json.loads(cli("network", "inspect", "net").stdout)[0]["IPAM"]["Config"] == [
            {"Subnet": f"10.216.{third}.0/28", "Gateway": f"10.216.{third}.1"}
        ]
        own.stop()
        (tmp_path / "daemon.json").write_text('{"mtu": "big"}')
        with pytest.raises(RuntimeError, match=r"daemon.json: .*\.mtu"):
            own.start()
    finally:
        own.close()
