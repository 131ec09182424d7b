"""Which daemon a command talks to, and where that daemon keeps its things.

`-H`, then BUILDTOOL_HOST, then DOCKER_HOST name a daemon; without any of them it is buildtool's own, which the client
may start.
"""

from __future__ import annotations

import os

from buildtool.errors import InvalidInput
from buildtool.places import SOCKET_NAME, default_socket


class Address:
    """One daemon: a unix socket (`path`) or a TCP end point (`host`, `port`).

    `foreign` is true when the address names a daemon that is not ours to start: any TCP address, and whatever
    DOCKER_HOST named.
    `root` is the data root a daemon started for this address gets, "" for its own default.
    """

    __slots__ = ("foreign", "host", "path", "port", "root", "source")

    def __init__(
        self, *, path: str = "", host: str = "", port: int = 0, foreign: bool, root: str = "", source: str = ""
    ) -> None:
        self.path = path
        self.host = host
        self.port = port
        self.foreign = foreign
        self.root = root
        self.source = source

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


def parse_host(text: str, *, foreign: bool, root: str = "", source: str = "") -> Address:
    """`unix:///path`, `tcp://host[:port]` or `http://host[:port]`; a bare absolute path means a unix socket.

    Raises InvalidInput for anything else, naming where the text came from.
    """
    scheme, separator, rest = text.partition("://")
    origin = f" (from {source})" if source else ""
    if not separator:
        if text.startswith("/"):
            return Address(path=text, foreign=foreign, root=root, source=source)
        raise InvalidInput(
            f"unable to parse docker host {text!r}{origin}", hint="Write unix:///path/to/socket or tcp://host:port."
        )
    if scheme == "unix":
        if not rest.startswith("/"):
            raise InvalidInput(f"invalid unix socket address {text!r}{origin}: the path must be absolute")
        return Address(path=rest, foreign=foreign, root=root, source=source)
    if scheme in ("tcp", "http"):
        return _parse_tcp(text, rest.partition("/")[0], origin, root, source)
    raise InvalidInput(
        f"unsupported protocol in daemon address {text!r}{origin}",
        hint="This client speaks unix:// and tcp://; for ssh, forward the socket: ssh -L /tmp/d.sock:/run/… HOST.",
    )


def _parse_tcp(text: str, authority: str, origin: str, root: str, source: str) -> Address:
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = authority.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidInput(f"invalid port in daemon address {text!r}{origin}")
    return Address(host=host or "127.0.0.1", port=int(port) if port else 2375, foreign=True, root=root, source=source)


def resolve_address(host: str = "", root: str = "") -> Address:
    """The daemon for this call; `host` and `root` are the global flags, empty when they were not given."""
    root = root or os.environ.get("BUILDTOOL_ROOT", "")
    if root:
        root = os.path.abspath(root)
    if host:
        return parse_host(host, foreign=False, root=root, source="-H")
    own = os.environ.get("BUILDTOOL_HOST", "")
    if own:
        return parse_host(own, foreign=False, root=root, source="BUILDTOOL_HOST")
    if root:
        return Address(path=f"{root}/run/{SOCKET_NAME}", foreign=False, root=root, source="BUILDTOOL_ROOT")
    docker = os.environ.get("DOCKER_HOST", "")
    if docker:
        return parse_host(docker, foreign=True, source="DOCKER_HOST")
    return Address(path=default_socket(), foreign=False)
