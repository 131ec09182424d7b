"""Which daemon a command talks to, and where that daemon keeps its things.

`-H`, then BUILDTOOL_HOST, BUILDTOOL_ROOT, DOCKER_HOST, and a docker context (DOCKER_CONTEXT, or the current one of
~/.docker/config.json) name a daemon; without any of them it is buildtool's own, which the client may start.
"""

from __future__ import annotations

import os

from buildtool.errors import InvalidInput
from buildtool.places import SOCKET_NAME, default_socket


class Tls:
    """Files of the authority, the client's certificate and its key ("" = none); whether to verify the daemon's."""

    __slots__ = ("ca", "certificate", "key", "verify")

    def __init__(self, ca: str, certificate: str, key: str, verify: bool) -> None:
        self.ca = ca
        self.certificate = certificate
        self.key = key
        self.verify = verify


class Address:
    """One daemon: a unix socket (`path`), a TCP end point (`host`, `port`), or whatever `ssh` leads to.

    `foreign` is true when the address names a daemon that is not ours to start: any TCP or ssh address, and whatever
    DOCKER_HOST or a context named.
    `root` is the data root a daemon started for this address gets, "" for its own default. `tls` is None for plain
    TCP. `ssh` is the words that `ssh` is called with before the command; `remote` the socket over there, "" for the
    usual one.
    """

    __slots__ = ("foreign", "host", "path", "port", "remote", "root", "source", "ssh", "tls")

    def __init__(
        self,
        *,
        path: str = "",
        host: str = "",
        port: int = 0,
        foreign: bool,
        root: str = "",
        source: str = "",
        tls: Tls | None = None,
        ssh: tuple[str, ...] = (),
        remote: str = "",
    ) -> None:
        self.path = path
        self.host = host
        self.port = port
        self.foreign = foreign
        self.root = root
        self.source = source
        self.tls = tls
        self.ssh = ssh
        self.remote = remote

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        if self.ssh:
            return f"ssh://{self.host}{self.remote}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


def parse_host(text: str, *, foreign: bool, root: str = "", source: str = "") -> Address:
    """`unix:///path`, `tcp://host[:port]`, `http://host[:port]` or `ssh://[user@]host[:port][/path]`.

    A bare absolute path means a unix socket. Raises InvalidInput for anything else, naming where the text came from.
    """
    scheme, separator, rest = text.partition("://")
    origin = f" (from {source})" if source else ""
    if not separator:
        if text.startswith("/"):
            return Address(path=text, foreign=foreign, root=root, source=source)
        raise InvalidInput(
            f"unable to parse docker host {text!r}{origin}",
            hint="Write unix:///path/to/socket, tcp://host:port or ssh://user@host.",
        )
    if scheme == "unix":
        if not rest.startswith("/"):
            raise InvalidInput(f"invalid unix socket address {text!r}{origin}: the path must be absolute")
        return Address(path=rest, foreign=foreign, root=root, source=source)
    if scheme in ("tcp", "http"):
        return _parse_tcp(text, rest.partition("/")[0], origin, root, source)
    if scheme == "ssh":
        return _parse_ssh(text, rest, origin, source)
    raise InvalidInput(
        f"unsupported protocol in daemon address {text!r}{origin}",
        hint="This client speaks unix://, tcp:// (with TLS or without) and ssh://.",
    )


def _parse_ssh(text: str, rest: str, origin: str, source: str) -> Address:
    authority, slash, path = rest.partition("/")
    user, at, place = authority.rpartition("@")
    if ":" in user:
        raise InvalidInput(
            f"invalid ssh address {text!r}{origin}: it holds a password", hint="Use ssh keys, or an ssh agent."
        )
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = place.partition(":")
    if not host or host.startswith("-") or user.startswith("-") or (at and not user):
        raise InvalidInput(f"invalid ssh address {text!r}{origin}", hint="Write ssh://user@host:port.")
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidInput(f"invalid port in daemon address {text!r}{origin}")
    words = [*(("-l", user) if user else ()), *(("-p", port) if port else ()), "--", host]
    remote = f"/{path}" if slash and path else ""
    return Address(host=authority, foreign=True, source=source, ssh=tuple(words), remote=remote)


def _parse_tcp(text: str, authority: str, origin: str, root: str, source: str) -> Address:
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = authority.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidInput(f"invalid port in daemon address {text!r}{origin}")
    tls = tls_settings()
    number = int(port) if port else 2376 if tls else 2375
    return Address(host=host or "127.0.0.1", port=number, foreign=True, root=root, source=source, tls=tls)


def tls_settings() -> Tls | None:
    """What the environment says of TLS: Docker's variables, and those that the global flags set."""
    get = os.environ.get
    verify = bool(get("DOCKER_TLS_VERIFY"))
    if not verify and not get("DOCKER_TLS"):
        return None
    folder = get("DOCKER_CERT_PATH") or get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    files = []
    for variable, name in (("CACERT", "ca.pem"), ("CERT", "cert.pem"), ("KEY", "key.pem")):
        given = get(f"BUILDTOOL_TLS_{variable}", "")
        usual = os.path.join(folder, name)
        files.append(given or (usual if os.path.exists(usual) else ""))
    return Tls(files[0], files[1], files[2], verify)


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
    context = current_context()
    if context:
        from buildtool.client.contexts import address_of

        return address_of(context)
    return Address(path=default_socket(), foreign=False)


def current_context() -> str:
    """The docker context that is chosen, "" for the default one. Raises InvalidInput for a malformed config.json."""
    name = os.environ.get("DOCKER_CONTEXT")
    if name is None:
        folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
        try:
            with open(f"{folder}/config.json", encoding="utf-8") as file:
                text = file.read()
        except OSError:
            return ""
        if '"currentContext"' not in text:  # it is seldom there, and reading JSON costs a hot command
            return ""
        from buildtool.client.quickjson import loads

        try:
            name = str(loads(text).get("currentContext") or "")
        except (ValueError, AttributeError):
            raise InvalidInput(f"{folder}/config.json: not a JSON object") from None
    return "" if name == "default" else name
