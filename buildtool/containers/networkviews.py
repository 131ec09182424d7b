"""Networks as the Engine API shows them, the predefined ones included; which of them list and prune calls mean."""

from __future__ import annotations

import time
from typing import Any

from buildtool.containers import times
from buildtool.containers.filters import Filters
from buildtool.errors import BuildtoolError, Forbidden, InvalidInput, NotFound
from buildtool.networks import Networks
from buildtool.networks.network import Network
from buildtool.networks.predefined import DRIVERS, predefined_id

Json = dict[str, Any]
Documents = list[tuple[Json, bool]]
_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_PRUNE_FILTERS = frozenset({"label", "label!", "until"})
_SHARED = ("host", "none")


class NetworkViews:
    """Reads networks; `prune` and `remove` change them."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._started = time.time_ns()

    async def list(self, filters: Any = None) -> list[Json]:
        """GET /networks. Raises InvalidInput."""
        wanted = Filters.parse(filters, _FILTERS)
        dangling = wanted.boolean("dangling")
        for kind in wanted.get("type"):
            if kind not in ("builtin", "custom"):
                raise InvalidInput(f"invalid filter: 'type'='{kind}'")
        found = []
        for document, used in [*await self._bridges(), *self._shared_documents()]:
            builtin = document["Name"] in DRIVERS
            if (
                wanted.match("name", document["Name"])
                and wanted.match("id", document["Id"])
                and wanted.exact("driver", document["Driver"])
                and wanted.exact("scope", document["Scope"])
                and wanted.exact("type", "builtin" if builtin else "custom")
                and wanted.labels(document["Labels"])
                and (dangling is None or dangling == (not builtin and not used))
            ):
                found.append({**document, "Containers": {}})
        return found

    async def inspect(self, reference: str, *, scope: str = "") -> Json:
        """GET /networks/{id}. Raises NotFound."""
        if scope not in ("", "local"):
            raise NotFound(f"network {reference} not found")
        shared = _shared_name(reference)
        if shared:
            return self._shared(shared)
        return await self._document(self._find(reference))

    async def remove(self, reference: str) -> None:
        """DELETE /networks/{id}. Raises NotFound, Forbidden."""
        shared = _shared_name(reference)
        if shared:
            raise Forbidden(f"{shared} is a pre-defined network and cannot be removed")
        await self._networks.remove(reference)

    async def prune(self, filters: Any = None) -> Json:
        """POST /networks/prune: remove the networks that nothing is connected to."""
        wanted = Filters.parse(filters, _PRUNE_FILTERS)
        limits = [times.parse_moment(text) for text in wanted.get("until")]
        removed = []
        for network in self._networks:
            record = network.record
            if record.default or record.config_only or network.members or not wanted.labels(record.labels):
                continue
            if "label!" in wanted and wanted.labels(record.labels, "label!"):
                continue
            if all(record.created <= limit for limit in limits):
                try:
                    await self._networks.remove(network.id)
                except BuildtoolError:  # somebody joined or removed it meanwhile
                    continue
                removed.append(network.name)
        self._networks.publish("prune", "", {"reclaimed": "0"})
        return {"NetworksDeleted": removed or None}

    def _find(self, reference: str) -> Network:
        network = self._networks.get(reference)
        if network.record.default and self._networks.refusal:
            raise NotFound(f"network {reference} not found")
        return network

    async def _bridges(self) -> Documents:
        shown = [one for one in self._networks if not (one.record.default and self._networks.refusal)]
        return [(await self._document(network), bool(network.members)) for network in shown]

    def _shared_documents(self) -> Documents:
        return [(self._shared(name), False) for name in _SHARED]

    async def _document(self, network: Network) -> Json:
        record = network.record
        containers = {
            box.container: {
                "Name": box.name,
                "EndpointID": end.id,
                "MacAddress": end.mac,
                "IPv4Address": f"{end.address}/{end.prefix}" if end.address else "",
                "IPv6Address": f"{end.address6}/{end.prefix6}" if end.address6 else "",
            }
            for box, end in network.members.values()
        }
        config = []
        for one in await self._networks.subnets(network):
            entry: Json = {"Subnet": one.subnet}
            if one.ip_range:
                entry["IPRange"] = one.ip_range
            if one.gateway:
                entry["Gateway"] = one.gateway
            if one.aux:
                entry["AuxiliaryAddresses"] = one.aux
            config.append(entry)
        return {
            "Name": record.name,
            "Id": record.id,
            "Created": times.rfc3339nano(record.created or self._started),
            "Scope": "local",
            "Driver": record.driver,
            "EnableIPv4": record.ipv4,
            "EnableIPv6": record.ipv6,
            "IPAM": {"Driver": "default", "Options": record.ipam_options, "Config": config},
            "Internal": record.internal,
            "Attachable": record.attachable,
            "Ingress": False,
            "ConfigFrom": {"Network": record.config_from},
            "ConfigOnly": record.config_only,
            "Containers": containers,
            "Options": record.options,
            "Labels": record.labels,
        }

    def _shared(self, name: str) -> Json:
        return {
            "Name": name,
            "Id": predefined_id(name),
            "Created": times.rfc3339nano(self._started),
            "Scope": "local",
            "Driver": DRIVERS[name],
            "EnableIPv4": True,
            "EnableIPv6": False,
            "IPAM": {"Driver": "default", "Options": None, "Config": None},
            "Internal": False,
            "Attachable": False,
            "Ingress": False,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": {},
            "Options": {},
            "Labels": {},
        }


def _shared_name(reference: str) -> str:
    """`host` or `none` when they are meant, by name or id."""
    for name in _SHARED:
        if reference == name or (len(reference) >= 4 and predefined_id(name).startswith(reference)):
            return name
    return ""
