"""The packet filter's table, checked by nft itself in a namespace of its own."""

from __future__ import annotations

import os
import struct
import subprocess

import pytest

from buildtool.networks import kernel, rules
from buildtool.networks.firewall import Firewall
from buildtool.networks.model import PortMapping
from buildtool.networks.watch import removed_table

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
BRIDGES = [
    rules.BridgeRules("br-a", "10.1.0.0/24", "fd01::/64"),
    rules.BridgeRules("br-b", "10.2.0.0/24", internal=True),
    rules.BridgeRules("br-c", "10.3.0.0/24", icc=False, masquerade=False),
]
TARGETS = [
    rules.Target(PortMapping(80, "tcp", "0.0.0.0", 8080), "10.1.0.2"),
    rules.Target(PortMapping(53, "udp", "127.0.0.1", 5353), "10.1.0.2"),
    rules.Target(PortMapping(80, "tcp", "::", 8080), "fd01::2"),
    rules.Target(PortMapping(5, "sctp", "192.0.2.2", 5), "10.1.0.3"),
]


@pytest.fixture
def sleeper() -> object:
    """A process in a network namespace of its own."""
    process = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def listed(pid: int) -> str:
    command = ["nsenter", "-t", str(pid), "-n", "nft", "list", "ruleset"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_kernel_takes_the_table_whole_again_and_without_leaving_anything(
    sleeper: subprocess.Popen[bytes],
) -> None:
    firewall = Firewall()

    def apply(text: str) -> None:
        kernel.in_namespace_of(sleeper.pid, lambda: firewall.apply_here(text))

    apply("table inet others {\nchain c { type filter hook forward priority 0; policy drop; }\n}\n")
    linked = [rules.LinkedPort("10.3.0.3", "10.3.0.2", "tcp", 80)]
    apply(rules.table("buildtool-x", BRIDGES, TARGETS, linked))
    once = listed(sleeper.pid)
    apply(rules.table("buildtool-x", BRIDGES, TARGETS, linked))
    apply(rules.links("buildtool-x", linked * 2))
    assert listed(sleeper.pid) == once
    assert "10.3.0.3 . 10.3.0.2 . tcp . 80" in once
    apply(rules.links("buildtool-x", []))
    assert "8080 : 10.1.0.2 . 80" in once and "127.0.0.1 . 5353 : 10.1.0.2 . 53" in once
    assert "ip saddr 10.1.0.0/24" in once and "ip saddr 10.2.0.0/24" not in once and "10.3.0.0/" not in once

    apply(rules.elements("delete", "buildtool-x", TARGETS))
    assert "elements = { 8080" not in listed(sleeper.pid)
    drops = kernel.in_namespace_of(sleeper.pid, firewall.foreign_forward_drops)
    assert drops == ["inet others c"]
    apply(rules.removal("buildtool-x"))
    apply(rules.removal("buildtool-x"))
    left = listed(sleeper.pid)
    assert "buildtool" not in left and "table inet others" in left


def test_a_refused_change_changes_nothing_and_tells_the_kernels_words(sleeper: subprocess.Popen[bytes]) -> None:
    firewall = Firewall()
    text = "table inet x {\nchain c {\n}\n}\nadd element inet x missing { 1 }\n"
    with pytest.raises(Exception, match=r"packet filter refused a change: .*missing"):
        kernel.in_namespace_of(sleeper.pid, lambda: firewall.apply_here(text))
    assert listed(sleeper.pid) == ""


def test_the_resolvers_table_replaces_an_older_one(sleeper: subprocess.Popen[bytes]) -> None:
    firewall = Firewall()
    for fresh, port in ((True, 1111), (False, 2222)):
        text = rules.resolver(port, port, fresh=fresh)
        kernel.in_namespace_of(sleeper.pid, lambda text=text: firewall.apply_here(text))  # type: ignore[misc]
    assert ":2222" in listed(sleeper.pid) and ":1111" not in listed(sleeper.pid)


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [(0xA02, "mine", True), (0xA02, "theirs", False), (0xA00, "mine", False), (0x1002, "mine", False)],
)
def test_the_removal_of_a_table_is_heard(kind: int, name: str, expected: bool) -> None:
    body = struct.pack("!BBH", 1, 0, 7) + struct.pack("HH", 5 + len(name), 1) + name.encode() + b"\0"
    body += bytes(-len(body) % 4)
    message = struct.pack("IHHII", 16 + len(body), kind, 0, 0, 0) + body
    other = struct.pack("IHHII", 20, 0xA06, 0, 0, 0) + bytes(4)
    assert removed_table(other + message + other, "mine") is expected
