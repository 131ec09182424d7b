"""`network ls`, `create`, `rm`, `connect`, `disconnect`."""

from __future__ import annotations

import sys

from buildtool.cli.handlers.many import for_each
from buildtool.cli.human import short_id
from buildtool.cli.listing import labels_text, print_rows
from buildtool.cli.values import filters_document, key_value_map
from buildtool.client import EngineError, quote_path
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}
_RAW = (("network_id", "ID"), ("name", "Name"), ("driver", "Driver"), ("scope", "Scope"))


def list_(call: Call) -> int:
    """List networks."""
    found = call.client.get("/networks", {"filters": filters_document(call.texts("filter")) or None})
    found.sort(key=lambda network: str(network["Name"]))
    truncate = not call.switch("no-trunc")
    rows = (_row(network, truncate) for network in found)
    quiet = "ID" if call.switch("quiet") else ""
    print_rows(
        rows,
        call.text("format"),
        ("ID", "Name", "Driver", "Scope"),
        _HEADERS,
        quiet=quiet,
        kind="network.networkContext",
        raw=_RAW,
    )
    return 0


def _row(network: dict[str, Any], truncate: bool) -> dict[str, Any]:
    labels = network.get("Labels") or {}
    return {
        "ID": short_id(network["Id"]) if truncate else network["Id"],
        "Name": network["Name"],
        "Driver": network.get("Driver", ""),
        "Scope": network.get("Scope", ""),
        "IPv4": str(network.get("EnableIPv4", True)).lower(),
        "IPv6": str(network.get("EnableIPv6", False)).lower(),
        "Internal": str(network.get("Internal", False)).lower(),
        "Labels": labels_text(labels),
        "Label": lambda name: labels.get(name, ""),
        "CreatedAt": _created(network.get("Created")),
    }


def _created(stamp: object) -> str:
    from buildtool.cli.gotemplate.times import string

    return string(stamp)


def create(call: Call) -> int:
    """Create a network and print its id."""
    body = {
        "Name": call.arguments[0],
        "Driver": call.text("driver"),
        "Scope": call.text("scope"),
        "Internal": call.switch("internal"),
        "Attachable": call.switch("attachable"),
        "Ingress": call.switch("ingress"),
        "ConfigOnly": call.switch("config-only"),
        "ConfigFrom": {"Network": call.text("config-from")} if call.text("config-from") else None,
        "EnableIPv4": call.switch("ipv4"),
        "EnableIPv6": call.switch("ipv6"),
        "IPAM": {
            "Driver": call.text("ipam-driver"),
            "Options": key_value_map(call.texts("ipam-opt")),
            "Config": _subnets(call),
        },
        "Options": key_value_map(call.texts("opt")),
        "Labels": key_value_map(call.texts("label")),
    }
    answer = call.client.post("/networks/create", None, body)
    if answer.get("Warning"):
        print(f"WARNING: {answer['Warning']}", file=sys.stderr)
    print(answer["Id"])
    return 0


def _subnets(call: Call) -> list[dict[str, Any]]:
    """Each subnet with the range, gateway and auxiliary addresses that lie in it. Raises InvalidInput."""
    import ipaddress

    configs: list[tuple[Any, dict[str, Any]]] = []
    for text in call.texts("subnet"):
        try:
            subnet = ipaddress.ip_network(text)
        except ValueError as error:
            raise InvalidInput(f"invalid subnet {text}: {error}") from error
        if any(subnet.version == other.version and subnet.overlaps(other) for other, _ in configs):
            raise InvalidInput("multiple overlapping subnet configuration is not supported")
        configs.append((subnet, {"Subnet": text}))

    def home(text: str, what: str) -> dict[str, Any]:
        try:
            address = ipaddress.ip_interface(text).ip
        except ValueError as error:
            raise InvalidInput(f"invalid {what} {text}: {error}") from error
        for subnet, config in configs:
            if address in subnet:
                return config
        raise InvalidInput(f"no matching subnet for {what} {text}")

    for flag, key in (("ip-range", "IPRange"), ("gateway", "Gateway")):
        for text in call.texts(flag):
            config = home(text, flag)
            if key in config:
                raise InvalidInput(f"cannot configure multiple {flag}s ({text}, {config[key]}) on the same subnet")
            config[key] = text
    for name, text in key_value_map(call.texts("aux-address")).items():
        home(text, "aux-address").setdefault("AuxiliaryAddresses", {})[name] = text
    return [config for _, config in configs]


def rm(call: Call) -> int:
    """Remove networks."""
    force = call.switch("force")

    def remove(name: str) -> None:
        call.client.call("DELETE", f"/networks/{quote_path(name)}").read()

    def tolerable(error: EngineError) -> bool:
        return force and error.status == 404

    return for_each(call.arguments, remove, tolerate=tolerable)


def connect(call: Call) -> int:
    """Connect a container to a network."""
    addresses = {
        "IPv4Address": call.text("ip"),
        "IPv6Address": call.text("ip6"),
        "LinkLocalIPs": call.texts("link-local-ip"),
    }
    settings = {
        "IPAMConfig": {key: value for key, value in addresses.items() if value} or None,
        "Aliases": call.texts("alias") or None,
        "Links": call.texts("link") or None,
        "DriverOpts": key_value_map(call.texts("driver-opt")) or None,
        "GwPriority": call.number("gw-priority") or 0,
    }
    network, container = call.arguments
    body = {"Container": container, "EndpointConfig": {key: value for key, value in settings.items() if value}}
    call.client.post(f"/networks/{quote_path(network)}/connect", None, body)
    return 0


def disconnect(call: Call) -> int:
    """Disconnect a container from a network."""
    network, container = call.arguments
    body = {"Container": container, "Force": call.switch("force")}
    call.client.post(f"/networks/{quote_path(network)}/disconnect", None, body)
    return 0
