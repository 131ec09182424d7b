"""Choosing subnets and addresses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.errors import Conflict, Forbidden, InvalidInput
from buildtool.networks.addresses import Pool, check_free, choose_pool, mac_of, pools, unique_local


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


def test_pools_are_dockers_in_order() -> None:
    found = [str(pool) for pool in pools()]
    assert (found[0], found[14], found[15], found[-1]) == (
        "172.17.0.0/16",
        "172.31.0.0/16",
        "192.168.0.0/20",
        "192.168.240.0/20",
    )


def test_the_first_pool_that_overlaps_no_route_is_chosen() -> None:
    assert str(choose_pool([])) == "172.17.0.0/16"
    assert str(choose_pool([network("172.17.3.0/24"), network("172.16.0.0/15")])) == "172.18.0.0/16"
    assert str(choose_pool([network("172.16.0.0/12"), network("fd00::/64")])) == "192.168.0.0/20"
    with pytest.raises(Conflict, match="fully subnetted"):
        choose_pool([network("172.16.0.0/12"), network("192.168.0.0/16")])


def test_an_overlapping_subnet_is_refused() -> None:
    check_free(network("10.0.0.0/24"), [network("10.0.1.0/24"), network("::/0")])
    with pytest.raises(Forbidden, match="Pool overlaps"):
        check_free(network("10.0.0.0/24"), [network("10.0.0.128/25")])


def test_addresses_are_given_out_from_the_lowest_and_again_after_use() -> None:
    pool = Pool("10.0.0.0/29", taken=["10.0.0.1"])
    assert [pool.take() for _ in range(3)] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    pool.give_back("10.0.0.3")
    assert [pool.take() for _ in range(3)] == ["10.0.0.3", "10.0.0.5", "10.0.0.6"]
    with pytest.raises(Conflict, match="no available IPv4 addresses"):
        pool.take()


def test_a_wanted_address_is_given_once() -> None:
    pool = Pool("10.0.0.0/24", taken=["10.0.0.1"])
    assert pool.take("10.0.0.9") == "10.0.0.9"
    for wanted, error in (
        ("10.0.0.9", Forbidden),
        ("10.0.0.1", Forbidden),
        ("10.1.0.1", InvalidInput),
        ("x", InvalidInput),
    ):
        with pytest.raises(error):
            pool.take(wanted)


def test_a_range_limits_what_is_given_out_but_not_what_may_be_asked_for() -> None:
    pool = Pool("10.0.0.0/24", "10.0.0.128/30", taken=["10.0.0.1"])
    assert pool.take() == "10.0.0.128"
    assert pool.take("10.0.0.5") == "10.0.0.5"


def test_ipv6_pools_begin_after_the_routers_anycast_address() -> None:
    assert Pool("fd00::/64", taken=["fd00::1"]).take() == "fd00::2"
    assert unique_local("a").prefixlen == 64 and unique_local("a") != unique_local("b")
    assert unique_local("a").subnet_of(ipaddress.IPv6Network("fd00::/8"))


def test_an_address_always_has_the_same_mac() -> None:
    assert mac_of("172.17.0.2") == "02:42:ac:11:00:02"


@given(st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=40))
def test_no_address_is_ever_given_to_two(steps: list[int | None]) -> None:
    """None takes one; a number gives one of those taken back."""
    pool, held = Pool("10.0.0.0/28", taken=["10.0.0.1"]), []
    for step in steps:
        if step is not None:
            if held:
                pool.give_back(held.pop(step % len(held)))
            continue
        try:
            address = pool.take()
        except Conflict:
            assert len(held) == 13
            continue
        assert address not in held and address not in ("10.0.0.0", "10.0.0.1", "10.0.0.15")
        held.append(address)
