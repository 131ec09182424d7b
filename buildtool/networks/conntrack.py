"""Forgetting the kernel's memory of datagram flows to ports that lead elsewhere now.

A client that keeps sending from one port keeps its flow alive, and the flow keeps leading where it led: to a
container that has ended, or to the host from before the port was published.
Source: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

from buildtool.networks.netlink import Netlink, attribute, attributes

_NETFILTER = 12
_GET, _DELETE = 0x101, 0x102
_TUPLE, _PROTOCOL, _NUMBER, _PORT = 1, 2, 1, 3
_UDP = 17
_NESTED = 0x8000


def forget_datagrams(ports: Collection[int]) -> int:
    """Forget the UDP flows of both IP versions to these ports of the host; how many there were.

    Blocking: the kernel looks through all it remembers, which takes some 10 ms.
    """
    count = 0
    with Netlink(_NETFILTER) as netlink:
        for body in netlink.dump(_GET, struct.pack("!BBH", 0, 0, 0)):
            flow = dict(attributes(body, 4)).get(_TUPLE, b"")
            if _udp_port(flow) in ports:
                count += 1
                try:
                    netlink.call(_DELETE, 0, body[:4] + attribute(_TUPLE | _NESTED, flow))
                except FileNotFoundError:  # it has ended by itself
                    continue
    return count


def _udp_port(flow: bytes) -> int:
    """The destination port of a flow of datagrams, 0 for others."""
    protocol = dict(attributes(dict(attributes(flow, 0)).get(_PROTOCOL, b""), 0))
    if protocol.get(_NUMBER) != bytes([_UDP]):
        return 0
    return int.from_bytes(protocol.get(_PORT, b""))
