"""What the administrator says about networks, in `daemon.json` under dockerd's keys.

Source: dockerd's documentation, "Daemon configuration file". Read once, when the daemon starts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from buildtool.errors import InvalidInput
from buildtool.networks import addresses
from buildtool.networks.model import Ipam
from buildtool.networks.netlink import Network as Subnet
from buildtool.places import config_folder

_OPTION = "com.docker.network."


class _Pool(msgspec.Struct):
    base: str
    size: int


class Settings(msgspec.Struct, rename="kebab", frozen=True):
    """The keys that are about networks; others are somebody else's."""

    bip: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    ipv6: bool = False
    mtu: int = 0
    icc: bool = True
    ip: str = ""
    ip_masq: bool = True
    userland_proxy: bool = True
    default_address_pools: list[_Pool] = []
    default_network_opts: dict[str, dict[str, str]] = {}
    host_gateway_ip: str = ""
    dns: list[str] = []
    dns_search: list[str] = []
    dns_opts: list[str] = []

    @classmethod
    def load(cls) -> Settings:
        """Of this machine, or this user. Raises InvalidInput naming the file and the key."""
        path = Path(config_folder(), "daemon.json")
        try:
            data = path.read_bytes()
        except OSError:
            return cls()
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, name: str) -> Settings:
        """Raises InvalidInput naming the file and the key."""
        try:
            found = msgspec.json.decode(data, type=cls)
            found.check()
        except (msgspec.DecodeError, ValueError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{name}: {error}") from None
        return found

    def check(self) -> None:
        """Raises ValueError with the key."""
        pools = [("default-address-pools", pool.base) for pool in self.default_address_pools]
        _check(ipaddress.ip_interface, ("bip", self.bip))
        _check(ipaddress.ip_network, ("fixed-cidr", self.fixed_cidr), ("fixed-cidr-v6", self.fixed_cidr_v6), *pools)
        servers = [("dns", server) for server in self.dns]
        _check(ipaddress.ip_address, ("ip", self.ip), ("host-gateway-ip", self.host_gateway_ip), *servers)
        self._check_sizes()

    def _check_sizes(self) -> None:
        for pool in self.default_address_pools:
            base = ipaddress.ip_network(pool.base)
            if not base.prefixlen <= pool.size <= base.max_prefixlen:
                raise ValueError(f"default-address-pools: a pool of {pool.base} cannot have the size {pool.size}")
        if self.fixed_cidr and self.bip:
            within, whole = ipaddress.ip_network(self.fixed_cidr), ipaddress.ip_interface(self.bip).network
            if within.version != whole.version or not within.subnet_of(whole):  # type: ignore[arg-type]
                raise ValueError(f"fixed-cidr: {within} is not in the subnet of bip, {whole}")
        elif self.fixed_cidr:
            raise ValueError("fixed-cidr: it is a part of the subnet that bip names, which is missing")
        if self.mtu and not 68 <= self.mtu <= 65535:
            raise ValueError(f"mtu: {self.mtu} is not from 68 to 65535")

    def pools(self) -> Iterator[Subnet]:
        """The subnets that networks without one of their own get, in order."""
        if not self.default_address_pools:
            yield from addresses.pools()
        for pool in self.default_address_pools:
            yield from ipaddress.ip_network(pool.base).subnets(new_prefix=pool.size)

    def default_bridge(self) -> list[Ipam]:
        """The subnets of the network `bridge`; none are chosen later."""
        found = []
        if self.bip:
            own = ipaddress.ip_interface(self.bip)
            found.append(Ipam(str(own.network), self.fixed_cidr, str(own.ip)))
        if self.ipv6 and self.fixed_cidr_v6:
            found.append(Ipam(str(ipaddress.ip_network(self.fixed_cidr_v6))))
        return found

    def default_options(self) -> dict[str, str]:
        """The driver options of the network `bridge`, as they differ from Docker's."""
        found = {"bridge.enable_icc": str(self.icc).lower(), "bridge.enable_ip_masquerade": str(self.ip_masq).lower()}
        if self.mtu:
            found["driver.mtu"] = str(self.mtu)
        if self.ip:
            found["bridge.host_binding_ipv4"] = self.ip
        return {_OPTION + name: value for name, value in found.items()}

    def options(self, driver: str, asked: Mapping[str, str]) -> dict[str, str]:
        """A new network's driver options: those that were asked for over the defaults."""
        return {**self.default_network_opts.get(driver, {}), **asked}


def _check(kind: Callable[[str], object], *values: tuple[str, str]) -> None:
    for key, text in values:
        try:
            if text:
                kind(text)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
