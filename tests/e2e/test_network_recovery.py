"""What a killed daemon leaves of its networks: everything goes on, nothing leaks, and all of it can be removed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from buildtool.networks import kernel
from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox
from tests.e2e.conftest import free_port
from tests.e2e.test_networks import HELLO, address, ask, inspect, pings, run, traces

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
_COUNT = 20


@pytest.fixture
def fragile(make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon that may be killed."""
    own = make_daemon()
    load_busybox(own)
    yield own
    own.close()


def table(daemon: Daemon) -> str:
    """The daemon's table of the packet filter."""
    command = ["nft", "list", "table", "inet", kernel.Names(daemon.data).table]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def namespaces(daemon: Daemon) -> set[str]:
    """The network namespaces that processes of a daemon's containers are in, and those it holds itself."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            mine = int(pid) == daemon.pid
            if mine or str(daemon.data).encode() in Path(f"/proc/{pid}/mountinfo").read_bytes():
                found.add(os.readlink(f"/proc/{pid}/ns/net"))
            if mine:
                links = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
                found |= {link for link in links if link.startswith("net:")}
        except OSError:
            continue
    return found - {os.readlink("/proc/self/ns/net")}


def connected(port: int) -> socket.socket:
    """A connection to a server that is about to start."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def test_connections_go_on_while_the_daemon_is_killed_and_restarted(fragile: Daemon) -> None:
    cli = Program(BUILDTOOL, {**fragile.environment, "NO_COLOR": "1"})
    port = free_port()
    run(cli, "echo", "-p", f"{port}:80", command="exec nc -l -p 80 -e cat")
    with connected(port) as connection:

        def says(text: bytes) -> bool:
            connection.sendall(text)
            return connection.recv(100) == text

        assert says(b"before")
        fragile.kill()
        assert says(b"without")
        fragile.start()
        assert says(b"after")
        fragile.stop()
        fragile.start()
        assert says(b"again")


def test_the_packet_filters_table_comes_back_with_the_daemon(fragile: Daemon) -> None:
    cli = Program(BUILDTOOL, {**fragile.environment, "NO_COLOR": "1"})
    others = f"others-{os.getpid()}"
    rules = f"table inet {others} {{\nchain c {{ type filter hook forward priority 10; }}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        port = free_port()
        cli("network", "create", "--internal", "inside")
        run(cli, "web", "-p", f"127.0.0.1:{port}:80", command=HELLO)
        run(cli, "apart", "--network", "inside")
        before = table(fragile)
        fragile.kill()
        subprocess.run(["nft", "delete", "table", "inet", kernel.Names(fragile.data).table], check=True)
        fragile.start()
        assert table(fragile) == before and ask("127.0.0.1", port) == "hello\n"
        fragile.close()
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        assert f"table inet {others}\n" in tables and traces(fragile) == []
    finally:
        subprocess.run(["nft", "delete", "table", "inet", others], check=False)


def test_interfaces_that_somebody_removed_come_back_with_the_daemon(fragile: Daemon) -> None:
    cli = Program(BUILDTOOL, {**fragile.environment, "NO_COLOR": "1"})
    cli("network", "create", "net")
    run(cli, "one", "--network", "net", command=HELLO)
    run(cli, "two", "--network", "net")
    fragile.kill()
    bridges, veths = kernel.own_links(kernel.Names(fragile.data))
    kernel.delete_links([veths[0].name, bridges[0].name])
    fragile.start()
    assert pings(cli, "one", "two") and pings(cli, "two", "one")
    assert ask(address(cli, "one", "net"), 80) == "hello\n"
    assert fragile.log.count("had lost its connection to net: it is back") == 1


def test_a_purge_leaves_nothing_of_a_root(fragile: Daemon) -> None:
    cli = Program(BUILDTOOL, {**fragile.environment, "NO_COLOR": "1"})
    cli("network", "create", "net")
    cli("network", "create", "-d", "macvlan", "island")
    run(cli, "web", "--network", "net", "-p", "80")
    cli("network", "connect", "island", "web")
    fragile.kill()
    assert len(traces(fragile)) == 4
    subprocess.run([sys.executable, "-m", "buildtool.networks.purge", str(fragile.data)], check=True)
    assert traces(fragile) == []


def test_a_daemon_killed_amid_twenty_containers_leaks_nothing(fragile: Daemon) -> None:
    cli = Program(BUILDTOOL, {**fragile.environment, "NO_COLOR": "1"})
    before = namespaces(fragile)
    for name in ("one", "two"):
        cli("network", "create", name)
    ports = [free_port() for _ in range(4)]
    networks = ("bridge", "one", "two")

    def start(number: int) -> None:
        published = ("-p", f"{ports[number]}:80") if number < len(ports) else ("-p", "80", "-p", "81/udp")
        run(cli, f"c{number}", "--network", networks[number % 3], *published, command=HELLO)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(_COUNT)))
    going = threading.Event()

    def churn(number: int) -> None:
        """Connect, disconnect and restart until the daemon is gone."""
        network = networks[(number + 1) % 3]
        while not going.is_set():
            for command in (("network", "connect", network, f"c{number}"), ("restart", "-t", "0", f"c{number}")):
                cli(*command, check=False, autostart=False)
            cli("network", "disconnect", network, f"c{number}", check=False, autostart=False)

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(churn, number) for number in range(4, 8)]
        assert not going.wait(1.5)
        fragile.kill()
        going.set()
        for one in working:
            one.result()
    assert all(ask("127.0.0.1", port) == "hello\n" for port in ports)
    fragile.start()
    running = cli("ps", "--format", "{{.Names}}").stdout.split()
    assert set(running) >= {f"c{number}" for number in range(_COUNT)} - {f"c{number}" for number in range(4, 8)}
    assert all(ask("127.0.0.1", port) == "hello\n" for port in ports)
    seen: set[str] = set()
    for name in running:
        for network, settings in inspect(cli, name)["NetworkSettings"]["Networks"].items():
            assert settings["IPAddress"] not in seen, f"{name} in {network} shares its address"
            seen.add(settings["IPAddress"])
    shown = table(fragile)
    elements = [f"{ports[number]} : {address(cli, f'c{number}', networks[number % 3])} . 80" for number in range(4)]
    assert all(element in shown for element in elements)
    assert pings(cli, "c1", "c10") and not pings(cli, "c1", address(cli, "c2", "two"))
    veths = {link.name for link in kernel.own_links(kernel.Names(fragile.data))[1]}
    assert len(veths) == len(seen)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: cli("rm", "-f", f"c{number}"), range(_COUNT)))
    assert cli("ps", "-aq").stdout == ""
    cli("network", "rm", "one", "two")
    assert not namespaces(fragile) - before
    fragile.stop()
    assert traces(fragile) == []
