"""One network as the service holds it: its record, its free addresses, who is in it."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Iterable
from typing import ClassVar

from buildtool.errors import Forbidden, InvalidInput
from buildtool.networks import addresses
from buildtool.networks.addresses import Pool
from buildtool.networks.model import Endpoint, EndpointRequest, Ipam, NetworkRecord, Sandbox
from buildtool.networks.netlink import Network as Subnet
from buildtool.networks.rules import BridgeRules


class Network:
    """A network. `ready` tells that its bridge and its rules exist."""

    generation: ClassVar[int] = 0
    """Counts the changes of members and names of all networks."""

    def __init__(self, record: NetworkRecord) -> None:
        self.record = record
        self.ready = False
        self.lock = asyncio.Lock()
        self.members: dict[str, tuple[Sandbox, Endpoint]] = {}
        self._names: dict[str, list[Endpoint]] = {}
        self._pools: dict[int, Pool] = {}

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    def subnets(self) -> list[Subnet]:
        """Its subnets of both versions."""
        return [ipaddress.ip_network(one.subnet) for one in self.record.ipam if one.subnet]

    def choose_subnets(self, taken: Iterable[Subnet], pools: Iterable[Subnet] | None = None) -> None:
        """Give it the subnets and gateways that it lacks, and others for those it did not ask for and others have.

        `pools` are what is offered instead of Docker's.

        Raises Forbidden when one that was asked for overlaps, Conflict when there is none left.
        """
        record, used = self.record, list(taken)
        for version, wanted, own in ((4, record.ipv4, record.own_subnet), (6, record.ipv6, record.own_subnet6)):
            one = record.subnet(version)
            if one is not None and (own or self.members):
                addresses.check_free(ipaddress.ip_network(one.subnet), used)
            elif wanted:
                chosen = self._choose(version, one, used, pools)
                record.ipam = [other for other in record.ipam if other is not one] + [chosen]
        record.ipam.sort(key=lambda one: ":" in one.subnet)
        for one in record.ipam:
            one.gateway = one.gateway or _first_host(one)

    def _choose(self, version: int, current: Ipam | None, used: list[Subnet], pools: Iterable[Subnet] | None) -> Ipam:
        if current is not None and not any(addresses.overlaps(ipaddress.ip_network(current.subnet), o) for o in used):
            return current
        return Ipam(
            subnet=str(addresses.choose_pool(used, pools) if version == 4 else addresses.unique_local(self.id))
        )

    def rules(self) -> BridgeRules:
        """What the packet filter must know."""
        record = self.record
        four, six = record.subnet(4), record.subnet(6)
        return BridgeRules(
            record.bridge,
            four.subnet if four else "",
            six.subnet if six else "",
            record.internal,
            record.switch("bridge.enable_icc", default=True),
            record.switch("bridge.enable_ip_masquerade", default=True),
            (record.gateway_mode(4), record.gateway_mode(6)),
        )

    def enter(self, sandbox: Sandbox, request: EndpointRequest, interface: str, host_interface: str) -> Endpoint:
        """Take addresses and be a member from now on. Raises Forbidden, InvalidInput, Conflict (no address left)."""
        if sandbox.endpoint(self.id) is not None:
            raise Forbidden(f"endpoint with name {sandbox.name} already exists in network {self.name}")
        if request.ipv4 and self.record.default:
            raise InvalidInput("user specified IP address is supported on user defined networks only")
        for wanted, own in ((request.ipv4, self.record.own_subnet), (request.ipv6, self.record.own_subnet6)):
            if wanted and not own:
                raise InvalidInput(
                    "invalid endpoint settings: user specified IP address is supported only when connecting to "
                    "networks with user configured subnets",
                    hint=f"make the network {self.name} with --subnet",
                )
        endpoint = Endpoint(
            network_id=self.id,
            network=self.name,
            id=secrets.token_hex(32),
            host_interface=host_interface,
            interface=interface,
            mac="",
            names=list(dict.fromkeys(request.names)),
            links={alias.lower(): name.lower() for alias, name in request.links},
            priority=request.priority,
            internal=self.record.internal,
            driver=self.record.driver,
            link_local=list(request.link_local),
            sysctls={name.replace("IFNAME", interface): value for name, value in request.sysctls},
        )
        try:
            for version, wanted in ((4, request.ipv4), (6, request.ipv6)):
                self._address(endpoint, version, wanted)
        except BaseException:
            self._give_back(endpoint)
            raise
        endpoint.mac = request.mac.lower() or _mac(endpoint)
        self.add(sandbox, endpoint)
        sandbox.endpoints.append(endpoint)
        return endpoint

    def add(self, sandbox: Sandbox, endpoint: Endpoint) -> None:
        """Count it as a member; its names can be asked for from now on."""
        Network.generation += 1
        self.members[sandbox.id] = (sandbox, endpoint)
        for name in endpoint.names:
            self._names.setdefault(name.lower(), []).append(endpoint)

    def adopt(self, sandbox: Sandbox, endpoint: Endpoint) -> None:
        """A member of the last daemon's time."""
        for version, address in ((4, endpoint.address), (6, endpoint.address6)):
            if address and self.record.subnet(version) is not None:
                self._pool(version).adopt(address)
        self.add(sandbox, endpoint)

    def leave(self, sandbox: Sandbox, endpoint: Endpoint) -> None:
        """No member any more; its addresses stay taken until `free`."""
        Network.generation += 1
        self.members.pop(sandbox.id, None)
        for name in endpoint.names:
            known = self._names.get(name.lower(), [])
            if endpoint in known:
                known.remove(endpoint)
            if not known:
                self._names.pop(name.lower(), None)

    def free(self, endpoint: Endpoint) -> None:
        """Its addresses may go to others."""
        self._give_back(endpoint)

    def rename(self, endpoint: Endpoint, old: str, new: str) -> None:
        """A container has another name."""
        Network.generation += 1
        self._names.get(old.lower(), []).remove(endpoint)
        endpoint.names = [new if name == old else name for name in endpoint.names]
        self._names.setdefault(new.lower(), []).append(endpoint)

    def named(self, name: str) -> list[Endpoint]:
        """The members with that name, which may have the network's behind it."""
        found = self._names.get(name)
        if found is None and name.endswith(suffix := f".{self.name.lower()}"):
            found = self._names.get(name.removesuffix(suffix))
        return found or []

    def _address(self, endpoint: Endpoint, version: int, wanted: str) -> None:
        ipam = self.record.subnet(version)
        if ipam is None:
            return
        address = self._pool(version).take(wanted)
        prefix = int(ipam.subnet.partition("/")[2])
        gateway = "" if self.record.internal else ipam.gateway
        if version == 4:
            endpoint.address, endpoint.prefix, endpoint.gateway = address, prefix, gateway
        else:
            endpoint.address6, endpoint.prefix6, endpoint.gateway6 = address, prefix, gateway

    def _give_back(self, endpoint: Endpoint) -> None:
        for version, address in ((4, endpoint.address), (6, endpoint.address6)):
            if address and version in self._pools:
                self._pools[version].give_back(address)

    def _pool(self, version: int) -> Pool:
        ipam = self.record.subnet(version)
        assert ipam is not None
        pool = self._pools.get(version)
        if pool is None or str(pool.subnet) != ipam.subnet:
            reserved = [ipam.gateway, *ipam.aux.values()]
            pool = self._pools[version] = Pool(ipam.subnet, ipam.ip_range, filter(None, reserved))
        return pool


def _first_host(ipam: Ipam) -> str:
    """The first address of a subnet that is no auxiliary one."""
    subnet = ipaddress.ip_network(ipam.subnet)
    number = int(subnet.network_address) + (1 if subnet.num_addresses > 2 else 0)
    taken = {int(ipaddress.ip_address(one)) for one in ipam.aux.values()}
    while number in taken:
        number += 1
    return str(ipaddress.ip_address(number) if subnet.version == 4 else ipaddress.IPv6Address(number))


def _mac(endpoint: Endpoint) -> str:
    return addresses.mac_of(endpoint.address) if endpoint.address else "02:42:" + secrets.token_bytes(4).hex(":")
