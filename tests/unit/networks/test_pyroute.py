"""pyroute2 without the whole of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from buildtool.networks import pyroute

SCRIPT = """
import sys
from buildtool.networks.rtnetlink import RouteSocket, GETLINK, decoded, message
with_socket = RouteSocket()
print(decoded(with_socket.get(message(GETLINK, {"index": 1}, []))).get("ifname"))
print(sum(name.startswith("pyroute2") for name in sys.modules) < 40)
"""


def test_a_route_socket_needs_few_of_its_modules() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["lo", "True"]


def test_what_is_not_there_is_told() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"netlink\.nothing"):
        pyroute.module("netlink.nothing")
