"""The daemon's flags and environment, as one value."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildtool.daemon.build_policy import ENTITLEMENTS, check_names
from buildtool.daemon.listen import Access, Address, parse_address
from buildtool.errors import InvalidInput
from buildtool.places import SOCKET_NAME, default_root, default_socket


@dataclass(frozen=True, slots=True)
class Options:
    """What a daemon is started with. `idle_timeout` in seconds, 0 for never."""

    addresses: tuple[Address, ...]
    root: Path
    run_dir: Path
    idle_timeout: float
    log_level: str
    entitlements: tuple[str, ...] = ENTITLEMENTS
    access: Access = field(default_factory=Access)
    certificates: tuple[str, str, str] = ("", "", "")
    """Files of the authority, this daemon's certificate and its key."""


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line. Ends the process with usage and code 2 for wrong flags; InvalidInput for wrong
    addresses."""
    parser = argparse.ArgumentParser(
        prog="buildtool daemon",
        description="Serve the Docker Engine API in the foreground. SIGTERM and SIGINT stop it, not the containers.",
    )
    parser.add_argument(
        "-H",
        "--host",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="where to listen: unix:///path or tcp://ADDRESS:PORT; may be repeated "
        "(default: BUILDTOOL_HOST, else the user's own socket)",
    )
    parser.add_argument(
        "--root", default="", metavar="DIR", help="data root (default: BUILDTOOL_ROOT, else per user)"
    )
    parser.add_argument(
        "--idle-timeout",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="stop after so long without requests and running containers (default: never)",
    )
    parser.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warn", "error"), help="default: info"
    )
    parser.add_argument(
        "--entitlement",
        action="append",
        default=[],
        metavar="NAME",
        help="what builds may be granted: network.host, security.insecure, device, device=NAME, or none; may be "
        "repeated (default: BUILDTOOL_ENTITLEMENTS, separated by commas, else all of them)",
    )
    _add_access(parser)
    given = parser.parse_args(arguments)
    entitlements = _entitlements(given.entitlement)
    named_root = given.root or os.environ.get("BUILDTOOL_ROOT", "")
    root = Path(named_root).absolute() if named_root else Path(default_root())
    addresses = tuple(parse_address(text) for text in given.host or _hosts_from_environment(named_root))
    return Options(
        addresses,
        root,
        _run_dir(addresses, root, bool(named_root)),
        given.idle_timeout,
        given.log_level,
        entitlements,
        _access(given),
        (given.tlscacert, given.tlscert, given.tlskey),
    )


def _add_access(parser: argparse.ArgumentParser) -> None:
    named = os.environ.get("DOCKER_CERT_PATH", "")
    folder = Path(named) if named else Path("~/.docker").expanduser()
    parser.add_argument("-G", "--group", default="", help="group of the unix socket (default: docker, where it is)")
    parser.add_argument(
        "--socket-mode", default="660", metavar="OCTAL", help="mode of the unix socket (default: 660)"
    )
    parser.add_argument(
        "--tlsverify",
        action="store_true",
        help="encrypt TCP connections; clients must show a certificate that the authority has signed",
    )
    for flag, what, name in (
        ("--tlscacert", "the authority's certificate", "ca"),
        ("--tlscert", "this daemon's certificate", "cert"),
        ("--tlskey", "this daemon's key", "key"),
    ):
        default = str(folder / f"{name}.pem")
        parser.add_argument(flag, default=default, metavar="FILE", help=f"{what} (default: {default})")
    parser.add_argument(
        "--plain-tcp",
        action="store_true",
        help="serve TCP on loopback addresses without TLS: every user of this machine may connect",
    )


def _access(given: argparse.Namespace) -> Access:
    try:
        mode = int(given.socket_mode, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise InvalidInput(f"invalid --socket-mode {given.socket_mode!r}: it is octal, such as 660")
    return Access(given.group, mode, given.tlsverify, given.plain_tcp)


def _entitlements(given: Sequence[str]) -> tuple[str, ...]:
    names = given or [
        name.strip() for name in os.environ.get("BUILDTOOL_ENTITLEMENTS", "").split(",") if name.strip()
    ]
    if not names:
        return ENTITLEMENTS
    names = [name for name in names if name != "none"]
    check_names(names)
    return tuple(names)


def _hosts_from_environment(named_root: str) -> list[str]:
    host = os.environ.get("BUILDTOOL_HOST", "")
    if host:
        return [host]
    if named_root:
        return [str(Path(named_root).absolute() / "run" / SOCKET_NAME)]
    return [default_socket()]


def _run_dir(addresses: Sequence[Address], root: Path, root_named: bool) -> Path:
    """Beside the default socket; `<root>/run` with another data root or without any unix socket."""
    default = default_socket()
    paths = [address.path for address in addresses if address.path]
    if default in paths:
        return Path(default).parent
    if root_named or not paths:
        return root / "run"
    return Path(paths[0]).parent
