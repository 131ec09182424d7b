"""daemon.json's keys about networks."""

from __future__ import annotations

import ipaddress
import itertools
import json
from typing import Any

import pytest

from buildtool.errors import InvalidInput
from buildtool.networks.model import Ipam
from buildtool.networks.settings import Settings


def parse(**keys: Any) -> Settings:
    document = {key.replace("_", "-"): value for key, value in keys.items()}
    return Settings.parse(json.dumps(document).encode(), "daemon.json")


def test_without_keys_everything_is_as_docker_has_it() -> None:
    settings = parse(debug=True)
    assert settings == Settings() and settings.default_bridge() == []
    assert next(settings.pools()) == ipaddress.ip_network("172.17.0.0/16")


def test_pools_are_cut_into_subnets_in_order() -> None:
    pools = [{"base": "10.9.0.0/23", "size": 24}, {"base": "10.8.0.0/16", "size": 20}]
    offered = itertools.islice(parse(default_address_pools=pools).pools(), 3)
    assert [str(one) for one in offered] == ["10.9.0.0/24", "10.9.1.0/24", "10.8.0.0/20"]


def test_the_default_bridge_has_the_address_that_bip_names() -> None:
    settings = parse(bip="10.7.0.5/24", fixed_cidr="10.7.0.128/25", ipv6=True, fixed_cidr_v6="fd07::/64")
    assert settings.default_bridge() == [Ipam("10.7.0.0/24", "10.7.0.128/25", "10.7.0.5"), Ipam("fd07::/64")]


def test_options_of_new_networks_have_defaults_of_their_driver() -> None:
    settings = parse(default_network_opts={"bridge": {"a": "1", "b": "2"}}, mtu=1400, icc=False)
    assert settings.options("bridge", {"a": "3"}) == {"a": "3", "b": "2"} and settings.options("macvlan", {}) == {}
    options = settings.default_options()
    assert options["com.docker.network.driver.mtu"] == "1400"
    assert options["com.docker.network.bridge.enable_icc"] == "false"


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"bip": "here"}, "bip"),
        ({"dns": ["one"]}, "dns"),
        ({"mtu": 3}, "mtu"),
        ({"mtu": "big"}, "mtu"),
        ({"fixed_cidr": "10.1.0.0/24"}, "fixed-cidr"),
        ({"bip": "10.7.0.5/24", "fixed_cidr": "10.8.0.0/25"}, "fixed-cidr"),
        ({"default_address_pools": [{"base": "10.0.0.0/8", "size": 4}]}, "default-address-pools"),
        ({"default_address_pools": [{"base": "ten", "size": 4}]}, "default-address-pools"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(keys: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidInput, match=f"daemon.json.*{key}"):
        parse(**keys)
