"""The body of POST /networks/create, decoded and checked. Pure but for the id."""

from __future__ import annotations

import ipaddress
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec

from buildtool.errors import Forbidden, InvalidInput, NotFound, Unavailable
from buildtool.networks.model import BRIDGE, MACVLAN, PREDEFINED, Ipam, NetworkRecord

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_BRIDGE_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,15}")
_PREFIX = "com.docker.network."
_SWITCHES = ("bridge.enable_icc", "bridge.enable_ip_masquerade", "bridge.inhibit_ipv4")
_GATEWAY_MODE = "bridge.gateway_mode_ipv"
_GATEWAY_MODES = ("nat", "nat-unprotected", "routed", "isolated")


class _IpamRequest(msgspec.Struct, rename="pascal"):
    driver: str | None = ""
    config: list[Ipam] | None = None
    options: dict[str, str] | None = None


class _Request(msgspec.Struct, rename="pascal"):
    name: str = ""
    driver: str | None = ""
    scope: str | None = ""
    internal: bool | None = False
    attachable: bool | None = False
    ingress: bool | None = False
    config_only: bool | None = False
    config_from: dict[str, str] | None = None
    ipam: _IpamRequest | None = msgspec.field(default=None, name="IPAM")
    enable_ipv4: bool | None = msgspec.field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = msgspec.field(default=None, name="EnableIPv6")
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


def no_configuration(name: str) -> NetworkRecord:
    """Where there are no settings for other networks. Raises NotFound."""
    raise NotFound(f"network {name} not found")


def parse(body: Any, configuration: Callable[[str], NetworkRecord] = no_configuration) -> NetworkRecord:
    """The network that is asked for; subnets that were not given are still missing.

    `configuration` gives the settings for other networks that `ConfigFrom` names (NotFound, InvalidInput).
    Raises InvalidInput, Forbidden (predefined names), NotFound (unknown drivers), Unavailable.
    """
    try:
        asked = msgspec.convert(_without_nulls(body), _Request)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"invalid network: {error}") from None
    _check_name(asked.name)
    driver = asked.driver or BRIDGE
    if driver in ("host", "null", "none"):
        raise Forbidden(f'only one instance of "{"null" if driver != "host" else driver}" network is allowed')
    if driver == "overlay":
        raise Unavailable(f"This node is not a swarm manager: a network of the driver {driver} needs a swarm")
    if driver not in (BRIDGE, MACVLAN):
        raise NotFound(
            f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found',
            hint="this daemon has the drivers bridge, macvlan, host and null",
        )
    if asked.scope not in ("", None, "local"):
        raise Unavailable(f"cannot create a {asked.scope} scoped network when swarm is not active")
    if asked.ingress:
        raise Unavailable("an ingress network needs a swarm, which this daemon has not")
    ipam = asked.ipam or _IpamRequest()
    if ipam.driver not in ("", None, "default"):
        raise NotFound(f'could not find plugin {ipam.driver} in v1 plugin registry: plugin "{ipam.driver}" not found')
    record = NetworkRecord(
        id=secrets.token_hex(32),
        name=asked.name,
        created=time.time_ns(),
        driver=driver,
        ipv4=asked.enable_ipv4 is not False,
        ipv6=bool(asked.enable_ipv6),
        internal=bool(asked.internal),
        attachable=bool(asked.attachable),
        ipam=[one for one in ipam.config or [] if one.subnet or one.ip_range or one.gateway or one.aux],
        ipam_options=ipam.options,
        options=asked.options or {},
        labels=asked.labels or {},
    )
    source = (asked.config_from or {}).get("Network") or ""
    if source:
        _take_over(record, source, configuration, config_only=bool(asked.config_only))
    elif asked.config_only:
        record.config_only, record.driver = True, "null"
    _check_options(record)
    _check_ipam(record)
    record.own_subnet = record.subnet(4) is not None
    record.own_subnet6 = record.subnet(6) is not None
    if record.driver == BRIDGE:
        record.bridge = record.text("bridge.name") or f"br-{record.id[:12]}"
    elif record.driver == MACVLAN and not record.options.get("parent"):
        record.bridge = f"dm-{record.id[:12]}"
        record.internal = True
    return record


