"""A container's networks: from its record to endpoints and back, while it starts, runs, and ends."""

from __future__ import annotations

import ipaddress
import logging
import re
from typing import Any

import msgspec

from buildtool.aio import offload
from buildtool.containers import etcfiles, links, ports
from buildtool.containers.announce import network_event
from buildtool.containers.container import Container
from buildtool.containers.events import Events
from buildtool.containers.model import Record
from buildtool.containers.registry import Registry
from buildtool.errors import Conflict, Forbidden, InvalidInput, NotFound
from buildtool.networks import EndpointRequest, Networks, Sandbox
from buildtool.networks.predefined import predefined_id

log = logging.getLogger("buildtool.containers")
ANNOTATION = "org.buildtool.sandbox"
"""Where the bundle's config.json tells what the container has, for a daemon that finds it again."""
DEFAULT = "bridge"
_UNNAMED = ("", "default")
_ENDPOINT = "com.docker.network.endpoint."
_INTERFACE = re.compile(r"[a-zA-Z0-9_.-]{1,15}")
_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.(conf|neigh|input)\.IFNAME\.[a-z0-9_]+")


class Connections:
    """All changes of a container's `sandbox` go through here."""

    def __init__(self, networks: Networks, registry: Registry, events: Events) -> None:
        self.networks, self._registry, self._events = networks, registry, events
        self._said = False
        networks.publish = lambda action, id, attributes: events.publish("network", action, id, attributes)

    # Creating

    def settle(self, record_mode: str, endpoints: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any], list[str]]:
        """The network mode, the endpoint settings by network name and warnings, of what a request says of them.

        A network that does not exist is told at the start, as Docker does: clients take a 404 for a missing image.
        Raises NotFound (container), InvalidInput (addresses).
        """
        mode = DEFAULT if record_mode in _UNNAMED else record_mode
        if mode.startswith("container:"):
            return "container:" + self._registry.get(mode.partition(":")[2]).id, {}, []
        if mode == "bridge" and self.networks.refusal:
            said, self._said = self._said, True
            warning = f"{self.networks.refusal}; containers use the host's network"
            return "host", {}, [] if said else [warning]
        if not bridged(mode):
            for settings in endpoints.values():
                _request(mode, settings, ())
                if any((settings.get("IPAMConfig") or {}).values()):
                    raise InvalidInput(
                        "user specified IP address is supported on user defined networks only",
                        hint=f"a container in the network {mode} has no address of its own",
                    )
            return mode, {mode: endpoints.get(mode) or endpoints.get(record_mode) or {}}, []
        name = self._name(mode)
        asked = {name: endpoints.get(mode) or endpoints.get(record_mode) or endpoints.get(name) or {}}
        for reference, settings in endpoints.items():
            if reference not in (mode, record_mode) and reference not in _UNNAMED:
                asked.setdefault(self._name(reference), settings)
        for network, settings in asked.items():
            _request(network, settings, ())
        return mode, asked, [self.networks.warning] if self.networks.warning else []

    def _name(self, reference: str) -> str:
        try:
            return self.networks.get(reference).name
        except NotFound:
            return reference

    # Starting and ending

    async def join(self, container: Container) -> None:
        """Take addresses and ports for a start. Raises NotFound, Forbidden, Conflict, BuildtoolError."""
        record = container.record
        record.sandbox = None
        if bridged(record.host.network_mode):
            requests = [self._request(record, name) for name in record.networks]
            published = ports.requests(record.config, record.host)
            record.sandbox = await self.networks.join(record.id, record.name, requests, published)
            sandbox, host = record.sandbox, record.host
            sandbox.servers = host.dns or sandbox.servers
            sandbox.search = host.dns_search or sandbox.search
            sandbox.options = host.dns_options or sandbox.options
            sandbox.linked = links.opened(self._registry, record)

    async def plug(self, container: Container, pid: int) -> None:
        """Connect the container's network namespace, before its program runs."""
        if container.record.sandbox is not None:
            await self.networks.plug(container.record.sandbox, pid)

    async def leave(self, container: Container) -> None:
        """Give everything back."""
        sandbox, container.record.sandbox = container.record.sandbox, None
        if sandbox is not None:
            await self.networks.leave(sandbox)

    async def adopt(self, container: Container, pid: int) -> None:
        """It has gone on without a daemon. Its bundle says what it started with, its record what came after."""
        record = container.record
        if not bridged(record.host.network_mode):
            return
        started = await offload(_sandbox_of_bundle, container)
        if started is None or record.sandbox is None or record.sandbox.id != started.id:
            record.sandbox = started
        if record.sandbox is not None:
            record.sandbox.name = record.name
            await self.networks.adopt(record.sandbox, pid)

    def rename(self, container: Container, old: str) -> None:
        """It has another name, which others find it by from now on."""
        if container.record.sandbox is not None:
            self.networks.rename(container.record.sandbox, old, container.name)

    # Changing

    async def connect(self, reference: str, container: Container, settings: dict[str, Any]) -> None:
        """POST /networks/{id}/connect. Raises NotFound, Forbidden, InvalidInput, Conflict."""
        if reference in ("host", predefined_id("host")):
            raise Forbidden("container cannot be disconnected from host network or connected to host network")
        network = self.networks.get(reference)
        async with container.lock:
            record = container.record
            self._check_changeable(record, network.name)
            if network.name in record.networks:
                raise Forbidden(f"endpoint with name {record.name} already exists in network {network.name}")
            request = _request(network.name, settings, self._names(record, network.name, settings))
            sandbox = record.sandbox
            if container.alive and container.task is not None and sandbox is not None:
                endpoint = await self.networks.connect(sandbox, container.task.pid, request)
                await offload(etcfiles.add_address, record, container.directory, endpoint)
                await offload(etcfiles.write_resolv_conf, record, container.directory)
                network_event(self._events, record, endpoint, "connect")
            record.networks[network.name] = settings
            if record.host.network_mode == "none":
                record.host.network_mode = network.name
                record.networks.pop("none", None)
            await offload(self._registry.store, record)

    async def disconnect(self, reference: str, container: Container) -> None:
        """POST /networks/{id}/disconnect; from one that is gone too. Raises NotFound, Forbidden."""
        async with container.lock:
            record = container.record
            name = reference if reference in record.networks else self.networks.get(reference).name
            if name not in record.networks or not bridged(record.host.network_mode):
                raise Forbidden(f"container {record.id} is not connected to network {name}")
            del record.networks[name]
            sandbox = record.sandbox
            endpoint = next((e for e in sandbox.endpoints if e.network == name), None) if sandbox else None
            if sandbox is not None and endpoint is not None:
                pid = container.task.pid if container.alive and container.task is not None else 0
                await self.networks.disconnect(sandbox, pid, endpoint.network_id)
                await offload(etcfiles.remove_address, container.directory, endpoint)
                network_event(self._events, record, endpoint, "disconnect")
            await offload(self._registry.store, record)

    def _check_changeable(self, record: Record, name: str) -> None:
        mode = record.host.network_mode
        if mode == "host" or mode.startswith("container:"):
            raise Forbidden(
                "container sharing network namespace with another container or host cannot be connected to any other "
                "network"
            )
        if mode == "none" and record.state.running:
            raise Forbidden(
                f"container {record.id} runs without a network: it can be connected to {name} while it is stopped"
            )
        if record.state.removing or record.state.dead:
            raise Conflict(f"container {record.id} is marked for removal and cannot be connected to a network")

    # Requests

    def _request(self, record: Record, name: str) -> EndpointRequest:
        settings = record.networks[name]
        mac = record.config.mac_address if name == next(iter(record.networks)) else ""
        return _request(name, {"MacAddress": mac, **settings}, self._names(record, name, settings))

    def _names(self, record: Record, network: str, settings: dict[str, Any]) -> tuple[str, ...]:
        """What it is called in a network: nothing on the default one, which has no name service."""
        if self.networks.get(network).record.default:
            return ()
        names = (record.name, *(settings.get("Aliases") or ()), record.id[:12], record.config.hostname)
        return tuple(dict.fromkeys(filter(None, names)))


