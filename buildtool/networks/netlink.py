"""Links, addresses and routes over rtnetlink: what a bridge network needs, and nothing else.

A `Netlink` speaks to the network namespace it was opened in, for ever. Every call raises OSError with the kernel's
error and, where the kernel says more, its own words.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REQUEST, _ACK, _DUMP, _CREATE, _EXCLUSIVE, _REPLACE = 0x1, 0x4, 0x300, 0x400, 0x200, 0x100
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_IFALIAS = 1, 3, 4, 10, 18, 20
_IFLA_LINK, _IFLA_PROTINFO, _IFLA_NET_NS_FD = 5, 12, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_BRPORT_ISOLATED = 33
_MACVLAN_MODE = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_UP = 0x1
_NODAD = 0x02
_NESTED = 0x8000
_AF_BRIDGE = 7
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12


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


class Netlink:
    """A route socket, or one of another netlink protocol. Not for several threads at once."""

    def __init__(self, protocol: int = 0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # Links

    def links(self) -> list[Link]:
        """All interfaces."""
        return [_link(body) for body in self.dump(_GETLINK, struct.pack("BxHiII", 0, 0, 0, 0, 0))]

    def link(self, name: str) -> Link | None:
        """The interface of that name."""
        request = struct.pack("BxHiII", 0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name)
        try:
            (body,) = self._answers(_GETLINK, 0, request)
        except OSError as error:
            if error.errno == 19:
                return None
            raise
        return _link(body)

    def create_bridge(self, name: str, mac: str, mtu: int) -> int:
        """Make a bridge that is up; its index."""
        body = struct.pack("BxHiII", 0, 0, 0, _UP, _UP)
        body += _text(_IFLA_IFNAME, name) + attribute(_IFLA_ADDRESS, _mac(mac))
        if mtu:
            body += attribute(_IFLA_MTU, struct.pack("I", mtu))
        body += _nest(_IFLA_LINKINFO, _text(_INFO_KIND, "bridge"))
        self.call(_NEWLINK, _CREATE | _EXCLUSIVE, body)
        return socket.if_nametoindex(name)

    def create_veth(self, name: str, master: int, mtu: int, peer: Peer) -> None:
        """A pair: `name` here, up and in the bridge `master`; its peer, down, in another namespace. One message."""
        mtu_part = attribute(_IFLA_MTU, struct.pack("I", mtu)) if mtu else b""
        inner = struct.pack("BxHiII", 0, 0, 0, 0, 0)
        inner += _text(_IFLA_IFNAME, peer.name) + mtu_part + attribute(_IFLA_ADDRESS, _mac(peer.mac))
        inner += attribute(_IFLA_NET_NS_FD, struct.pack("I", peer.namespace))
        body = struct.pack("BxHiII", 0, 0, 0, _UP, _UP)
        body += _text(_IFLA_IFNAME, name) + mtu_part + attribute(_IFLA_MASTER, struct.pack("I", master))
        body += _nest(_IFLA_LINKINFO, _text(_INFO_KIND, "veth") + _nest(_INFO_DATA, _nest(_VETH_PEER, inner)))
        self.call(_NEWLINK, _CREATE | _EXCLUSIVE, body)

    def create_macvlan(self, parent: int, mode: int, mtu: int, peer: Peer) -> None:
        """A macvlan interface of the interface with the index `parent`, down, in another namespace."""
        body = struct.pack("BxHiII", 0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, peer.name)
        body += attribute(_IFLA_LINK, struct.pack("I", parent)) + attribute(_IFLA_ADDRESS, _mac(peer.mac))
        if mtu:
            body += attribute(_IFLA_MTU, struct.pack("I", mtu))
        body += attribute(_IFLA_NET_NS_FD, struct.pack("I", peer.namespace))
        data = attribute(_MACVLAN_MODE, struct.pack("I", mode))
        body += _nest(_IFLA_LINKINFO, _text(_INFO_KIND, "macvlan") + _nest(_INFO_DATA, data))
        self.call(_NEWLINK, _CREATE | _EXCLUSIVE, body)

    def create_pair(self, name: str, peer: str) -> int:
        """A pair of interfaces here, both up; the index of the first."""
        inner = struct.pack("BxHiII", 0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, peer)
        body = struct.pack("BxHiII", 0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name)
        body += _nest(_IFLA_LINKINFO, _text(_INFO_KIND, "veth") + _nest(_INFO_DATA, _nest(_VETH_PEER, inner)))
        self.call(_NEWLINK, _CREATE | _EXCLUSIVE, body)
        index = socket.if_nametoindex(name)
        for one in (index, socket.if_nametoindex(peer)):
            self.set_up(one)
        return index

    def set_alias(self, index: int, alias: str) -> None:
        """Set the interface's free text."""
        self.call(_NEWLINK, 0, struct.pack("BxHiII", 0, 0, index, 0, 0) + attribute(_IFLA_IFALIAS, alias.encode()))

    def set_up(self, index: int) -> None:
        """Bring the interface up."""
        self.call(_NEWLINK, 0, struct.pack("BxHiII", 0, 0, index, _UP, _UP))

    def isolate_port(self, index: int) -> None:
        """Let a bridge's port exchange nothing with its other isolated ports."""
        body = struct.pack("BxHiII", _AF_BRIDGE, 0, index, 0, 0)
        self.call(_SETLINK, 0, body + _nest(_IFLA_PROTINFO, attribute(_BRPORT_ISOLATED, b"\1")))

    def delete_link(self, name: str) -> bool:
        """Remove an interface (a veth with its peer); False when there is none."""
        try:
            self.call(_DELLINK, 0, struct.pack("BxHiII", 0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name))
        except OSError as error:
            if error.errno == 19:
                return False
            raise
        return True

    # Addresses and routes

    def add_address(self, index: int, address: str) -> None:
        """`10.0.0.1/24`, or an IPv6 one, usable at once (no duplicate address detection)."""
        self.call(_NEWADDR, _CREATE | _REPLACE, _address(index, address))

    def addresses(self, index: int) -> list[str]:
        """The interface's addresses with their prefix lengths."""
        found = []
        for body in self.dump(_GETADDR, struct.pack("BBBBI", 0, 0, 0, 0, 0)):
            _family, prefix, _flags, _scope, owner = struct.unpack_from("BBBBI", body)
            fields = dict(attributes(body, 8))
            value = fields.get(_IFA_LOCAL) or fields.get(_IFA_ADDRESS)
            if owner == index and value:
                found.append(f"{ipaddress.ip_address(value)}/{prefix}")
        return found

    def configure(self, index: int, addresses: list[str], gateways: list[str], routes: list[str]) -> None:
        """Bring an interface up; its addresses, default routes and on-link routes, in one exchange."""
        messages = [(_NEWLINK, 0, struct.pack("BxHiII", 0, 0, index, _UP, _UP))]
        messages += [(_NEWADDR, _CREATE | _REPLACE, _address(index, address)) for address in addresses]
        messages += [(_NEWROUTE, _CREATE | _REPLACE, _route(index, None, gateway)) for gateway in gateways]
        messages += [(_NEWROUTE, _CREATE | _REPLACE, _route(index, route, "")) for route in routes]
        self._call_many(messages)

    def routes(self) -> list[tuple[Network, int]]:
        """The destinations of the main table's routes and the index of the interface they leave by."""
        found: list[tuple[Network, int]] = []
        for body in self.dump(_GETROUTE, struct.pack("BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0)):
            family, prefix, _src, _tos, table, _protocol, _scope, kind, _flags = struct.unpack_from("BBBBBBBBI", body)
            fields = dict(attributes(body, 12))
            if table == 254 and kind == 1 and prefix and _RTA_DST in fields and family in (2, 10):
                index = struct.unpack("I", fields.get(_RTA_OIF, bytes(4)))[0]
                found.append((ipaddress.ip_network((fields[_RTA_DST], prefix)), index))
        return found

    def delete_default_route(self, gateway: str, index: int) -> None:
        """Remove the default route through that gateway; nothing when there is none."""
        try:
            self.call(_DELROUTE, 0, _route(index, None, gateway))
        except OSError as error:
            if error.errno != 3:
                raise

    # The exchange

    def call(self, kind: int, flags: int, body: bytes) -> None:
        """Send one request and wait for its acknowledgement."""
        self._answers(kind, _ACK | flags, body)

    def _call_many(self, messages: list[tuple[int, int, bytes]]) -> None:
        first, data = self._sequence + 1, b""
        for kind, flags, body in messages:
            data += self._message(kind, _ACK | flags, body)
        self._socket.send(data)
        failure: OSError | None = None
        for sequence in range(first, self._sequence + 1):
            try:
                self._receive(sequence)
            except OSError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all answers to a request for everything."""
        return self._answers(kind, _DUMP, body)

    def _answers(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        self._socket.send(self._message(kind, flags, body))
        return self._receive(self._sequence, single=not flags & (_ACK | _DUMP))

    def _message(self, kind: int, flags: int, body: bytes) -> bytes:
        self._sequence += 1
        size = 16 + len(body)
        return struct.pack("IHHII", size, kind, _REQUEST | flags, self._sequence, 0) + body + bytes(-size % 4)

    def _receive(self, sequence: int, *, single: bool = False) -> list[bytes]:
        """The bodies of the answers to one request, up to its acknowledgement. Raises OSError for the kernel's no."""
        found: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 17)
            offset = 0
            while offset < len(data):
                size, kind, flags, number, _port = struct.unpack_from("IHHII", data, offset)
                body = data[offset + 16 : offset + size]
                offset += (size + 3) & ~3
                if number != sequence:  # what is left of a request that failed half-way
                    continue
                if kind in (_ERROR, _DONE):
                    _check(kind, flags, body)
                    return found
                found.append(body)
                if single:
                    return found


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a veth pair; `namespace` is a descriptor."""

    name: str
    mac: str
    namespace: int


def _check(kind: int, flags: int, body: bytes) -> None:
    (code,) = struct.unpack_from("i", body) if len(body) >= 4 else (0,)
    if code == 0 or (kind == _DONE and code > 0):
        return
    text = os.strerror(-code)
    if kind == _ERROR and flags & 0x200:  # NLM_F_ACK_TLVS; the request itself is capped away
        words = dict(attributes(body, 4 + 16)).get(1, b"").rstrip(b"\0").decode(errors="replace")
        text = f"{text} ({words})" if words else text
    raise OSError(-code, text)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its header, padded."""
    return struct.pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _nest(kind: int, value: bytes) -> bytes:
    return attribute(kind | _NESTED, value)


def attributes(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """The attributes that begin at an offset, as kind and value."""
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("HH", data, offset)
        if size < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def _link(body: bytes) -> Link:
    _family, _kind, index, flags, _change = struct.unpack_from("BxHiII", body)
    fields = dict(attributes(body, 16))
    info = dict(attributes(fields.get(_IFLA_LINKINFO, b""), 0))

    def word(kind: int) -> str:
        return fields.get(kind, b"").rstrip(b"\0").decode(errors="replace")

    return Link(
        index,
        word(_IFLA_IFNAME),
        bool(flags & _UP),
        struct.unpack("I", fields.get(_IFLA_MASTER, bytes(4)))[0],
        info.get(_INFO_KIND, b"").rstrip(b"\0").decode(),
        word(_IFLA_IFALIAS),
        fields.get(_IFLA_ADDRESS, b"").hex(":"),
        struct.unpack("I", fields.get(_IFLA_MTU, bytes(4)))[0],
    )


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _address(index: int, text: str) -> bytes:
    value: Any = ipaddress.ip_interface(text)
    family = socket.AF_INET if value.version == 4 else socket.AF_INET6
    flags = _NODAD if value.version == 6 else 0
    body = struct.pack("BBBBI", family, value.network.prefixlen, flags, 0, index)
    body += attribute(_IFA_LOCAL, value.packed) + attribute(_IFA_ADDRESS, value.packed)
    if value.version == 4 and value.network.prefixlen < 31:
        body += attribute(_IFA_BROADCAST, value.network.broadcast_address.packed)
    return body


def _route(index: int, destination: str | None, gateway: str) -> bytes:
    """A route of the main table: to `destination` (None = everywhere), through `gateway` ("" = on the link)."""
    target = ipaddress.ip_network(destination) if destination is not None else None
    version = target.version if target is not None else ipaddress.ip_address(gateway).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    scope = 0 if gateway else 253
    body = struct.pack("BBBBBBBBI", family, target.prefixlen if target else 0, 0, 0, 254, 3, scope, 1, 0)
    if target is not None:
        body += attribute(_RTA_DST, target.network_address.packed)
    body += attribute(_RTA_OIF, struct.pack("I", index))
    if gateway:
        body += attribute(_RTA_GATEWAY, ipaddress.ip_address(gateway).packed)
    return body