def _take_over(
    record: NetworkRecord, source: str, configuration: Callable[[str], NetworkRecord], *, config_only: bool
) -> None:
    """Settings of another network. Raises InvalidInput when there are own ones of the same kind, NotFound."""
    if config_only:
        raise InvalidInput("a configuration-only network cannot be made from another one")
    if record.ipam or record.ipam_options or record.options:
        raise InvalidInput(
            f"network {record.name} takes its configuration from {source}: it has no driver options and no IPAM "
            "configuration of its own"
        )
    settings = configuration(source)
    record.config_from = settings.name
    record.ipv4, record.ipv6 = settings.ipv4, settings.ipv6
    record.ipam = [msgspec.structs.replace(one) for one in settings.ipam]
    record.ipam_options, record.options = settings.ipam_options, dict(settings.options)
    record.labels = {**settings.labels, **record.labels}


def _check_name(name: str) -> None:
    if name in (*PREDEFINED, "default", "container"):
        raise Forbidden(f"operation is not permitted on predefined {name} network")
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"invalid network name {name!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            if name
            else "network name cannot be empty"
        )


def _check_options(record: NetworkRecord) -> None:
    mode = record.options.get("macvlan_mode", "")
    if record.driver == MACVLAN and mode not in ("", "bridge", "private", "vepa", "passthru"):
        raise InvalidInput(f"unknown macvlan mode '{mode}'", hint="it is bridge, private, vepa or passthru")
    parent = record.options.get("parent", "")
    if record.driver == MACVLAN and parent and not _BRIDGE_NAME.fullmatch(parent):
        raise InvalidInput(f"invalid parent interface {parent!r}: 15 letters, digits, '_', '.' and '-' at most")
    for key, value in record.options.items():
        name = key.removeprefix(_PREFIX) if key.startswith(_PREFIX) else ""
        if name in _SWITCHES and value.lower() not in ("true", "false", "1", "0", "t", "f", ""):
            raise InvalidInput(f"invalid value {value!r} of the option {key}: it is true or false")
        if name.startswith(_GATEWAY_MODE) and value not in ("", *_GATEWAY_MODES):
            raise InvalidInput(f"unknown gateway mode {value!r}", hint=f"it is {', '.join(_GATEWAY_MODES)}")
        if name.startswith(_GATEWAY_MODE) and value == "isolated" and not record.internal:
            raise InvalidInput("gateway mode 'isolated' can only be used for an internal network")
        if name == "driver.mtu" and not (value.isdecimal() and 68 <= int(value) <= 65535):
            raise InvalidInput(f"invalid MTU {value!r}: it is a number from 68 to 65535")
        if name == "bridge.name" and not _BRIDGE_NAME.fullmatch(value):
            raise InvalidInput(f"invalid bridge name {value!r}: 15 letters, digits, '_', '.' and '-' at most")
        if name == "container_iface_prefix" and not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]{0,12}", value):
            raise InvalidInput(f"invalid interface prefix {value!r}")
        if name == "bridge.host_binding_ipv4" and value:
            _address(value, "host_binding_ipv4")


def _check_ipam(record: NetworkRecord) -> None:
    seen = set()
    for one in record.ipam:
        if not one.subnet:
            raise InvalidInput("invalid network config: an IP range, gateway or aux address needs its subnet")
        try:
            subnet = ipaddress.ip_network(one.subnet)
        except ValueError as error:
            raise InvalidInput(f"invalid network config: invalid subnet {one.subnet}: {error}") from None
        if subnet.version in seen:
            raise Unavailable(f"{record.driver} driver doesn't support multiple IPv{subnet.version} subnets")
        seen.add(subnet.version)
        if subnet.version == 6 and not record.ipv6:
            raise InvalidInput(f"invalid network config: {subnet} needs IPv6 to be enabled (--ipv6)")
        one.subnet = str(subnet)
        if one.ip_range:
            try:
                within = ipaddress.ip_network(one.ip_range)
            except ValueError as error:
                raise InvalidInput(f"invalid network config: invalid ip-range {one.ip_range}: {error}") from None
            if within.version != subnet.version or not within.subnet_of(subnet):  # type: ignore[arg-type]
                raise InvalidInput(f"invalid network config: ip-range {within} is not in the subnet {subnet}")
        for name, text in (("gateway", one.gateway), *(("aux address " + key, v) for key, v in one.aux.items())):
            if text and _address(text, name) not in subnet:
                raise InvalidInput(f"invalid network config: the {name} {text} is not in the subnet {subnet}")


def _address(text: str, what: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInput(f"invalid {what}: {text} is not an IP address") from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    return [_without_nulls(member) for member in value] if isinstance(value, list) else value
