"""The name servers of all containers that are in user-defined networks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from buildtool.networks import hostdns, kernel, rules
from buildtool.networks.firewall import Firewall
from buildtool.networks.model import Endpoint, Sandbox
from buildtool.networks.network import Network
from buildtool.networks.place import Place
from buildtool.networks.resolver import Resolver

NetworksOf = Callable[[Sandbox], list[Network]]


class NameServers:
    """One resolver for each container, in its own network namespace; they end with the daemon and are made anew."""

    def __init__(self, firewall: Firewall, networks_of: NetworksOf, place: Place) -> None:
        self._firewall, self._networks_of, self._place = firewall, networks_of, place
        self._open: dict[str, Resolver] = {}

    async def open(self, sandbox: Sandbox, pid: int, *, fresh: bool = False) -> None:
        """Serve this container, when it is in a network with names and is not served yet.

        `fresh`: nobody has served it before.
        """
        if sandbox.id in self._open or not self._networks_of(sandbox):
            return
        udp, tcp = await self._place.do(kernel.in_namespace_of, pid, lambda: self._sockets(fresh=fresh))
        book = Book(sandbox, self._networks_of)
        self._open[sandbox.id] = Resolver(udp, tcp, book, lambda: upstream(sandbox))

    def close(self, sandbox: Sandbox) -> None:
        """Stop serving this container."""
        resolver = self._open.pop(sandbox.id, None)
        if resolver is not None:
            resolver.close()

    def close_all(self) -> None:
        """Stop serving."""
        for resolver in self._open.values():
            resolver.close()
        self._open.clear()

    def _sockets(self, *, fresh: bool) -> tuple[socket.socket, socket.socket]:
        udp, tcp = Resolver.open_sockets()
        try:
            self._firewall.apply_here(rules.resolver(udp.getsockname()[1], tcp.getsockname()[1], fresh=fresh))
        except BaseException:
            udp.close()
            tcp.close()
            raise
        return udp, tcp


class Book:
    """The names that one container can ask for: those of the networks that it is in."""

    def __init__(self, sandbox: Sandbox, networks_of: NetworksOf) -> None:
        self._sandbox, self._networks_of = sandbox, networks_of

    @property
    def generation(self) -> int:
        """Another number after each change of what there is to know."""
        return Network.generation

    def addresses(self, name: str) -> list[str] | None:
        """The addresses of all containers of that name; None when there is none."""
        found: list[Endpoint] = []
        for network in self._networks_of(self._sandbox):
            own = self._sandbox.endpoint(network.id)
            found += network.named(own.links.get(name, name) if own is not None else name)
        if not found:
            return None
        return [address for one in found for address in (one.address, one.address6) if address]

    def name_of(self, address: str) -> str:
        """`container.network` of the container with that address."""
        for network in self._networks_of(self._sandbox):
            for box, endpoint in network.members.values():
                if address in (endpoint.address, endpoint.address6):
                    return f"{box.name}.{network.name}"
        return ""


def upstream(sandbox: Sandbox) -> Sequence[str]:
    """The servers for all other names; none for a container that reaches nothing outside."""
    if sandbox.gateway_endpoint(4) is None and sandbox.gateway_endpoint(6) is None:
        return ()
    return sandbox.servers or hostdns.ResolvConf.of_host().servers
