"""Choosing subnets and addresses. Pure.

The pools are Docker's: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in pieces of /20.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator

from buildtool.errors import Conflict, Forbidden, InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def pools() -> Iterator[ipaddress.IPv4Network]:
    """The subnets that networks without one of their own get, in order."""
    for number in range(17, 32):
        yield ipaddress.IPv4Network(f"172.{number}.0.0/16")
    yield from ipaddress.IPv4Network("192.168.0.0/16").subnets(new_prefix=20)


def choose_pool(taken: Iterable[Network], offered: Iterable[Network] | None = None) -> ipaddress.IPv4Network:
    """The first pool (of those offered) that overlaps nothing. Raises Conflict when there is none."""
    used = list(taken)
    for pool in pools() if offered is None else offered:
        if isinstance(pool, ipaddress.IPv4Network) and not any(overlaps(pool, other) for other in used):
            return pool
    raise Conflict(
        "all predefined address pools have been fully subnetted",
        hint="remove networks that nothing uses, or give one with --subnet",
    )


def unique_local(identity: str) -> ipaddress.IPv6Network:
    """A /64 of the unique local addresses for a network without an IPv6 subnet of its own (RFC 4193)."""
    digest = hashlib.sha256(identity.encode()).digest()
    return ipaddress.IPv6Network((b"\xfd" + digest[:7] + bytes(8), 64))


def overlaps(one: Network, other: Network) -> bool:
    """Whether two networks of any version share addresses."""
    return one.version == other.version and one.overlaps(other)


def check_free(subnet: Network, taken: Iterable[Network]) -> None:
    """Raises Forbidden when the subnet overlaps one in use."""
    for other in taken:
        if overlaps(subnet, other):
            raise Forbidden(
                "invalid pool request: Pool overlaps with other one on this address space",
                hint=f"{subnet} overlaps {other}, which another network or a route of this machine has",
            )


def mac_of(address: str) -> str:
    """The MAC address of an endpoint with that IPv4 address: the same address always has the same one."""
    return "02:42:" + ipaddress.IPv4Address(address).packed.hex(":")


class Pool:
    """The addresses of one subnet: which are taken. The lowest free one is given out."""

    def __init__(self, subnet: str, ip_range: str = "", taken: Iterable[str] = ()) -> None:
        self.subnet: Network = ipaddress.ip_network(subnet)
        within: Network = ipaddress.ip_network(ip_range) if ip_range else self.subnet
        self._first, self._last = int(within.network_address), int(within.broadcast_address)
        if self.subnet.version == 4 and self.subnet.prefixlen < 31:  # network and broadcast addresses are no host's
            self._first = max(self._first, int(self.subnet.network_address) + 1)
            self._last = min(self._last, int(self.subnet.broadcast_address) - 1)
        elif self.subnet.version == 6 and self.subnet.prefixlen < 127:
            self._first = max(self._first, int(self.subnet.network_address) + 1)
        self._taken = {int(ipaddress.ip_address(one)) for one in taken}
        self._next = self._first

    def take(self, wanted: str = "") -> str:
        """Take that address, or the lowest free one. Raises Forbidden (taken, not in the subnet), Conflict (full)."""
        if wanted:
            return self._take(wanted)
        number = self._next
        while number in self._taken:
            number += 1
        if number > self._last:
            raise Conflict(f"no available IPv{self.subnet.version} addresses on this network's address pools")
        self._taken.add(number)
        self._next = number + 1
        return str(self._address(number))

    def _take(self, wanted: str) -> str:
        try:
            address = ipaddress.ip_address(wanted)
        except ValueError:
            raise InvalidInput(f"invalid IP address: {wanted}") from None
        if address not in self.subnet:
            raise InvalidInput(
                f"invalid endpoint settings: no configured subnet contains IP address {wanted}",
                hint=f"this network's subnet is {self.subnet}",
            )
        if int(address) in self._taken:
            raise Forbidden(f"Address already in use: {wanted}")
        self._taken.add(int(address))
        return str(address)

    def adopt(self, address: str) -> None:
        """Note that an address is in use."""
        self._taken.add(int(ipaddress.ip_address(address)))

    def give_back(self, address: str) -> None:
        """Make an address free again."""
        number = int(ipaddress.ip_address(address))
        self._taken.discard(number)
        if self._first <= number < self._next:
            self._next = number

    def _address(self, number: int) -> Address:
        if self.subnet.version == 4:
            return ipaddress.IPv4Address(number)
        return ipaddress.IPv6Address(number)
