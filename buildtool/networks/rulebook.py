"""The daemon's table of the packet filter, kept in step with its networks and published ports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

from buildtool.errors import BuildtoolError
from buildtool.networks import rules
from buildtool.networks.conntrack import forget_datagrams
from buildtool.networks.firewall import Firewall
from buildtool.networks.model import BRIDGE, Endpoint, Sandbox
from buildtool.networks.network import Network
from buildtool.networks.place import Place
from buildtool.networks.watch import Watch

log = logging.getLogger("buildtool.networks")
_PATIENCE = 0.05


class RuleBook:
    """One change at a time: what is computed is what is applied."""

    def __init__(self, firewall: Firewall, table: str, place: Place) -> None:
        self._firewall, self._table, self._place = firewall, table, place
        self._lock = asyncio.Lock()
        self._told = ""
        self._background: set[asyncio.Task[None]] = set()
        self._networks: Iterable[Network] = ()
        self._watch: Watch | None = None
        self._restoring = False

    async def close(self) -> None:
        """Watch no more, and wait for what goes on in the background."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        await asyncio.gather(*self._background)

    def _forget_datagrams(self, sandbox: Sandbox) -> None:
        """In the background: flows that the new rules made meanwhile are made again by the next datagram."""
        ports = {port.host_port for port in sandbox.ports if port.protocol == "udp"}
        if ports:
            self._spawn(self._forget(ports))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

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
            linked = [port for network in ready for port in linked_ports(network)]
            text = rules.table(self._table, bridges, found, linked) if bridges else rules.removal(self._table)
            self._networks = networks if bridges else ()
            if bridges and self._watch is None:
                self._watch = Watch(await self._place.do(Watch.open_socket), self._table, self._removed)
            await self._place.do(self._firewall.apply, text)

    def _removed(self) -> None:
        """Somebody may have removed the table: our own changes do that, too, and put it back at once."""
        if self._networks and not self._restoring:
            self._restoring = True
            self._spawn(self._restore())

    async def _restore(self) -> None:
        try:
            await asyncio.sleep(_PATIENCE)
            async with self._lock:
                there = not self._networks or await self._place.do(self._firewall.has_table, self._table)
            if not there:
                log.warning("somebody has removed the table %s of the packet filter: it is put back", self._table)
                await self.reload(self._networks)
        except BuildtoolError as error:
            log.error("the packet filter's table cannot be put back: %s", error)
        finally:
            self._restoring = False

    async def drop(self) -> None:
        """Remove the table."""
        async with self._lock:
            self._networks = ()
            await self._place.do(self._firewall.apply, rules.removal(self._table))

    async def add_ports(self, sandbox: Sandbox) -> None:
        """Lead its published ports to it."""
        if found := targets(sandbox):
            async with self._lock:
                await self._place.do(self._firewall.apply, rules.elements("add", self._table, found))
            self._forget_datagrams(sandbox)

    async def link(self, networks: Iterable[Network]) -> None:
        """Open the ports of links anew: one of the containers that a link is between has come or gone."""
        async with self._lock:
            found = [port for network in networks if network.ready for port in linked_ports(network)]
            await self._place.do(self._firewall.apply, rules.links(self._table, found))

    async def remove_ports(self, sandbox: Sandbox, endpoint: Endpoint | None = None) -> None:
        """Lead them nowhere; `endpoint`: the one that they were led to."""
        if found := targets(sandbox, endpoint):
            async with self._lock:
                try:
                    await self._place.do(self._firewall.apply, rules.elements("delete", self._table, found))
                except BuildtoolError as error:
                    log.debug("published ports were not there any more: %s", error)
            self._forget_datagrams(sandbox)


def linked_ports(network: Network) -> list[rules.LinkedPort]:
    """The ports that containers may reach of those they are linked to, where they reach no others."""
    if network.record.switch("bridge.enable_icc", default=True):
        return []
    addresses = {box.container: end.address for box, end in network.members.values()}
    found = []
    for box, end in network.members.values():
        for container, ports in box.linked.items():
            for port in ports if container in addresses else ():
                number, _, protocol = port.partition("/")
                found.append(rules.LinkedPort(end.address, addresses[container], protocol, int(number)))
    return found


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
