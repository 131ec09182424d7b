"""What networks stand on in the kernel: their bridges with the packet filter's rules, or a macvlan's parent."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from buildtool.aio import offload
from buildtool.errors import BuildtoolError, Conflict, NotFound, Unavailable
from buildtool.networks import addresses, kernel
from buildtool.networks.directory import Directory
from buildtool.networks.model import BRIDGE, MACVLAN, Ipam, NetworkRecord
from buildtool.networks.netlink import Network as Subnet
from buildtool.networks.network import Network
from buildtool.networks.place import Place
from buildtool.networks.rulebook import RuleBook
from buildtool.networks.settings import Settings

log = logging.getLogger("buildtool.networks")


class Bridges:
    """Made when a network is first needed, removed with it, made again after a daemon's end."""

    def __init__(
        self, directory: Directory, place: Place, rules: RuleBook, names: kernel.Names, settings: Settings
    ) -> None:
        self._directory, self._place, self._rules = directory, place, rules
        self._names, self._settings = names, settings
        self.warning = ""
        """What keeps containers from reaching others although everything is set up; for users."""

    async def make_ready(self, network: Network) -> None:
        """From now on containers can be connected. Raises Unavailable, NotFound, Conflict, Forbidden."""
        if not network.ready:
            if refusal := self._place.refusal():
                raise Unavailable(refusal)
            async with network.lock:
                await self._make_locked(network)

    async def _make_locked(self, network: Network) -> None:
        if network.ready:  # another one was quicker
            return
        if network.id not in self._directory:
            raise NotFound(f"network {network.name} not found")
        await offload(self._place.open)
        await self._place.do(self._make, network)
        network.ready = True
        try:
            await self._rules.reload(self._directory)
        except BaseException:
            network.ready = False
            await self._place.do(kernel.remove_base, network.record)
            raise
        self.warning = await self._rules.foreign_drops()

    def _make(self, network: Network) -> None:
        self._names.remember(there=True)
        with self._place.exclusive():
            network.choose_subnets(self._taken(network), self._settings.pools())
            kernel.make_base(network.record, self._names)
        self._directory.store(network)

    def _taken(self, network: Network) -> list[Subnet]:
        real = (other for other in self._directory if other is not network and not other.record.config_only)
        others = [subnet for other in real for subnet in other.subnets()]
        record = network.record
        if record.driver == MACVLAN and record.own_subnet:
            return others  # its containers are in the network of the machine
        taken = [*kernel.taken_subnets(without=record.bridge), *self._place.foreign_subnets(), *others]
        if not network.record.default and not self._directory.get(BRIDGE).record.ipam:
            # The one that the default network will have.
            taken.append(addresses.choose_pool(taken, self._settings.pools()))
        return taken

    async def subnets(self, network: Network) -> list[Ipam]:
        """Its subnets; of one that no container has needed yet, those it would have now."""
        if network.record.ipam or network.record.config_only or self._place.refusal():
            return network.record.ipam
        return await self._place.do(self._tentative, network)

    def _tentative(self, network: Network) -> list[Ipam]:
        like = Network(msgspec.structs.replace(network.record, ipam=[]))
        like.choose_subnets(self._taken(network), self._settings.pools())
        return like.record.ipam

    def check_free(self, record: NetworkRecord) -> None:
        """Raises Conflict when another network has the interface that this one wants for itself."""
        for one in self._directory:
            if record.bridge and one.record.bridge == record.bridge:
                raise Conflict(f"cannot create network {record.name}: the bridge {record.bridge} is in use")
            if record.driver == one.record.driver == MACVLAN and record.base == one.record.base:
                raise Conflict(f"network {one.name} is already using parent interface {record.base}")

    async def lost(self, records: Mapping[str, NetworkRecord]) -> bool:
        """Whether somebody has removed a bridge behind our back: it is not ready then."""
        bridges, _ = await self._place.do(kernel.own_links, self._names)
        present = {link.name for link in bridges}
        lost = [i for i, record in records.items() if record.bridge and record.bridge not in present]
        for identity in lost:
            self._directory.get(identity).ready = False
        return bool(lost)

    async def remove(self, network: Network) -> None:
        """The network is gone."""
        if network.ready:
            network.ready = False
            await self._rules.reload(self._directory)
            await self._place.do(kernel.remove_base, network.record)

    async def restore(self) -> None:
        """Those that have members; what a daemon that died has left goes."""
        if any(network.members for network in self._directory):
            await offload(self._names.remember, there=True)
        elif not await offload(lambda: self._names.maybe_there):
            return
        for network in self._directory:
            if network.members and not network.ready:
                try:
                    await self._place.do(kernel.make_base, network.record, self._names)
                    network.ready = True
                except BuildtoolError as error:
                    log.error("network %s cannot be restored: %s", network.name, error)
        bridges, veths = await self._place.do(kernel.own_links, self._names)
        used = {end.host_interface for network in self._directory for _, end in network.members.values()}
        ready = {network.record.bridge for network in self._directory if network.ready}
        stale = [link.name for link in veths if link.name not in used]
        stale += [link.name for link in bridges if link.name not in ready]
        if stale:
            await self._place.do(kernel.delete_links, stale)
        if ready:
            await self._rules.reload(self._directory)
        else:
            await self._rules.drop()
            await offload(self._names.remember, there=False)

    async def clear(self) -> None:
        """Nobody is connected, and nobody will be: nothing stays in the kernel."""
        ready = [network for network in self._directory if network.ready]
        if ready:
            try:
                await self._rules.drop()
                await self._place.do(kernel.delete_links, [network.record.bridge for network in ready])
                await offload(self._names.remember, there=False)
            except (BuildtoolError, OSError) as error:
                log.warning("the networks were not cleared away: %s", error)
        await offload(self._place.close)