def bridged(mode: str) -> bool:
    """Whether a network mode means bridge networks."""
    return mode not in ("host", "none") and not mode.startswith("container:")


def _request(network: str, settings: dict[str, Any], names: tuple[str, ...]) -> EndpointRequest:
    """From the API's EndpointSettings. Raises InvalidInput."""
    asked = settings.get("IPAMConfig") or {}
    if not isinstance(asked, dict):
        raise InvalidInput("invalid endpoint settings: IPAMConfig is an object")
    mac = str(settings.get("MacAddress") or "")
    priority = settings.get("GwPriority") or 0
    values = (str(asked.get("IPv4Address") or ""), str(asked.get("IPv6Address") or ""))
    link_local = asked.get("LinkLocalIPs") or ()
    if not isinstance(link_local, (list, tuple)):
        raise InvalidInput("invalid endpoint settings: LinkLocalIPs is a list of addresses")
    for version, text in zip((4, 6), values, strict=True):
        if text and ports.ip_version(text) != version:
            raise InvalidInput(f"invalid endpoint settings: invalid IPv{version} address: {text}")
    if mac and not ports.is_mac(mac):
        raise InvalidInput(f"invalid MAC address: {mac}")
    if not isinstance(priority, int):
        raise InvalidInput("invalid endpoint settings: GwPriority is a number")
    interface, sysctls = _driver_options(settings.get("DriverOpts") or {})
    return EndpointRequest(
        network,
        values[0],
        values[1],
        mac,
        names,
        priority,
        _links(settings.get("Links") or ()),
        tuple(_link_local(text) for text in link_local),
        interface,
        sysctls,
    )


