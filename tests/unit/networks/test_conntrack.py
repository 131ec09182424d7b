"""Datagram flows that the kernel remembers, in a network namespace of the test's own."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from buildtool.networks import kernel
from buildtool.networks.conntrack import forget_datagrams
from buildtool.networks.firewall import Firewall

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_only_the_flows_of_the_ports_are_forgotten() -> None:
    command = ["unshare", "-n", "sh", "-c", "ip link set lo up; echo; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()

        def work() -> tuple[int, int, int]:
            hook = "type filter hook output priority 0; ct state new accept"
            Firewall().apply_here(f"table ip watch {{\nchain c {{ {hook}; }}\n}}\n")
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                for port in (4001, 4002):
                    client.sendto(b"x", ("127.0.0.1", port))
            return forget_datagrams({4001}), forget_datagrams({4001}), forget_datagrams({4001, 4002})

        try:
            assert kernel.in_namespace_of(process.pid, work) == (1, 0, 1)
        finally:
            process.kill()
