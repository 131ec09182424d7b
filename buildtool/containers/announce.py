"""Events about what a container uses: the networks it joins and leaves, the volumes it mounts and unmounts."""

from __future__ import annotations

from buildtool.containers.events import Events
from buildtool.containers.model import Record
from buildtool.networks import Endpoint
from buildtool.networks.predefined import predefined_id


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
        details = {"container": record.id, "name": mode, "type": "null" if mode == "none" else mode}
        events.publish("network", action, predefined_id(mode), details)
    for endpoint in record.sandbox.endpoints if record.sandbox is not None else ():
        network_event(events, record, endpoint, action)


def network_event(events: Events, record: Record, endpoint: Endpoint, action: str) -> None:
    """It has joined or left a bridge network."""
    details = {"container": record.id, "name": endpoint.network, "type": endpoint.driver}
    events.publish("network", action, endpoint.network_id, details)
