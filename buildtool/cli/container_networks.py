"""`--network` in both its forms, and the flags that belong to the first network."""

from __future__ import annotations

from buildtool.cli.container_mounts import csv_fields
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_SHARED = ("none", "host", "default", "bridge")


def network_name(spec: str) -> str:
    """`mynet` or `name=mynet,alias=web`. Raises InvalidInput."""
    return _parse(spec)[0]


def endpoints(call: Call, specs: list[str], mode: str) -> dict[str, Any]:
    """The settings of the networks that the container joins, by name; `mode` is the first's. Raises InvalidInput."""
    flags = _flags(call)
    user_defined = bool(specs) and mode not in _SHARED and not mode.startswith("container:")
    if flags.get("Aliases") and not user_defined:
        raise InvalidInput("network-scoped alias is supported only for containers in user defined networks")
    if user_defined and call.texts("link"):
        flags["Links"] = call.texts("link")
    found: dict[str, Any] = {}
    for number, spec in enumerate(specs):
        name, settings = _parse(spec)
        if name in found:
            raise InvalidInput(f"network {name!r} is specified multiple times")
        if number == 0:
            for key in settings:
                if flags.get(key):
                    raise InvalidInput(f"conflicting options: {key} is given in --network and by a flag of its own")
            settings |= flags
        found[name] = settings
    if not specs and flags:
        found[mode] = flags
    if len(found) > 1 or user_defined:
        return found
    return {name: settings for name, settings in found.items() if settings}


def _flags(call: Call) -> dict[str, Any]:
    addresses = {
        "IPv4Address": call.text("ip"),
        "IPv6Address": call.text("ip6"),
        "LinkLocalIPs": call.texts("link-local-ip"),
    }
    settings = {
        "Aliases": call.texts("network-alias") + call.texts("net-alias"),
        "MacAddress": call.text("mac-address"),
        "IPAMConfig": {key: value for key, value in addresses.items() if value},
    }
    return {key: value for key, value in settings.items() if value}


def _parse(spec: str) -> tuple[str, dict[str, Any]]:
    if "=" not in spec or spec.startswith("container:"):
        return spec, {}
    name = ""
    settings: dict[str, Any] = {}
    for part in csv_fields(spec):
        key, _, value = part.partition("=")
        if key == "name":
            name = value
        elif key == "alias":
            settings.setdefault("Aliases", []).append(value)
        elif key in ("ip", "ip6"):
            settings.setdefault("IPAMConfig", {})["IPv4Address" if key == "ip" else "IPv6Address"] = value
        elif key == "mac-address":
            settings["MacAddress"] = value
        elif key == "driver-opt":
            option, _, text = value.partition("=")
            settings.setdefault("DriverOpts", {})[option] = text
        elif key == "gw-priority" and value.lstrip("-").isdecimal():
            settings["GwPriority"] = int(value)
        else:
            raise InvalidInput(f"invalid field {part!r} in --network {spec}")
    if not name:
        raise InvalidInput(f"network name/id is not specified in --network {spec}")
    return name, settings
