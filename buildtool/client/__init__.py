"""The Engine API as a caller sees it: a small synchronous client on raw sockets."""

from buildtool.client.address import Address, resolve_address
from buildtool.client.engine import Client, EngineError, quote_path
from buildtool.client.http import ConnectionLost, Response
from buildtool.client.streams import Demultiplexer, RawStream

__all__ = [
    "Address",
    "Client",
    "ConnectionLost",
    "Demultiplexer",
    "EngineError",
    "RawStream",
    "Response",
    "quote_path",
    "resolve_address",
]
