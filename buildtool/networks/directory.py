"""All networks of a data root by id and name, and their records in the store."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import msgspec

from buildtool.cache import Store
from buildtool.errors import InvalidInput, NotFound
from buildtool.networks.model import BRIDGE, NetworkRecord
from buildtool.networks.network import Network
from buildtool.networks.predefined import predefined_id
from buildtool.networks.settings import Settings

log = logging.getLogger("buildtool.networks")
_OPTION = "com.docker.network."


class Directory:
    """The networks that containers can be connected to; `bridge` is always among them."""

    def __init__(self, store: Store, default_bridge: str, settings: Settings) -> None:
        self._documents = store.state.documents("networks")
        self._networks: dict[str, Network] = {}
        for identity, document in self._documents.items():
            try:
                self._networks[identity] = Network(msgspec.convert(document, NetworkRecord))
            except msgspec.ValidationError as error:
                log.error("the record of network %s cannot be read: %s", identity, error)
        if predefined_id(BRIDGE) not in self._networks:
            self.add(Network(_default_record(default_bridge)))
        _configure(self._networks[predefined_id(BRIDGE)].record, settings)

    def __iter__(self) -> Iterator[Network]:
        return iter(list(self._networks.values()))

    def __contains__(self, identity: str) -> bool:
        return identity in self._networks

    def find(self, identity: str) -> Network | None:
        """By its whole id."""
        return self._networks.get(identity)

    def get(self, reference: str) -> Network:
        """By id, name or unique prefix of an id. Raises NotFound, InvalidInput."""
        found = self._networks.get(reference)
        if found is not None:
            return found
        for network in self._networks.values():
            if network.name == reference:
                return network
        begun = [one for one in self._networks.values() if len(reference) >= 4 and one.id.startswith(reference)]
        if len(begun) > 1:
            raise InvalidInput(f"network {reference} is ambiguous ({len(begun)} matches found on ID prefix)")
        if not begun:
            raise NotFound(f"network {reference} not found")
        return begun[0]

    def add(self, network: Network) -> None:
        """Make it known."""
        self._networks[network.id] = network

    def discard(self, network: Network) -> None:
        """Make it unknown; its record is deleted with `delete`."""
        self._networks.pop(network.id, None)

    def store(self, network: Network) -> None:
        """Write its record (blocking)."""
        self._documents.put(network.id, msgspec.to_builtins(network.record))

    def delete(self, network: Network) -> None:
        """Delete its record (blocking)."""
        self._documents.delete(network.id)


def _configure(record: NetworkRecord, settings: Settings) -> None:
    """What the administrator says of the network `bridge`, now."""
    record.options = {**_default_record(record.bridge).options, **settings.default_options()}
    given = settings.default_bridge()
    for version, own in ((4, record.own_subnet), (6, record.own_subnet6)):
        now = next((one for one in given if (":" in one.subnet) == (version == 6)), None)
        if now is not None or own:
            record.ipam = [one for one in record.ipam if one is not record.subnet(version)] + ([now] if now else [])
    record.own_subnet = any(":" not in one.subnet for one in given)
    record.own_subnet6 = record.ipv6 = any(":" in one.subnet for one in given)


def _default_record(bridge: str) -> NetworkRecord:
    options = {
        "bridge.default_bridge": "true",
        "bridge.enable_icc": "true",
        "bridge.enable_ip_masquerade": "true",
        "bridge.host_binding_ipv4": "0.0.0.0",
        "bridge.name": bridge,
        "driver.mtu": "1500",
    }
    full = {_OPTION + name: value for name, value in options.items()}
    return NetworkRecord(id=predefined_id(BRIDGE), name=BRIDGE, created=0, bridge=bridge, options=full)
