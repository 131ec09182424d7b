"""Forgetting the kernel's memory of datagram flows to ports that lead elsewhere now.

A client that keeps sending from one port keeps its flow alive, and the flow keeps leading where it led: to a
container that has ended, or to the host from before the port was published.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection

from buildtool.networks import pyroute


def forget_datagrams(ports: Collection[int]) -> int:
    """Forget the UDP flows of both IP versions to these ports of the host; how many there were.

    Blocking: the kernel looks through all it remembers, which takes some 10 ms.
    """
    refusal = pyroute.module("netlink.exceptions").NetlinkError
    nfct = pyroute.module("netlink.nfnetlink.nfctsocket")
    count = 0
    for family in (socket.AF_INET, socket.AF_INET6):
        asked = nfct.NFCTAttrTuple(family=family, proto=socket.IPPROTO_UDP)
        with nfct.NFCTSocket(family) as conntrack:
            for message in list(conntrack.dump(tuple_orig=asked)):
                flow = nfct.NFCTAttrTuple.from_netlink(family, message.get_attr("CTA_TUPLE_ORIG"))
                if flow.proto != socket.IPPROTO_UDP or flow.dport not in ports:  # kernels before 5.8 list all
                    continue
                count += 1
                try:
                    conntrack.entry("del", tuple_orig=flow)
                except refusal as error:
                    if error.code != errno.ENOENT:  # it has not ended by itself
                        raise OSError(error.code, error.args[1]) from error
    return count
