"""Networks and volumes of a project: created, removed."""

from __future__ import annotations

import time
from typing import Any

from buildtool.client import EngineError
from buildtool.stacks import labels
from buildtool.stacks.engine import Engine
from buildtool.stacks.hashing import network_hash, volume_hash
from buildtool.stacks.model import Project
from buildtool.stacks.report import Report

# A container that has just ended may still be leaving its network.
_LEAVING_SECONDS = 5.0


def create_network(engine: Engine, project: Project, key: str, report: Report) -> None:
    """Make a network of the project. One that others made under the same name is used as it is."""
    network = project.part("networks")[key]
    report.state("Network", network["name"], "Creating")
    document = {
        "Name": network["name"],
        "CheckDuplicate": True,
        "Driver": network.get("driver") or "bridge",
        "Options": dict(network.get("driver_opts") or {}),
        "Internal": bool(network.get("internal")),
        "Attachable": bool(network.get("attachable")),
        "EnableIPv6": bool(network.get("enable_ipv6")),
        "Labels": {
            **(network.get("labels") or {}),
            **labels.resource_labels(project, labels.NETWORK, key, network_hash(network)),
        },
    }
    if network.get("enable_ipv4") is not None:
        document["EnableIPv4"] = network["enable_ipv4"]
    if network.get("ipam"):
        document["IPAM"] = _ipam(network["ipam"])
    engine.post("/networks/create", None, document)
    report.state("Network", network["name"], "Created")


def _ipam(ipam: dict[str, Any]) -> dict[str, Any]:
    pools = []
    for pool in ipam.get("config") or []:
        found = {
            field: pool[key]
            for field, key in (("Subnet", "subnet"), ("Gateway", "gateway"), ("IPRange", "ip_range"))
            if pool.get(key)
        }
        if pool.get("aux_addresses"):
            found["AuxiliaryAddresses"] = dict(pool["aux_addresses"])
        pools.append(found)
    return {"Driver": ipam.get("driver") or "default", "Config": pools, "Options": dict(ipam.get("options") or {})}


def create_volume(engine: Engine, project: Project, key: str, report: Report) -> None:
    """Make a volume of the project."""
    volume = project.part("volumes")[key]
    report.state("Volume", volume["name"], "Creating")
    document = {
        "Name": volume["name"],
        "Driver": volume.get("driver") or "local",
        "DriverOpts": dict(volume.get("driver_opts") or {}),
        "Labels": {
            **(volume.get("labels") or {}),
            **labels.resource_labels(project, labels.VOLUME, key, volume_hash(volume)),
        },
    }
    engine.post("/volumes/create", None, document)
    report.state("Volume", volume["name"], "Created")


def remove_network(engine: Engine, identifier: str, name: str, report: Report) -> None:
    """Remove a network; one that others use stays, and that is told."""
    report.state("Network", name, "Removing")
    deadline = time.monotonic() + _LEAVING_SECONDS
    while True:
        try:
            engine.act("DELETE", f"/networks/{identifier}", missing=True)
        except EngineError as error:
            if error.status not in (403, 409):
                raise
            if time.monotonic() > deadline or "active endpoints" not in error.message:
                report.state("Network", name, "Resource is still in use")
                return
            time.sleep(0.05)
        else:
            report.state("Network", name, "Removed")
            return


def remove_volume(engine: Engine, name: str, report: Report) -> None:
    """Remove a volume; one that others use stays, and that is told."""
    report.state("Volume", name, "Removing")
    try:
        engine.act("DELETE", f"/volumes/{name}", {"force": True}, missing=True)
    except EngineError as error:
        if error.status != 409:
            raise
        report.state("Volume", name, "Resource is still in use")
        return
    report.state("Volume", name, "Removed")
