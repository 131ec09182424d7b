"""Where bridges are made: in the machine's network namespace, or in one of the daemon's own (`enclave`)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ParamSpec, Protocol, TypeVar

from buildtool.aio import offload
from buildtool.networks import kernel
from buildtool.networks.netlink import Network as Subnet

P = ParamSpec("P")
T = TypeVar("T")


class Place(Protocol):
    """A network namespace to work in."""

    host_address: str
    """What containers reach the host by; "" = the gateway of their network."""

    def refusal(self) -> str:
        """Why there can be no bridges; "" where there can."""

    def open(self) -> None:
        """Make it what it must be for the first bridge (blocking; again and again). Raises BuildtoolError."""

    def resume(self) -> None:
        """Find again what a daemon before has left (blocking)."""

    def close(self) -> None:
        """Nothing is in it any more (blocking)."""

    async def do(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work there."""

    def socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """A socket there."""

    def exclusive(self) -> AbstractContextManager[None]:
        """No other daemon chooses a subnet there meanwhile."""

    def foreign_subnets(self) -> list[Subnet]:
        """Subnets of elsewhere that containers must be able to reach."""


class Machine:
    """The machine's own network namespace."""

    host_address = ""

    def refusal(self) -> str:
        """Never: root may do everything."""
        return ""

    def open(self) -> None:
        """It is there."""

    def resume(self) -> None:
        """It is there."""

    def close(self) -> None:
        """It stays."""

    async def do(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """In a worker thread."""
        return await offload(work, *args, **kwargs)

    def socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """A socket."""
        return socket.socket(family, kind)

    def exclusive(self) -> AbstractContextManager[None]:
        """A lock of the machine's."""
        return kernel.exclusive()

    def foreign_subnets(self) -> list[Subnet]:
        """None: the kernel knows them."""
        return []
