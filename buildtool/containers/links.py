"""`--link`: on the default bridge, which has no name service, a container knows another by /etc/hosts and variables.

On networks of the user's own a link is a name of the endpoint (`EndpointSettings.Links`), and nothing here is used.
Source: Docker's documentation, "Legacy container links".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildtool.containers import ports
from buildtool.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from buildtool.containers.container import Container
    from buildtool.containers.model import Record
    from buildtool.containers.registry import Registry

_BRIDGE = "bridge"
_ALIAS = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


@dataclass(frozen=True)
class Linked:
    """What a container gets of those it is linked to: variables, and lines for /etc/hosts."""

    environment: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


def parse(text: str) -> tuple[str, str]:
    """The container and the alias of `name`, `name:alias`, or `/name:/own/alias` as inspect shows it.

    Raises InvalidInput.
    """
    name, colon, alias = text.partition(":")
    if not text:
        raise InvalidInput("empty string specified for links")
    if ":" in alias or not name or (colon and not alias):
        raise InvalidInput(f"bad format for links: {text}")
    name, alias = name.removeprefix("/"), (alias or name).rpartition("/")[2]
    if not _ALIAS.fullmatch(alias):
        raise InvalidInput(f"bad format for links: {text}")
    return name, alias


def resolve(registry: Registry, links: list[str] | None, network_mode: str) -> dict[str, str]:
    """The ids of the linked containers by alias. Raises InvalidInput."""
    found = {}
    for text in links or ():
        name, alias = parse(text)
        try:
            child = registry.get(name)
        except NotFound as error:
            raise InvalidInput(f"could not get container for {name}: {error}") from None
        if child.host.network_mode == "host" or network_mode == "host":
            raise InvalidInput(
                "conflicting options: host type networking can't be used with links. This would result in undefined "
                "behavior"
            )
        found[alias] = child.id
    return found


def gather(registry: Registry, record: Record) -> Linked:
    """For a start on the default bridge. Raises Conflict when a linked container does not run, or is not on it."""
    if record.host.network_mode != _BRIDGE:
        return Linked()
    environment: list[str] = []
    hosts = []
    for alias, identity in record.links.items():
        try:
            child = registry.get(identity)
        except NotFound:  # removed meanwhile: so is the link
            continue
        if not child.alive:
            raise Conflict(f"Cannot link to a non running container: /{child.name} AS /{record.name}/{alias}")
        address = address_of(child.record)
        if not address:
            raise Conflict(f"Cannot link to /{child.name}: it is not attached to the default bridge network")
        environment += variables(record.name, alias, address, child.record)
        hosts.append(hosts_line(alias, address, child.record))
    return Linked(tuple(environment), tuple(hosts))


def opened(registry: Registry, record: Record) -> dict[str, list[str]]:
    """The exposed ports of the containers that it is linked to, by their ids: open to it where others are not."""
    found = {}
    for identity in record.links.values() if record.host.network_mode == _BRIDGE else ():
        try:
            exposed = registry.get(identity).config.exposed_ports or ()
        except NotFound:
            continue
        found[identity] = [f"{number}/{proto}" for key in exposed for number, proto in ports.numbers(key)]
    return found


def address_of(record: Record) -> str:
    """Its address on the default bridge, "" when it has none."""
    ends = record.sandbox.endpoints if record.sandbox is not None else ()
    return next((end.address for end in ends if end.network == _BRIDGE), "")


def hosts_line(alias: str, address: str, child: Record) -> str:
    """How the linked container is called in /etc/hosts."""
    names = dict.fromkeys((alias, child.config.hostname, child.name))
    return f"{address}\t{' '.join(filter(None, names))}\n"


def variables(parent: str, alias: str, address: str, child: Record) -> list[str]:
    """The variables of a link: name, exposed ports, and the other's own environment."""
    prefix = alias.upper().replace("-", "_")
    exposed = sorted({port for key in child.config.exposed_ports or () for port in ports.numbers(key)})
    found = []
    if exposed:
        number, protocol = min(exposed, key=lambda port: (port[1] != "tcp", port[0]))
        found.append(f"{prefix}_PORT={protocol}://{address}:{number}")
    for number, protocol in exposed:
        name = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found += [
            f"{name}={protocol}://{address}:{number}",
            f"{name}_ADDR={address}",
            f"{name}_PORT={number}",
            f"{name}_PROTO={protocol}",
        ]
    found.append(f"{prefix}_NAME=/{parent}/{alias}")
    for entry in child.config.env or ():
        key, equals, value = entry.partition("=")
        if equals and key not in ("HOME", "PATH"):
            found.append(f"{prefix}_ENV_{key}={value}")
    return found


def shown(registry: Registry, record: Record) -> list[str] | None:
    """`HostConfig.Links` of inspect: `/other:/own/alias`."""
    names = {one.id: one.name for one in registry}
    found = [f"/{names[i]}:/{record.name}/{alias}" for alias, i in record.links.items() if i in names]
    return found or None


def parents(registry: Registry, child: Container) -> list[tuple[Container, str]]:
    """The running containers that are linked to this one, and as what."""
    return [
        (other, alias)
        for other in registry
        if other.alive and other.host.network_mode == _BRIDGE
        for alias, identity in other.record.links.items()
        if identity == child.id
    ]
