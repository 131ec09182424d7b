"""Hearing that a table of the packet filter was removed: a firewall that starts again flushes everything.

Source: linux/netfilter/nf_tables.h (notifications of the group NFNLGRP_NFTABLES).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable

from buildtool.networks import pyroute

_NETFILTER, _ADD_MEMBERSHIP, _SOL_NETLINK, _GROUP = 12, 1, 270, 7
_NFTABLES, _DELTABLE = 10, 2


class Watch:
    """Calls back, on the event loop, when a table of that name may have been removed, by whomever; until closed."""

    def __init__(self, own: socket.socket, table: str, removed: Callable[[], None]) -> None:
        self._socket, self._table, self._removed = own, table, removed
        asyncio.get_running_loop().add_reader(own.fileno(), self._read)

    @staticmethod
    def open_socket() -> socket.socket:
        """A socket that hears of all changes in the network namespace of the calling thread."""
        own = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
        own.setblocking(False)
        own.bind((0, 0))
        own.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
        return own

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _read(self) -> None:
        gone = False
        try:
            while data := self._socket.recv(1 << 16):
                gone = removed_table(data, self._table) or gone
        except BlockingIOError:
            pass
        except OSError as error:  # too many at once: some were lost
            gone = error.errno == errno.ENOBUFS
        if gone:
            self._removed()


def removed_table(data: bytes, table: str) -> bool:
    """Whether one of the netlink messages says that the table of that name is removed."""
    offset = 0
    while offset + 20 <= len(data):
        size, kind = struct.unpack_from("IH", data, offset)
        if size < 20:
            break
        if kind == _NFTABLES << 8 | _DELTABLE:
            message = pyroute.module("netlink.nfnetlink.nftsocket").nft_table_msg(data[offset : offset + size])
            message.decode()
            if message.get("name") == table:
                return True
        offset += (size + 3) & ~3
    return False
