"""Bridge networks: addresses, links, packet filter rules, published ports, names."""

from __future__ import annotations

from buildtool.networks.model import Endpoint, EndpointRequest, PortMapping, PortRequest, Sandbox
from buildtool.networks.service import Networks

__all__ = ["Endpoint", "EndpointRequest", "Networks", "PortMapping", "PortRequest", "Sandbox"]
