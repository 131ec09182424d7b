"""The daemon's table of the packet filter, kept in step with its networks and published ports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from buildtool.errors import BuildtoolError
from buildtool.networks import rules
from buildtool.networks.conntrack import forget_datagrams
from buildtool.networks.firewall import Firewall
from buildtool.networks.model import BRIDGE, Endpoint, Sandbox
from buildtool.networks.network import Network
from buildtool.networks.place import Place

log = logging.getLogger("buildtool.networks")


class RuleBook:
    """One change at a time: what is computed is what is applied."""

    def __init__(self, firewall: Firewall, table: str, place: Place) -> None:
        self._firewall, self._table, self._place = firewall, table, place
        self._lock = asyncio.Lock()
        self._told = ""
        self._forgetting: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait for what goes on in the background."""
        await asyncio.gather(*self._forgetting)

    def _forget_datagrams(self, sandbox: Sandbox) -> None:
        """In the background: flows that the new rules made meanwhile are made again by the next datagram."""
        ports = {port.host_port for port in sandbox.ports if port.protocol == "udp"}
        if ports:
            task = asyncio.get_running_loop().create_task(self._forget(ports))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    async def _forget(self, ports: set[int]) -> None:
        try:
            await self._place.do(forget_datagrams, ports)
        except OSError as error:
            log.warning("old datagram flows to published ports may go on: %s", error)

    async def foreign_drops(self) -> str:
        """A warning when chains of others drop what containers send or get; "" otherwise."""
        drops = ", ".join(await self._place.do(self._firewall.foreign_forward_drops))
        if not drops:
            return ""
        text = (
            f"another firewall drops forwarded packets ({drops}): containers may reach nothing outside and not be "
            "reached; let it accept traffic from and to their bridges"
        )
        if drops != self._told:
            self._told = drops
            log.warning("%s", text)
        return text

    async def reload(self, networks: Iterable[Network]) -> None:
        """Put the whole table in place, for all networks that are ready and all in them; without any it goes."""
        async with self._lock:
            ready = [network for network in networks if network.ready and network.record.driver == BRIDGE]
            sandboxes = {box.id: box for network in ready for box, _ in network.members.values()}
            found = [target for box in sandboxes.values() for target in targets(box)]
            bridges = [network.rules() for network in ready]
            text = rules.table(self._table, bridges, found) if bridges else rules.removal(self._table)
            await self._place.do(self._firewall.apply, text)

    async def drop(self) -> None:
        """Remove the table."""
        async with self._lock:
            await self._place.do(self._firewall.apply, rules.removal(self._table))

    async def add_ports(self, sandbox: Sandbox) -> None:
        """Lead its published ports to it."""
        if found := targets(sandbox):
            async with self._lock:
                await self._place.do(self._firewall.apply, rules.elements("add", self._table, found))
            self._forget_datagrams(sandbox)

    async def remove_ports(self, sandbox: Sandbox, endpoint: Endpoint | None = None) -> None:
        """Lead them nowhere; `endpoint`: the one that they were led to."""
        if found := targets(sandbox, endpoint):
            async with self._lock:
                try:
                    await self._place.do(self._firewall.apply, rules.elements("delete", self._table, found))
                except BuildtoolError as error:
                    log.debug("published ports were not there any more: %s", error)
            self._forget_datagrams(sandbox)


def targets(sandbox: Sandbox, endpoint: Endpoint | None = None) -> list[rules.Target]:
    """The published ports that the packet filter serves."""
    found = []
    for port in sandbox.ports:
        version = 6 if ":" in port.host_ip else 4
        end = endpoint or sandbox.publishing_endpoint(version)
        address = (end.address6 if version == 6 else end.address) if end is not None else ""
        if address:
            found.append(rules.Target(port, address))
    return found
