"""What networks and endpoints are: records as they stand in the store, and what callers ask for."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

BRIDGE, HOST, NONE = "bridge", "host", "none"
MACVLAN = "macvlan"
PREDEFINED = (BRIDGE, HOST, NONE)
_OPTION = "com.docker.network."


class Ipam(msgspec.Struct, rename="pascal", omit_defaults=True):
    """One subnet of a network, as it was asked for or chosen."""

    subnet: str = ""
    ip_range: str = msgspec.field(default="", name="IPRange")
    gateway: str = ""
    aux: dict[str, str] = msgspec.field(default_factory=dict, name="AuxiliaryAddresses")


class NetworkRecord(msgspec.Struct, rename="pascal", kw_only=True):
    """A network of the driver bridge or macvlan. `created` is in nanoseconds.

    `own_subnet` tells that the user chose the IPv4 subnet; `bridge` is the interface that is made for it, "" when its
    containers hang on one of the machine's own; `config_only` are settings for other networks, which name them in
    `config_from`.
    """

    id: str
    name: str
    created: int
    driver: str = BRIDGE
    bridge: str = ""
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    own_subnet: bool = False
    own_subnet6: bool = False
    ipam: list[Ipam] = msgspec.field(default_factory=list)
    ipam_options: dict[str, str] | None = None
    options: dict[str, str] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    config_only: bool = False
    config_from: str = ""

    def subnet(self, version: int) -> Ipam | None:
        """The first subnet of that IP version."""
        return next((one for one in self.ipam if one.subnet and (":" in one.subnet) == (version == 6)), None)

    def switch(self, option: str, *, default: bool) -> bool:
        """A boolean driver option, such as `bridge.enable_icc`."""
        text = self.options.get(_OPTION + option, "").lower()
        return default if not text else text in ("true", "1", "t")

    def text(self, option: str) -> str:
        """A driver option such as `driver.mtu`, "" when it is not set."""
        return self.options.get(_OPTION + option, "")

    def gateway_mode(self, version: int) -> str:
        """How the outside reaches its containers: nat, nat-unprotected, routed, or isolated (internal ones)."""
        return self.text(f"bridge.gateway_mode_ipv{version}") or "nat"

    @property
    def mtu(self) -> int:
        """The MTU asked for; 0 = the kernel's default."""
        return int(self.text("driver.mtu") or 0)

    @property
    def base(self) -> str:
        """The interface that its containers' interfaces belong to: its bridge, or a macvlan's parent."""
        return self.bridge or self.options.get("parent", "")

    @property
    def default(self) -> bool:
        """Whether this is the network `bridge`, which has no name service."""
        return self.name == BRIDGE


class Endpoint(msgspec.Struct, rename="pascal", kw_only=True):
    """A container's place in one network while it runs."""

    network_id: str
    network: str
    id: str
    host_interface: str
    interface: str
    mac: str
    address: str = ""
    prefix: int = 0
    gateway: str = ""
    address6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    names: list[str] = msgspec.field(default_factory=list)
    links: dict[str, str] = msgspec.field(default_factory=dict)
    """Names that only this container knows others by: to the name that everybody knows."""
    priority: int = 0
    internal: bool = False
    driver: str = BRIDGE
    link_local: list[str] = msgspec.field(default_factory=list)
    sysctls: dict[str, str] = msgspec.field(default_factory=dict)
    """Kernel parameters of the interface, by their names in /proc/sys."""

    @property
    def bridged(self) -> bool:
        """Whether the host sees it: ports can be published, an interface of the host leads there."""
        return bool(self.host_interface)


class PortMapping(msgspec.Struct, rename="pascal", frozen=True):
    """A port of the host that leads to one of the container. `host_ip` is an address, 0.0.0.0 and :: included.

    With `host_port` 0 none does: the container's own port is open to the outside.
    """

    container_port: int
    protocol: str
    host_ip: str
    host_port: int


class Sandbox(msgspec.Struct, rename="pascal", kw_only=True):
    """The network side of one run of a container: everything that must be given back after it."""

    id: str
    container: str
    name: str = ""
    endpoints: list[Endpoint] = msgspec.field(default_factory=list)
    ports: list[PortMapping] = msgspec.field(default_factory=list)
    servers: list[str] = msgspec.field(default_factory=list)
    """Name servers of the container's own choice, for names outside its networks."""
    search: list[str] = msgspec.field(default_factory=list)
    options: list[str] = msgspec.field(default_factory=list)
    """Search domains and options of its resolver, in the place of the host's."""
    host: str = ""
    """What the container reaches the host by, when that is not its gateway."""
    linked: dict[str, list[str]] = msgspec.field(default_factory=dict)
    """The ports (`80/tcp`) that it may reach of other containers, by their ids, where a network keeps them apart."""

    def endpoint(self, network_id: str) -> Endpoint | None:
        """The endpoint in that network."""
        return next((one for one in self.endpoints if one.network_id == network_id), None)

    def gateway_endpoint(self, version: int = 4) -> Endpoint | None:
        """The endpoint whose gateway is the default one: by priority, then by the network's name."""
        return min(self._able(version), key=_rank, default=None)

    def publishing_endpoint(self, version: int = 4) -> Endpoint | None:
        """The endpoint that published ports lead to: of those on bridges the one whose gateway comes first."""
        return min((one for one in self._able(version) if one.bridged), key=_rank, default=None)

    def _able(self, version: int) -> list[Endpoint]:
        return [one for one in self.endpoints if not one.internal and (one.gateway if version == 4 else one.gateway6)]


def _rank(endpoint: Endpoint) -> tuple[int, str]:
    return (-endpoint.priority, endpoint.network)


@dataclass(frozen=True)
class EndpointRequest:
    """How a container is to join one network; "" = to be chosen. `names` are its own, `links` those of others."""

    network: str
    ipv4: str = ""
    ipv6: str = ""
    mac: str = ""
    names: tuple[str, ...] = ()
    priority: int = 0
    links: tuple[tuple[str, str], ...] = ()
    link_local: tuple[str, ...] = ()
    interface: str = ""
    sysctls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PortRequest:
    """A port to publish: `first` to `last` are the host's ports of which one is taken, 0 = any free one.

    `routed` are the IP versions in which the container's own port is opened instead.
    """

    container_port: int
    protocol: str
    host_ip: str = ""
    first: int = 0
    last: int = 0
    routed: tuple[int, ...] = ()
