"""Events about what a container uses: the networks it joins and leaves, the volumes it mounts and unmounts."""

from __future__ import annotations

from buildtool.containers.events import Events
from buildtool.containers.model import Record
from buildtool.containers.present import network_id


def started(events: Events, record: Record) -> None:
    """The container has its network and its volumes."""
    for point in record.mounts:
        if point.type == "volume":
            details = {
                "container": record.id,
                "destination": point.destination,
                "driver": "local",
                "propagation": point.propagation,
                "read/write": "true" if point.rw else "false",
            }
            events.publish("volume", "mount", point.name, details)
    _network(events, record, "connect")


def ended(events: Events, record: Record) -> None:
    """It has given them back."""
    _network(events, record, "disconnect")
    for point in record.mounts:
        if point.type == "volume":
            events.publish("volume", "unmount", point.name, {"container": record.id, "driver": "local"})


def _network(events: Events, record: Record, action: str) -> None:
    mode = record.host.network_mode
    if mode in ("host", "none"):
        events.publish("network", action, network_id(mode), {"container": record.id, "name": mode, "type": mode})
