"""The daemon's flags and environment, as one value."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildtool.daemon.build_policy import ENTITLEMENTS, check_names
from buildtool.daemon.listen import Address, parse_address
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
        help="where to listen: unix:///path or tcp://127.0.0.1:PORT; may be repeated "
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
    )


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