def _link_local(text: Any) -> str:
    """An address of one link, with the length of its prefix. Raises InvalidInput."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInput(f"invalid link-local IP address: {text}") from None
    if not address.is_link_local:
        raise InvalidInput(f"invalid link-local IP address: {text}", hint="they are in 169.254.0.0/16 and fe80::/10")
    return f"{address}/{16 if address.version == 4 else 64}"


def _driver_options(options: Any) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The interface's name and its kernel parameters; other options belong to drivers that are not here.

    Raises InvalidInput.
    """
    if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
        raise InvalidInput("invalid endpoint settings: DriverOpts is an object of strings")
    name = options.get(f"{_ENDPOINT}ifname", "")
    if name and (not _INTERFACE.fullmatch(name) or name == "lo"):
        raise InvalidInput(f"invalid interface name {name!r}: 15 letters, digits, '_', '.' and '-' at most")
    sysctls = []
    for entry in filter(None, options.get(f"{_ENDPOINT}sysctls", "").split(",")):
        parameter, equals, value = entry.partition("=")
        if not equals or not _SYSCTL.fullmatch(parameter):
            raise InvalidInput(
                f"invalid sysctl setting {entry!r}", hint="they are like net.ipv4.conf.IFNAME.log_martians=1"
            )
        sysctls.append((parameter.replace(".", "/"), value))
    return name, tuple(sysctls)


def _links(links: Any) -> tuple[tuple[str, str], ...]:
    """Alias and container of each `container[:alias]`. Raises InvalidInput."""
    if not isinstance(links, (list, tuple)) or not all(isinstance(link, str) and link for link in links):
        raise InvalidInput("invalid endpoint settings: Links is a list of CONTAINER[:ALIAS]")
    pairs = (link.partition(":")[::2] for link in links)
    return tuple((alias or name, name.removeprefix("/")) for name, alias in pairs)


def _sandbox_of_bundle(container: Container) -> Sandbox | None:
    """What the container was started with (blocking)."""
    try:
        spec = msgspec.json.decode((container.directory / "config.json").read_bytes())
        text = (spec.get("annotations") or {}).get(ANNOTATION)
        return msgspec.json.decode(text, type=Sandbox) if text else None
    except (OSError, msgspec.DecodeError) as error:
        log.error("the networks of container %s cannot be found again: %s", container.id[:12], error)
        return None
