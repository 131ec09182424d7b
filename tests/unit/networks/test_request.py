"""What POST /networks/create accepts."""

from __future__ import annotations

from typing import Any

import pytest

from buildtool.errors import BuildtoolError, Forbidden, InvalidInput, NotFound, Unavailable
from buildtool.networks.network import Network
from buildtool.networks.request import parse


def body(*subnets: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"Name": "net", "IPAM": {"Driver": "default", "Config": list(subnets)}, **fields}


def test_a_name_is_enough() -> None:
    record = parse({"Name": "net", "IPAM": None, "Options": None})
    assert (record.driver, record.ipv4, record.ipv6, record.internal, record.ipam) == (
        "bridge",
        True,
        False,
        False,
        [],
    )
    assert record.bridge == f"br-{record.id[:12]}"


def test_options_of_the_driver_count() -> None:
    options = {
        "com.docker.network.bridge.name": "mine",
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.bridge.enable_icc": "false",
    }
    record = parse(body(Options=options))
    assert (record.bridge, record.mtu) == ("mine", 1400)
    assert not Network(record).rules().icc


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"Name": ""}, InvalidInput, "cannot be empty"),
        ({"Name": "a b"}, InvalidInput, "invalid network name"),
        ({"Name": 1}, InvalidInput, "Name"),
        ({"Name": "bridge"}, Forbidden, "predefined"),
        ({"Name": "n", "Driver": "host"}, Forbidden, 'only one instance of "host"'),
        ({"Name": "n", "Driver": "overlay"}, Unavailable, "swarm"),
        ({"Name": "n", "Driver": "ipvlan"}, NotFound, 'plugin "ipvlan" not found'),
        ({"Name": "n", "ConfigFrom": {"Network": "none-such"}}, NotFound, "network none-such not found"),
        ({"Name": "n", "Ingress": True}, Unavailable, "swarm"),
        ({"Name": "n", "Driver": "macvlan", "Options": {"macvlan_mode": "x"}}, InvalidInput, "unknown macvlan mode"),
        ({"Name": "n", "Driver": "macvlan", "Options": {"parent": "a/b"}}, InvalidInput, "invalid parent interface"),
        ({"Name": "n", "Scope": "swarm"}, Unavailable, "swarm"),
        (body({"Subnet": "10.0.0.1/24"}), InvalidInput, "has host bits set"),
        (body({"Gateway": "10.0.0.1"}), InvalidInput, "needs its subnet"),
        (body({"Subnet": "10.0.0.0/24", "Gateway": "10.0.1.1"}), InvalidInput, "is not in the subnet"),
        (body({"Subnet": "10.0.0.0/24", "IPRange": "10.1.0.0/25"}), InvalidInput, "is not in the subnet"),
        (
            body({"Subnet": "10.0.0.0/24", "AuxiliaryAddresses": {"r": "nowhere"}}),
            InvalidInput,
            "not an IP address",
        ),
        (body({"Subnet": "fd00::/64"}), InvalidInput, "needs IPv6"),
        (body({"Subnet": "10.0.0.0/24"}, {"Subnet": "10.0.1.0/24"}), Unavailable, "multiple IPv4 subnets"),
        (body(Options={"com.docker.network.driver.mtu": "many"}), InvalidInput, "invalid MTU"),
        (body(Options={"com.docker.network.bridge.name": "sixteen-letters!"}), InvalidInput, "bridge name"),
        (body(Options={"com.docker.network.bridge.gateway_mode_ipv4": "wild"}), InvalidInput, "unknown gateway mode"),
        (body(Options={"com.docker.network.bridge.gateway_mode_ipv6": "isolated"}), InvalidInput, "internal network"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(
    asked: dict[str, Any], error: type[BuildtoolError], text: str
) -> None:
    with pytest.raises(error, match=text):
        parse(asked)


async def test_missing_subnets_and_gateways_are_chosen() -> None:
    network = Network(
        parse(body({"Subnet": "10.9.0.0/24", "AuxiliaryAddresses": {"r": "10.9.0.1"}}, EnableIPv6=True))
    )
    network.choose_subnets([])
    four, six = network.record.subnet(4), network.record.subnet(6)
    assert four is not None and six is not None
    assert four.gateway == "10.9.0.2"
    assert six.subnet.startswith("fd") and six.gateway.endswith("::1")


async def test_a_chosen_subnet_gives_way_while_nobody_is_connected_but_a_wanted_one_never_does() -> None:
    chosen = Network(parse({"Name": "a"}))
    chosen.choose_subnets([])
    first = chosen.subnets()
    chosen.choose_subnets(first)
    assert chosen.subnets() != first
    wanted = Network(parse(body({"Subnet": "10.9.0.0/24"})))
    with pytest.raises(Forbidden, match="Pool overlaps"):
        wanted.choose_subnets(wanted.subnets())
