"""The networks of one data root: made, joined, left, restored. Use it from one event loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from buildtool.aio import offload
from buildtool.cache import Store
from buildtool.cache.overlay import in_user_namespace
from buildtool.errors import BuildtoolError, Conflict, Forbidden, InvalidInput, NotFound, Unavailable
from buildtool.networks import kernel, request
from buildtool.networks.bridges import Bridges
from buildtool.networks.departures import Departures
from buildtool.networks.directory import Directory
from buildtool.networks.enclave import Enclave
from buildtool.networks.firewall import Firewall
from buildtool.networks.model import (
    BRIDGE,
    PREDEFINED,
    Endpoint,
    EndpointRequest,
    Ipam,
    NetworkRecord,
    PortRequest,
    Sandbox,
)
from buildtool.networks.names import NameServers
from buildtool.networks.network import Network
from buildtool.networks.place import Machine, Place
from buildtool.networks.publish import Publisher
from buildtool.networks.rulebook import RuleBook
from buildtool.networks.settings import Settings
from buildtool.networks.spares import Spare, Spares, interface_index

log = logging.getLogger("buildtool.networks")

Plug = Callable[[Sandbox, list[Endpoint], dict[str, NetworkRecord], int], None]
Publish = Callable[[str, str, Mapping[str, str]], None]


class Networks:
    """Everything about bridge networks.

    Nothing exists in the kernel before the first container needs it, and nothing stays there when the service closes
    while no container is connected.
    """

    def __init__(self, store: Store) -> None:
        self._names = kernel.Names(store.root)
        self.settings = Settings.load()
        self._directory = Directory(store, self._names.default_bridge, self.settings)
        own = os.geteuid() == 0 and not in_user_namespace()
        self._place: Place = Machine() if own else Enclave(store.root)
        self._firewall = Firewall()
        self._publisher = Publisher(self._place.socket, self.settings.userland_proxy)
        self._resolvers = NameServers(self._firewall, self._networks_of, self._place)
        self._rules = RuleBook(self._firewall, self._names.table, self._place)
        self._departures = Departures(self._place)
        self._bridges = Bridges(self._directory, self._place, self._rules, self._names, self.settings)
        self._spares = Spares(self._place, self.leave)
        self._adopted: list[tuple[Sandbox, int]] = []
        self.publish: Publish = lambda action, id, attributes: None

    # Looking

    @property
    def refusal(self) -> str:
        """Why there are no bridge networks here; "" where they work."""
        return self._place.refusal()

    def __iter__(self) -> Iterator[Network]:
        return iter(self._directory)

    def get(self, reference: str) -> Network:
        """By id, name or unique prefix of an id. Raises NotFound, InvalidInput."""
        return self._directory.get(reference)

    async def subnets(self, network: Network) -> list[Ipam]:
        """Its subnets; of one that no container has needed yet, those it would have now."""
        return await self._bridges.subnets(network)

    @property
    def warning(self) -> str:
        """What keeps containers from reaching others although everything is set up; for users."""
        return self._bridges.warning

    def has_names(self, sandbox: Sandbox) -> bool:
        """Whether a container is in a network where containers find each other by name."""
        return bool(self._networks_of(sandbox))

    # Making and removing

    async def create(self, body: Any) -> tuple[str, str]:
        """POST /networks/create: the id and a warning. Raises InvalidInput, Conflict, Forbidden, Unavailable."""
        record = request.parse(body, self._configuration)
        record.options = self.settings.options(record.driver, record.options)
        if self.refusal:
            raise Unavailable(f"cannot create network {record.name}: {self.refusal}")
        if any(one.name == record.name for one in self):
            raise Conflict(f"network with name {record.name} already exists")
        self._bridges.check_free(record)
        network = Network(record)
        self._directory.add(network)
        try:
            if record.config_only:
                await offload(self._directory.store, network)
            else:
                await self._bridges.make_ready(network)
        except BaseException:
            self._directory.discard(network)
            await offload(self._directory.delete, network)
            raise
        self.publish("create", record.id, {"name": record.name, "type": record.driver})
        return record.id, self.warning

    async def remove(self, reference: str) -> None:
        """DELETE /networks/{id}. Raises NotFound, Forbidden (predefined, in use)."""
        if reference in PREDEFINED:
            raise Forbidden(f"{reference} is a pre-defined network and cannot be removed")
        network = self.get(reference)
        if network.record.default:
            raise Forbidden("bridge is a pre-defined network and cannot be removed")
        async with network.lock:
            if network.members:
                users = ", ".join(f'name:"{box.name}" id:"{end.id[:12]}"' for box, end in network.members.values())
                what = f"network {network.name} id {network.id} has active endpoints"
                raise Forbidden(f"error while removing network: {what} ({users})")
            if any(one.record.config_from == network.name for one in self if network.record.config_only):
                raise Forbidden(f'error while removing network: configuration network "{network.name}" is in use')
            self._directory.discard(network)
            await offload(self._directory.delete, network)
            await self._bridges.remove(network)
        self.publish("destroy", network.id, {"name": network.name, "type": network.record.driver})

    # Joining and leaving

    async def join(
        self,
        container: str,
        name: str,
        requests: Sequence[EndpointRequest],
        ports: Sequence[PortRequest] = (),
    ) -> Sandbox:
        """Take the addresses and the host's ports for a container that is to start; give them back with `leave`.

        Raises NotFound (a network), Forbidden (address in use), BuildtoolError (port in use), Conflict (none left).
        """
        own = self.settings
        sandbox = Sandbox(
            id=os.urandom(32).hex(),
            container=container,
            name=name,
            servers=own.dns,
            search=own.dns_search,
            options=own.dns_opts,
        )
        try:
            for asked in requests:
                await self._enter(sandbox, asked)
            sandbox.host = own.host_gateway_ip or self._place.host_address
            publishing = sandbox.publishing_endpoint(4) or sandbox.publishing_endpoint(6)
            if publishing is not None and ports:
                self._reserve(sandbox, publishing, ports)
        except BaseException:
            await self.leave(sandbox)
            raise
        return sandbox

    async def plug(self, sandbox: Sandbox, pid: int) -> None:
        """Connect the network namespace of that process. Raises BuildtoolError; `leave` is needed all the same."""
        await self._plug(sandbox, list(sandbox.endpoints), pid)
        if sandbox.ports:
            await self._rules.add_ports(sandbox)
            self._publisher.serve(sandbox)
        await self._link(sandbox.endpoints)
        await self._resolvers.open(sandbox, pid, fresh=True)

    async def leave(self, sandbox: Sandbox) -> None:
        """Give everything back. The addresses are free once the kernel has removed the interfaces."""
        self._resolvers.close(sandbox)
        for endpoint in sandbox.endpoints:
            self._depart(sandbox, endpoint)
        if sandbox.ports:
            await self._rules.remove_ports(sandbox)
        self._publisher.release(sandbox)
        await self._link(sandbox.endpoints)

    async def lend(self, container: str, name: str, sysctls: Mapping[str, str]) -> Spare:
        """A namespace that is connected to the default network already, for a container that may not administer it.

        Give it back with `take_back`. Raises as `join` and `plug` do. When it is cancelled, what threads are at is
        awaited, and what they have made waits for the next one.
        """
        lending = asyncio.create_task(self._lend(container, name, sysctls))
        try:
            return await asyncio.shield(lending)
        except asyncio.CancelledError:
            await asyncio.wait([lending])
            if not lending.cancelled() and lending.exception() is None:
                self.take_back(lending.result())
            raise

    async def _lend(self, container: str, name: str, sysctls: Mapping[str, str]) -> Spare:
        spare = await self._spares.take()
        if spare is not None:
            return spare
        sandbox = await self.join(container, name, [EndpointRequest(BRIDGE)])
        namespace = -1
        try:
            namespace = await self._place.do(kernel.new_namespace, sysctls)
            await self._plug(sandbox, list(sandbox.endpoints), namespace, kernel.plug_namespace)
            base = self.get(BRIDGE).record.base
            return Spare(sandbox, namespace, base, await self._place.do(interface_index, base))
        except BaseException:
            if namespace >= 0:
                os.close(namespace)
            await self.leave(sandbox)
            raise

    def take_back(self, spare: Spare) -> None:
        """The container has ended: the next one may have the namespace, unless this one has left something in it."""
        self._spares.give_back(spare)

    async def connect(self, sandbox: Sandbox, pid: int, asked: EndpointRequest) -> Endpoint:
        """Join one more network while the container runs."""
        before = _Ways.of(sandbox)
        endpoint = await self._enter(sandbox, asked)
        try:
            await self._plug(sandbox, [endpoint], pid)
            await self._link([endpoint])
            await self._gateway_changed(sandbox, pid, before)
            await self._resolvers.open(sandbox, pid)
        except BaseException:
            sandbox.endpoints.remove(endpoint)
            self._depart(sandbox, endpoint)
            raise
        return endpoint

    async def disconnect(self, sandbox: Sandbox, pid: int, network_id: str) -> None:
        """Leave one network while the container runs (pid 0: it does not any more)."""
        endpoint = sandbox.endpoint(network_id)
        if endpoint is None:
            return
        before = _Ways.of(sandbox)
        if before.ports is endpoint and sandbox.ports:
            await self._rules.remove_ports(sandbox)
        sandbox.endpoints.remove(endpoint)
        await self._place.do(kernel.unplug, endpoint, pid)
        self._depart(sandbox, endpoint)
        await self._link([endpoint])
        if pid:
            await self._gateway_changed(sandbox, pid, before)

    def rename(self, sandbox: Sandbox, old: str, new: str) -> None:
        """The container has another name."""
        sandbox.name = new
        for endpoint in sandbox.endpoints:
            network = self._directory.find(endpoint.network_id)
            if network is not None and old in endpoint.names:
                network.rename(endpoint, old, new)

    # Restoring and closing

    async def adopt(self, sandbox: Sandbox, pid: int) -> None:
        """A container that has gone on without a daemon; `settle` follows when all are adopted."""
        await offload(self._place.resume)
        self._adopted.append((sandbox, pid))
        for endpoint in list(sandbox.endpoints):
            network = self._directory.find(endpoint.network_id)
            if network is None:
                sandbox.endpoints.remove(endpoint)
            else:
                network.adopt(sandbox, endpoint)
        for text in self._publisher.adopt(sandbox):
            log.warning(
                "the published port %s of %s cannot be held: only the packet filter serves it", text, sandbox.name
            )
        self._publisher.serve(sandbox)
        try:
            await self._resolvers.open(sandbox, pid)
        except BuildtoolError as error:
            log.warning("container %s has no name service: %s", sandbox.name, error)

    async def settle(self) -> None:
        """Restore the bridges and rules of those adopted; remove what a daemon that died has left."""
        if self.refusal:
            return
        await offload(self._place.resume)
        await self._bridges.restore()
        adopted, self._adopted = self._adopted, []
        for sandbox, pid in adopted:
            await self._repair(sandbox, pid)

    async def close(self) -> None:
        """Let go. While no container is connected, nothing stays in the kernel; otherwise everything goes on."""
        self._resolvers.close_all()
        self._publisher.close()
        await self._spares.close()
        await asyncio.gather(self._rules.close(), self._departures.all())
        if not any(network.members for network in self):
            await self._bridges.clear()

    # Parts

    async def _repair(self, sandbox: Sandbox, pid: int) -> None:
        """Connect anew where the last daemon was killed while it disconnected, or somebody removed an interface."""
        ends = {one.host_interface: one for one in sandbox.endpoints if one.bridged}
        bases = {name: self.get(one.network_id).record.base for name, one in ends.items()}
        try:
            lost = [ends[name] for name in await self._place.do(kernel.lost_links, bases)]
            if lost:
                await self._plug(sandbox, lost, pid)
                names = ", ".join(one.network for one in lost)
                log.warning("container %s had lost its connection to %s: it is back", sandbox.name, names)
        except (BuildtoolError, OSError) as error:
            log.error("container %s is not connected to all of its networks: %s", sandbox.name, error)

    def _networks_of(self, sandbox: Sandbox) -> list[Network]:
        """The user-defined networks that a container is in."""
        found = (self._directory.find(endpoint.network_id) for endpoint in sandbox.endpoints)
        return [network for network in found if network is not None and not network.record.default]

    async def _enter(self, sandbox: Sandbox, asked: EndpointRequest) -> Endpoint:
        network = self.get(asked.network)
        if network.record.config_only:
            raise Forbidden(f"cannot connect to network {network.name}: it is a configuration for other networks")
        await self._bridges.make_ready(network)
        for address in filter(None, (asked.ipv4, asked.ipv6)):
            await self._departures.wait_for(network, address)
        used = {endpoint.interface for endpoint in sandbox.endpoints}
        prefix = network.record.text("container_iface_prefix") or "eth"
        interface = asked.interface or next(n for i in range(1000) if (n := f"{prefix}{i}") not in used)
        if interface in used:
            raise InvalidInput(f"invalid endpoint settings: the interface {interface} is there already")
        host_interface = self._names.veth() if network.record.driver == BRIDGE else ""
        return network.enter(sandbox, asked, interface, host_interface)

    def _configuration(self, name: str) -> NetworkRecord:
        """The settings for other networks of that name. Raises NotFound, InvalidInput."""
        try:
            record = self.get(name).record
        except NotFound:
            raise NotFound(f'configuration network "{name}" does not exist') from None
        if not record.config_only:
            raise InvalidInput(f"network {name} is not a configuration network")
        return record

    def _reserve(self, sandbox: Sandbox, endpoint: Endpoint, ports: Sequence[PortRequest]) -> None:
        record = self.get(endpoint.network_id).record
        routed = tuple(version for version in (4, 6) if record.gateway_mode(version) == "routed")
        if routed:
            ports = [replace(port, routed=routed) for port in ports]
        address = record.text("bridge.host_binding_ipv4")
        if address not in ("", "0.0.0.0"):
            ports = [replace(port, host_ip=port.host_ip or address) for port in ports]
        try:
            self._publisher.reserve(sandbox, ports)
        except BuildtoolError as error:
            error.message = (
                f"driver failed programming external connectivity on endpoint {sandbox.name} ({endpoint.id}): "
                f"{error.message}"
            )
            raise

    async def _plug(self, sandbox: Sandbox, endpoints: list[Endpoint], target: int, plug: Plug = kernel.plug) -> None:
        records = {endpoint.network_id: self.get(endpoint.network_id).record for endpoint in endpoints}
        try:
            await self._place.do(plug, sandbox, endpoints, records, target)
        except BuildtoolError:
            if not await self._bridges.lost(records):
                raise
            for identity in records:
                await self._bridges.make_ready(self.get(identity))
            await self._place.do(plug, sandbox, endpoints, records, target)

    async def _link(self, endpoints: Sequence[Endpoint]) -> None:
        """Ports of links are open between those that are there now."""
        found = (self._directory.find(one.network_id) for one in endpoints)
        networks = [network for network in found if network is not None and network.record.default]
        if any(not network.record.switch("bridge.enable_icc", default=True) for network in networks):
            await self._rules.link(networks)

    def _depart(self, sandbox: Sandbox, endpoint: Endpoint) -> None:
        network = self._directory.find(endpoint.network_id)
        if network is None:
            return
        self._departures.begin(network, sandbox, endpoint)

    async def _gateway_changed(self, sandbox: Sandbox, pid: int, before: _Ways) -> None:
        """The default route and the published ports follow the endpoint that is the gateway's now."""
        after = _Ways.of(sandbox)
        if after.gateway is not before.gateway:
            still = before.gateway if before.gateway in sandbox.endpoints else None
            await self._place.do(kernel.move_default_route, pid, still, after.gateway)
        if sandbox.ports and after.ports is not before.ports:
            if before.ports in sandbox.endpoints:
                await self._rules.remove_ports(sandbox, before.ports)
            await self._rules.add_ports(sandbox)
            self._publisher.serve(sandbox)


@dataclass(frozen=True)
class _Ways:
    """Where a container's packets go, and where its published ports come from."""

    gateway: Endpoint | None
    ports: Endpoint | None

    @classmethod
    def of(cls, sandbox: Sandbox) -> _Ways:
        gateway = sandbox.gateway_endpoint(4) or sandbox.gateway_endpoint(6)
        return cls(gateway, sandbox.publishing_endpoint(4) or sandbox.publishing_endpoint(6))
