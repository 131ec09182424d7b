"""`network ls`."""

from __future__ import annotations

from buildtool.cli.human import short_id
from buildtool.cli.listing import labels_text, print_rows
from buildtool.cli.values import filters_document

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


def list_(call: Call) -> int:
    """List networks."""
    found = call.client.get("/networks", {"filters": filters_document(call.texts("filter")) or None})
    found.sort(key=lambda network: str(network["Name"]))
    truncate = not call.switch("no-trunc")
    rows = (_row(network, truncate) for network in found)
    quiet = "ID" if call.switch("quiet") else ""
    print_rows(rows, call.text("format"), ("ID", "Name", "Driver", "Scope"), _HEADERS, quiet=quiet)
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
        "CreatedAt": network.get("Created", ""),
    }
