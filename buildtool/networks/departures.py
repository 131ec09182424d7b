"""Addresses of containers that have ended: free for others when the kernel has removed the interfaces."""

from __future__ import annotations

import asyncio
import contextlib

from buildtool.networks import kernel
from buildtool.networks.model import Endpoint, Sandbox
from buildtool.networks.netlink import Netlink
from buildtool.networks.network import Network
from buildtool.networks.place import Place

_POLL = 0.02
_POLLS = 15


class Departures:
    """Those that are on their way out."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._leaving: dict[str, asyncio.Task[None]] = {}

    def begin(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> None:
        """No member any more; its addresses become free in the background."""
        network.leave(sandbox, endpoint)
        key = f"{network.id} {endpoint.address or endpoint.address6}"
        task = asyncio.get_running_loop().create_task(self._free_when_gone(network, endpoint))
        self._leaving[key] = task
        task.add_done_callback(lambda done: self._leaving.pop(key, None) if self._leaving.get(key) is done else None)

    async def wait_for(self, network: Network, address: str) -> None:
        """Wait until an address is free, when it is about to be."""
        leaving = self._leaving.get(f"{network.id} {address}")
        if leaving is not None:
            await asyncio.wait([leaving])

    async def all(self) -> None:
        """Wait for all of them."""
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)

    async def _free_when_gone(self, network: Network, endpoint: Endpoint) -> None:
        """An address goes to nobody else while the old interface may still answer for it."""
        for _ in range(_POLLS):
            if endpoint.bridged and not await self._place.do(_exists, endpoint.host_interface):
                break
            await asyncio.sleep(_POLL)
        else:
            with contextlib.suppress(OSError):
                await self._place.do(kernel.delete_links, [endpoint.host_interface])
        network.free(endpoint)


def _exists(name: str) -> bool:
    try:
        with Netlink() as netlink:
            return netlink.index(name) != 0
    except OSError:
        return False
