"""Links, addresses and routes over rtnetlink (pyroute2): what a bridge network needs, and nothing else.

A `Netlink` speaks to the network namespace it was opened in, for ever. Every call raises OSError with the kernel's
error.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

from buildtool.networks import rtnetlink as rt

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_UP = 0x1
_NODAD = 0x02
_MAIN, _UNICAST, _STATIC, _LINK_SCOPE = 254, 1, 4, 253
_NO_DEVICE, _NO_ROUTE = 19, 3
_PATIENCE, _POLL = 1.5, 0.0005


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface."""

    index: int
    name: str
    up: bool
    master: int = 0
    kind: str = ""
    alias: str = ""
    mac: str = ""
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a veth pair; `namespace` is a descriptor."""

    name: str
    mac: str
    namespace: int


class Netlink:
    """A route socket. Not for several threads at once."""

    def __init__(self) -> None:
        self._route = rt.RouteSocket()

    def close(self) -> None:
        """Let go of the socket."""
        self._route.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # Links

    def links(self) -> list[Link]:
        """All interfaces."""
        return [_link(rt.decoded(one)) for one in self._route.dump(rt.message(rt.GETLINK, {}, []))]

    def link(self, name: str) -> Link | None:
        """The interface of that name."""
        data = self._look(name)
        return None if data is None else _link(rt.decoded(data))

    def index(self, name: str) -> int:
        """The number of the interface of that name; 0 when there is none. Cheaper than `link`."""
        data = self._look(name)
        return 0 if data is None else int(struct.unpack_from("=i", data, 20)[0])

    def create_bridge(self, name: str, mac: str, mtu: int) -> int:
        """Make a bridge that is up; its index."""
        kind = ("IFLA_LINKINFO", [("IFLA_INFO_KIND", "bridge")])
        self._create([("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac), *_mtu(mtu), kind], up=True)
        index = self.index(name)
        if not index:
            raise OSError(_NO_DEVICE, f"the interface {name} is gone")
        return index

    def create_veth(self, name: str, master: int, mtu: int, peer: Peer) -> None:
        """A pair: `name` here, up and in the bridge `master`; its peer, down, in another namespace. One message."""
        data = [("VETH_INFO_PEER", _far(peer, mtu))]
        info = [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]
        attributes = [("IFLA_IFNAME", name), ("IFLA_MASTER", master), *_mtu(mtu), ("IFLA_LINKINFO", info)]
        self._create(attributes, up=True)

    def create_child(self, kind: str, parent: int, mode: int, mtu: int, peer: Peer) -> None:
        """A `macvlan` interface of the one with the index `parent`, down, in another namespace."""
        info = [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", [(f"IFLA_{kind.upper()}_MODE", mode)])]
        self._create([*_far(peer, mtu), ("IFLA_LINK", parent), ("IFLA_LINKINFO", info)], up=False)

    def create_pair(self, name: str, peer: str) -> int:
        """A pair of interfaces here, both up; the index of the first."""
        info = [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", [("VETH_INFO_PEER", [("IFLA_IFNAME", peer)])])]
        self._create([("IFLA_IFNAME", name), ("IFLA_LINKINFO", info)], up=True)
        self.set_up(self.index(peer))
        return self.index(name)

    def set_alias(self, index: int, alias: str) -> None:
        """Set the interface's free text."""
        self._route.do(rt.message(rt.NEWLINK, {"index": index}, [("IFLA_IFALIAS", alias)]))

    def set_up(self, index: int) -> None:
        """Bring the interface up."""
        self._route.do(_up(index))

    def set_master(self, index: int, master: int) -> None:
        """Put the interface into a bridge."""
        self._route.do(rt.message(rt.NEWLINK, {"index": index}, [("IFLA_MASTER", master)]))

    def wait_for_carrier(self, name: str) -> None:
        """Wait until a pair's end, and the bridge that it is in, let packets through; a second and a half at most.

        The kernel notices the carrier in a worker, which waits for whatever else goes on: what is sent before that is
        lost. Since Linux 6.8 asking for the interface makes it notice.
        """
        deadline = time.monotonic() + _PATIENCE
        while (data := self._look(name)) is not None and not _operational(data) and time.monotonic() < deadline:
            time.sleep(_POLL)

    def isolate_port(self, name: str) -> None:
        """Let a bridge's port exchange nothing with its other isolated ports."""
        port = [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", [("IFLA_BRPORT_ISOLATED", 1)])]
        self._route.do(rt.message(rt.NEWLINK, {"index": self.index(name)}, [("IFLA_LINKINFO", port)]))

    def delete_link(self, name: str) -> bool:
        """Remove an interface (a veth with its peer); False when there is none."""
        try:
            self._route.do(rt.message(rt.DELLINK, {}, [("IFLA_IFNAME", name)]))
        except OSError as error:
            if error.errno == _NO_DEVICE:
                return False
            raise
        return True

    # Addresses and routes

    def add_address(self, index: int, address: str) -> None:
        """`10.0.0.1/24`, or an IPv6 one, usable at once (no duplicate address detection)."""
        self._route.do(_address(index, address))

    def addresses(self, index: int) -> list[str]:
        """The interface's addresses with their prefix lengths."""
        found = [rt.decoded(one) for one in self._route.dump(rt.message(rt.GETADDR, {"index": index}, []))]
        own = (one for one in found if one["index"] == index)
        return [f"{one.get('local') or one.get('address')}/{one['prefixlen']}" for one in own]

    def configure(self, index: int, addresses: list[str], gateways: list[str], routes: list[str]) -> None:
        """Bring an interface up; its addresses, default routes and on-link routes. All in one batch."""
        requests = [_up(index), *(_address(index, one) for one in addresses)]
        requests += [_route(rt.NEWROUTE, gateway, index) for gateway in gateways]
        for text in routes:
            network = ipaddress.ip_network(text)
            requests.append(_route(rt.NEWROUTE, "", index, network))
        self._route.do(*requests)

    def routes(self) -> list[tuple[Network, int]]:
        """The destinations of the main table's routes and the index of the interface they leave by."""
        asked = rt.message(rt.GETROUTE, {"table": _MAIN, "type": _UNICAST}, [])
        found = [rt.decoded(one) for one in self._route.dump(asked)]
        return [
            (ipaddress.ip_network((one.get("dst"), one["dst_len"])), one.get("oif") or 0)
            for one in found
            if one["dst_len"] and one.get("dst") and one["table"] == _MAIN and one["type"] == _UNICAST
        ]

    def delete_default_route(self, gateway: str, index: int) -> None:
        """Remove the default route through that gateway; nothing when there is none."""
        try:
            self._route.do(_route(rt.DELROUTE, gateway, index))
        except OSError as error:
            if error.errno != _NO_ROUTE:
                raise

    # Parts

    def _create(self, attributes: rt.Attributes, *, up: bool) -> None:
        fields = {"flags": _UP, "change": _UP} if up else {}
        self._route.do(rt.message(rt.NEWLINK, fields, attributes, flags=rt.CREATE))

    def _look(self, name: str) -> bytes | None:
        try:
            return self._route.get(rt.message(rt.GETLINK, {}, [("IFLA_IFNAME", name)]))
        except OSError as error:
            if error.errno == _NO_DEVICE:
                return None
            raise


def _mtu(mtu: int) -> rt.Attributes:
    return [("IFLA_MTU", mtu)] if mtu else []


def _far(peer: Peer, mtu: int) -> rt.Attributes:
    return [("IFLA_IFNAME", peer.name), ("IFLA_ADDRESS", peer.mac), ("IFLA_NET_NS_FD", peer.namespace), *_mtu(mtu)]


def _up(index: int) -> bytearray:
    return rt.message(rt.NEWLINK, {"index": index, "flags": _UP, "change": _UP}, [])


def _address(index: int, text: str) -> bytearray:
    value = ipaddress.ip_interface(text)
    fields = {"family": _family(value.version), "prefixlen": value.network.prefixlen, "index": index}
    attributes: rt.Attributes = [("IFA_LOCAL", str(value.ip)), ("IFA_ADDRESS", str(value.ip))]
    if value.version == 6:
        attributes.append(("IFA_FLAGS", _NODAD))
    elif value.network.prefixlen < 31:
        attributes.append(("IFA_BROADCAST", str(value.network.broadcast_address)))
    return rt.message(rt.NEWADDR, fields, attributes, flags=rt.REPLACE)


def _route(kind: int, gateway: str, index: int, network: Network | None = None) -> bytearray:
    """The default route through a gateway, or one to a network that the link is."""
    version = ipaddress.ip_address(gateway).version if network is None else network.version
    fields = {"family": _family(version), "table": _MAIN, "type": _UNICAST, "proto": _STATIC}
    attributes: rt.Attributes = [("RTA_OIF", index)]
    if network is None:
        attributes.append(("RTA_GATEWAY", gateway))
    else:
        fields |= {"dst_len": network.prefixlen, "scope": _LINK_SCOPE}
        attributes.append(("RTA_DST", str(network.network_address)))
    return rt.message(kind, fields, attributes, flags=rt.REPLACE if kind == rt.NEWROUTE else 0)


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _operational(data: bytes) -> bool:
    """Whether a link message says the state UP."""
    return bool(rt.decoded(data).get("operstate") == "UP")


def _link(message: Any) -> Link:
    return Link(
        message["index"],
        message.get("ifname") or "",
        bool(message["flags"] & _UP),
        message.get("master") or 0,
        message.get(("linkinfo", "kind")) or "",
        message.get("ifalias") or "",
        message.get("address") or "",
        message.get("mtu") or 0,
    )
