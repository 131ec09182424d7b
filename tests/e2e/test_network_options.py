"""What can be asked of networks and connections: addresses, driver options, ways out, modes, filters, events."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from buildtool.networks import kernel
from tests.conftest import Daemon, Program
from tests.e2e.conftest import free_port
from tests.e2e.test_network_drivers import Cable
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


@pytest.fixture
def cable() -> Iterator[Cable]:
    """A cable to a router."""
    made = Cable()
    yield made
    made.close()


def third() -> str:
    """The beginning of a subnet that no other test has."""
    return f"10.219.{secrets.randbelow(256)}"


def test_auxiliary_addresses_are_nobodys_and_both_versions_can_be_chosen(cli: Program) -> None:
    net = third()
    four = ("--subnet", f"{net}.0/29", "--aux-address", f"router={net}.2", "--aux-address", f"printer={net}.4")
    six = ("--ipv6", "--subnet", "fd19:7::/64", "--gateway", "fd19:7::9")
    cli("network", "create", *four, *six, "net")
    config = json.loads(cli("network", "inspect", "net").stdout)[0]["IPAM"]["Config"][0]
    assert config["AuxiliaryAddresses"] == {"router": f"{net}.2", "printer": f"{net}.4"}
    run(cli, "chosen", "--network", "net", "--ip", f"{net}.5", "--ip6", "fd19:7::77")
    assert address(cli, "chosen", "net") == f"{net}.5"
    assert inspect(cli, "chosen")["NetworkSettings"]["Networks"]["net"]["GlobalIPv6Address"] == "fd19:7::77"
    for name, expected in (("first", 3), ("second", 6)):
        run(cli, name, "--network", "net")
        assert address(cli, name, "net") == f"{net}.{expected}"
    assert pings(cli, "first", "fd19:7::77") and pings(cli, "first", "fd19:7::9")
    full = cli("run", "--rm", "--network", "net", "busybox", "true", check=False)
    assert full.returncode == 125 and "no available IPv4 addresses" in full.stderr
    overlap = cli("network", "create", "--subnet", f"{net}.0/24", "again", check=False)
    assert overlap.returncode != 0 and "Pool overlaps with other one" in overlap.stderr


def test_driver_options_shape_the_bridge_and_its_interfaces(cli: Program) -> None:
    net, bridge = third(), f"tb{secrets.token_hex(4)}"
    options = {
        "bridge.name": bridge,
        "driver.mtu": "1380",
        "container_iface_prefix": "up",
        "bridge.inhibit_ipv4": "1",
    }
    flags = [part for key, value in options.items() for part in ("-o", f"com.docker.network.{key}={value}")]
    cli("network", "create", "--subnet", f"{net}.0/24", *flags, "net")
    run(cli, "one", "--network", "net")
    run(cli, "two", "--network", "net")
    assert "mtu 1380" in cli("exec", "one", "ip", "link", "show", "up0").stdout and pings(cli, "one", "two")
    shown = subprocess.run(["ip", "address", "show", bridge], capture_output=True, text=True, check=True).stdout
    assert "mtu 1380" in shown and "inet " not in shown
    cli("rm", "-f", "one", "two")
    cli("network", "rm", "net")
    assert subprocess.run(["ip", "link", "show", bridge], capture_output=True, check=False).returncode != 0


def test_containers_go_out_with_the_hosts_address_unless_told_otherwise(
    cli: Program, cable: Cable, background: Callable[..., subprocess.Popen[bytes]]
) -> None:
    for masquerade in ("true", "false"):
        net = third()
        cable.route(f"{net}.0/24")
        option = f"com.docker.network.bridge.enable_ip_masquerade={masquerade}"
        cli("network", "create", "--subnet", f"{net}.0/24", "-o", option, "net")
        run(cli, "one", "--network", "net")
        with cable.server() as server:
            port = server.getsockname()[1]
            asking = background(cli, "exec", "one", "sh", "-c", f"nc -w 2 {cable.lan}.1 {port} < /dev/null")
            connection, (source, _) = server.accept()
            with connection:
                connection.sendall(b"outside\n")
            assert asking.communicate(timeout=10)[0] == b"outside\n"
        assert source == (f"{cable.lan}.2" if masquerade == "true" else address(cli, "one", "net"))
        cli("rm", "-f", "one")
        cli("network", "rm", "net")


def test_a_server_of_the_host_is_reached_by_gateway_and_by_name(cli: Program) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"host\n")

        threading.Thread(target=serve, daemon=True).start()
        run(cli, "one", "--add-host", "machine:host-gateway")
        gateway = inspect(cli, "one")["NetworkSettings"]["Gateway"]
        for host in ("machine", gateway):
            assert cli("exec", "one", "sh", "-c", f"nc -w 3 {host} {port} < /dev/null").stdout == "host\n"


def test_ranges_of_ports_are_published_one_to_one_or_to_the_first_free(docker: Program, cli: Program) -> None:
    first = free_range(3)
    command = "for p in 90 91 92; do (while true; do echo $p | nc -l -p $p; done) & done; wait"
    docker("run", "-d", "--name", "web", "-p", f"{first}-{first + 2}:90-92", "busybox", "sh", "-c", command)
    assert [ask("127.0.0.1", first + number) for number in range(3)] == ["90\n", "91\n", "92\n"]
    docker("rm", "-f", "web")
    for number in range(2):
        docker("run", "-d", "--name", f"any{number}", "-p", f"{first}-{first + 1}:80", "busybox", "sleep", "600")
        assert docker("port", f"any{number}", "80").stdout.splitlines()[0] == f"0.0.0.0:{first + number}"
    full = docker("run", "--rm", "-p", f"{first}-{first + 1}:80", "busybox", "true", check=False)
    assert full.returncode == 125 and "port is already allocated" in full.stderr
    docker("rm", "-f", "any0", "any1")


def free_range(count: int) -> int:
    """The first of so many ports that nobody has."""
    while True:
        first = free_port()
        try:
            probes = [socket.create_server(("0.0.0.0", first + number)) for number in range(count)]
        except OSError:
            continue
        for probe in probes:
            probe.close()
        return first


def test_the_hosts_network_none_and_anothers(cli: Program) -> None:
    ours = cli("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net").stdout.strip()
    assert ours == os.readlink("/proc/self/ns/net")
    alone = cli("run", "--rm", "--network", "none", "busybox", "ip", "-o", "link").stdout
    assert alone.count("\n") == 1 and ": lo:" in alone
    port = free_port()
    cli("network", "create", "net")
    run(cli, "web", "--network", "net", "-p", f"{port}:80")
    run(cli, "side", "--network", "container:web", command=HELLO)
    assert ask("127.0.0.1", port) == "hello\n"
    mine = address(cli, "web", "net")
    assert (
        mine in cli("exec", "side", "ip", "address").stdout
        and mine in cli("exec", "side", "cat", "/etc/hosts").stdout
    )
    assert looked_up(cli, "side", "web") == {mine}
    for flags, reason in (
        (("-p", "1:1"), "port publishing and the container type network mode"),
        (("--hostname", "x"), "hostname and the network mode"),
    ):
        refused = cli("run", "--rm", "--network", "container:web", *flags, "busybox", check=False)
        assert refused.returncode == 125 and reason in refused.stderr
    again = cli("network", "connect", "bridge", "side", check=False)
    assert "cannot be connected to any other network" in again.stderr.replace("\n", " ")


def test_networks_are_found_by_filters_and_pruned_by_them(cli: Program) -> None:
    for name, label in (("shop-front", "tier=one"), ("shop-back", "tier=two"), ("store", "keep=yes")):
        cli("network", "create", "--label", label, name)
    run(cli, "user", "--network", "shop-back")
    identity = json.loads(cli("network", "inspect", "store").stdout)[0]["Id"]

    def names(*filters: str) -> set[str]:
        flags = [part for text in filters for part in ("-f", text)]
        return set(cli("network", "ls", "--format", "{{.Name}}", *flags).stdout.split())

    assert names("name=shop") == {"shop-front", "shop-back"}
    assert names(f"id={identity[:10]}") == {"store"}
    assert names("label=tier") == {"shop-front", "shop-back"} and names("label=tier=two") == {"shop-back"}
    assert names("type=builtin") == names("name=bridge", "name=host", "name=none") == {"bridge", "host", "none"}
    assert names("driver=host") == {"host"} and names("scope=swarm") == set()
    assert names("dangling=true") == {"shop-front", "store"} and "shop-back" in names("dangling=false")
    assert "invalid filter" in cli("network", "ls", "-f", "colour=red", check=False).stderr
    cli("network", "prune", "-f", "--filter", "until=1h")
    cli("network", "prune", "-f", "--filter", "label!=keep=yes")
    assert names("type=custom") == {"shop-back", "store"}
    cli("network", "prune", "-f")
    assert names("type=custom") == {"shop-back"}


def test_networks_tell_what_happens_to_them(cli: Program) -> None:
    begun = time.time()
    identity = cli("network", "create", "net").stdout.strip()
    one = run(cli, "one", "--network", "net")
    two = run(cli, "two")
    cli("network", "connect", "net", "two")
    cli("network", "disconnect", "net", "two")
    cli("rm", "-f", "one")
    cli("network", "rm", "net")
    flags = ("--since", f"{begun:.6f}", "--until", f"{time.time() + 0.01:.6f}", "--filter", f"network={identity}")
    lines = cli("events", *flags, "--format", "{{json .}}").stdout.splitlines()
    told = [json.loads(line) for line in lines]
    assert [(each["Action"], each["Actor"]["Attributes"].get("container")) for each in told] == [
        ("create", None),
        ("connect", one),
        ("connect", two),
        ("disconnect", two),
        ("disconnect", one),
        ("destroy", None),
    ]
    assert all(each["Actor"]["Attributes"]["name"] == "net" for each in told)


def test_names_outside_are_asked_of_the_containers_servers(cli: Program) -> None:
    cli("network", "create", "net")
    run(cli, "server", "--network", "net")
    upstream = Upstream(inspect(cli, "server")["State"]["Pid"], address(cli, "server", "net"))
    flags = ("--dns", upstream.address, "--dns-search", "corp.example", "--dns-option", "timeout:3")
    run(cli, "one", "--network", "net", *flags)
    try:
        assert cli("exec", "one", "cat", "/etc/resolv.conf").stdout == (
            "nameserver 127.0.0.11\nsearch corp.example\noptions timeout:3 ndots:0\n"
        )
        assert looked_up(cli, "one", "www.example.org") == {"192.0.2.7"}
        assert pings(cli, "one", "server") and not looked_up(cli, "one", "elsewhere")
        pid = inspect(cli, "one")["State"]["Pid"]
        assert upstream.ask(pid, "huge.example.org", tcp=False) == 60  # cut, and fetched over TCP
        assert upstream.ask(pid, "www.example.org", tcp=True) == 1
        assert "elsewhere.corp.example" in upstream.asked and "server" not in upstream.asked
    finally:
        upstream.close()


class Upstream:
    """A name server in a container's namespace: names of example.org are 192.0.2.7, `huge` has 60 addresses."""

    def __init__(self, pid: int, address: str) -> None:
        from dnslib import QTYPE, RCODE, RR, A, DNSRecord
        from dnslib.server import BaseResolver, DNSLogger, DNSServer

        self.address, self.asked = address, set[str]()
        outer = self

        class Everything(BaseResolver):  # type: ignore[misc]
            def resolve(self, request: DNSRecord, handler: object) -> DNSRecord:
                name = str(request.q.qname).rstrip(".")
                outer.asked.add(name)
                reply = request.reply(aa=0)
                if not name.endswith("example.org"):
                    reply.header.rcode = RCODE.NXDOMAIN
                    return reply
                count = 60 if name.startswith("huge") else 1
                for number in range(count if request.q.qtype == QTYPE.A else 0):
                    reply.add_answer(RR(name, ttl=1, rdata=A(f"192.0.2.{7 + number}")))
                return reply

        def make(*, tcp: bool) -> DNSServer:
            return DNSServer(
                Everything(), address=address, port=53, tcp=tcp, logger=DNSLogger(logf=lambda text: None)
            )

        self._servers = [kernel.in_namespace_of(pid, lambda tcp=tcp: make(tcp=tcp)) for tcp in (False, True)]
        for one in self._servers:
            one.start_thread()

    def ask(self, pid: int, name: str, *, tcp: bool) -> int:
        """How many addresses a container's name server answers with."""
        from dnslib import EDNS0, DNSRecord

        question = DNSRecord.question(name)
        question.add_ar(EDNS0(udp_len=4096))
        data = kernel.in_namespace_of(pid, lambda: question.send("127.0.0.11", 53, tcp=tcp, timeout=5))
        return len(DNSRecord.parse(data).rr)

    def close(self) -> None:
        """Stop."""
        for one in self._servers:
            one.stop()
            one.server.server_close()


def test_what_comes_from_outside_to_a_published_port_keeps_its_address(cli: Program, cable: Cable) -> None:
    port = free_port()
    cable.plug()
    run(cli, "web", "-p", f"{cable.lan}.2:{port}:80", command="while true; do nc -l -p 80 -e /bin/netstat -tn; done")
    assert f"{cable.lan}.1:" in cable.asks(f"{cable.lan}.2", port, 4000)
    assert ask(own_address(), port, 0.2) == ""
