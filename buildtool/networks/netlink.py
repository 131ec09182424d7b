"""Links, addresses and routes over rtnetlink (pyroute2): what a bridge network needs, and nothing else.

A `Netlink` speaks to the network namespace it was opened in, for ever. Every call raises OSError with the kernel's
error. pyroute2 takes a tenth of a second and 13 MiB to import: it is when the first one is opened.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_UP = 0x1
_NODAD = 0x02
_MAIN, _UNICAST, _LINK_SCOPE = 254, 1, 253
_NO_DEVICE, _NO_ROUTE = 19, 3


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
    """A route socket. Not for several threads at once, nor on a thread with a running event loop."""

    def __init__(self) -> None:
        from pyroute2 import IPRoute

        self._route: Any = IPRoute()

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
        with _kernels_no():
            return [_link(message) for message in self._route.link("dump")]

    def link(self, name: str) -> Link | None:
        """The interface of that name."""
        try:
            with _kernels_no():
                (message,) = self._route.link("get", ifname=name)
        except OSError as error:
            if error.errno == _NO_DEVICE:
                return None
            raise
        return _link(message)

    def create_bridge(self, name: str, mac: str, mtu: int) -> int:
        """Make a bridge that is up; its index."""
        return self._create(name, kind="bridge", address=mac, state="up", **_mtu(mtu))

    def create_veth(self, name: str, master: int, mtu: int, peer: Peer) -> None:
        """A pair: `name` here, up and in the bridge `master`; its peer, down, in another namespace. One message."""
        far = {"ifname": peer.name, "address": peer.mac, "net_ns_fd": peer.namespace, **_mtu(mtu)}
        self._add(ifname=name, kind="veth", master=master, state="up", peer=far, **_mtu(mtu))

    def create_child(self, kind: str, parent: int, mode: int, mtu: int, peer: Peer) -> None:
        """A `macvlan` or `ipvlan` interface of the one with the index `parent`, down, in another namespace."""
        own = {"address": peer.mac} if kind == "macvlan" else {}  # an ipvlan has its parent's
        own_mode = {f"{kind}_mode": mode}
        self._add(ifname=peer.name, kind=kind, link=parent, net_ns_fd=peer.namespace, **own, **own_mode, **_mtu(mtu))

    def create_pair(self, name: str, peer: str) -> int:
        """A pair of interfaces here, both up; the index of the first."""
        index = self._create(name, kind="veth", peer={"ifname": peer})
        other = self.link(peer)
        assert other is not None
        for one in (index, other.index):
            self.set_up(one)
        return index

    def set_alias(self, index: int, alias: str) -> None:
        """Set the interface's free text."""
        with _kernels_no():
            self._route.link("set", index=index, ifalias=alias)

    def set_up(self, index: int) -> None:
        """Bring the interface up."""
        with _kernels_no():
            self._route.link("set", index=index, state="up")

    def isolate_port(self, index: int) -> None:
        """Let a bridge's port exchange nothing with its other isolated ports."""
        with _kernels_no():
            self._route.brport("set", index=index, isolated=1)

    def delete_link(self, name: str) -> bool:
        """Remove an interface (a veth with its peer); False when there is none."""
        try:
            with _kernels_no():
                self._route.link("del", ifname=name)
        except OSError as error:
            if error.errno == _NO_DEVICE:
                return False
            raise
        return True

    # Addresses and routes

    def add_address(self, index: int, address: str) -> None:
        """`10.0.0.1/24`, or an IPv6 one, usable at once (no duplicate address detection)."""
        value = ipaddress.ip_interface(address)
        more: dict[str, Any] = {"flags": _NODAD} if value.version == 6 else {}
        if value.version == 4 and value.network.prefixlen < 31:
            more["broadcast"] = str(value.network.broadcast_address)
        with _kernels_no():
            self._route.addr("replace", index=index, address=str(value.ip), prefixlen=value.network.prefixlen, **more)

    def addresses(self, index: int) -> list[str]:
        """The interface's addresses with their prefix lengths."""
        with _kernels_no():
            found = list(self._route.addr("dump", index=index))
        return [f"{one.get('local') or one.get('address')}/{one['prefixlen']}" for one in found]

    def configure(self, index: int, addresses: list[str], gateways: list[str], routes: list[str]) -> None:
        """Bring an interface up; its addresses, default routes and on-link routes."""
        self.set_up(index)
        for address in addresses:
            self.add_address(index, address)
        with _kernels_no():
            for gateway in gateways:
                self._route.route("replace", **_default(gateway, index))
            for route in routes:
                self._route.route("replace", dst=route, oif=index, scope=_LINK_SCOPE)

    def routes(self) -> list[tuple[Network, int]]:
        """The destinations of the main table's routes and the index of the interface they leave by."""
        with _kernels_no():
            found = list(self._route.route("dump", table=_MAIN, type=_UNICAST))
        return [
            (ipaddress.ip_network((one.get("dst"), one["dst_len"])), one.get("oif") or 0)
            for one in found
            if one["dst_len"] and one.get("dst")
        ]

    def delete_default_route(self, gateway: str, index: int) -> None:
        """Remove the default route through that gateway; nothing when there is none."""
        try:
            with _kernels_no():
                self._route.route("del", **_default(gateway, index))
        except OSError as error:
            if error.errno != _NO_ROUTE:
                raise

    # Parts

    def _add(self, **fields: Any) -> None:
        with _kernels_no():
            self._route.link("add", **fields)

    def _create(self, name: str, **fields: Any) -> int:
        self._add(ifname=name, **fields)
        made = self.link(name)
        if made is None:
            raise OSError(_NO_DEVICE, f"the interface {name} is gone")
        return made.index


@contextlib.contextmanager
def _kernels_no() -> Iterator[None]:
    """The kernel's refusal as what Python's own calls raise."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, error.args[1]) from error


def _mtu(mtu: int) -> dict[str, int]:
    return {"mtu": mtu} if mtu else {}


def _default(gateway: str, index: int) -> dict[str, Any]:
    return {"dst": "0.0.0.0/0" if ":" not in gateway else "::/0", "gateway": gateway, "oif": index}


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
