"""Where things are when nothing else is named: this user's data root, configuration, and the daemon's socket.

Client and daemon must agree on them, also when the daemon has re-executed itself inside a user namespace (there it is
uid 0; BUILDTOOL_ROOTLESS_UID tells who it was). Paths are strings: the client does without pathlib.
"""

from __future__ import annotations

import os

SOCKET_NAME = "buildtool.sock"


def default_root() -> str:
    """`/var/lib/buildtool` for root, else `~/.local/share/buildtool` (XDG_DATA_HOME)."""
    if _is_root():
        return "/var/lib/buildtool"
    return os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "buildtool")


def default_socket() -> str:
    """`/run/buildtool/buildtool.sock` for root, else `$XDG_RUNTIME_DIR/buildtool/buildtool.sock`.

    A plain user without a runtime directory (no login session: containers, CI runners, su) gets `<data root>/run/`.
    """
    if _is_root():
        return f"/run/buildtool/{SOCKET_NAME}"
    uid = os.environ.get("BUILDTOOL_ROOTLESS_UID", str(os.getuid()))
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    if os.path.isdir(runtime_dir):
        return f"{runtime_dir}/buildtool/{SOCKET_NAME}"
    return f"{default_root()}/run/{SOCKET_NAME}"


def config_folder() -> str:
    """`/etc/buildtool` for root, else `~/.config/buildtool` (XDG_CONFIG_HOME); BUILDTOOL_CONFIG_DIR names another."""
    named = os.environ.get("BUILDTOOL_CONFIG_DIR", "")
    if named:
        return named
    if _is_root():
        return "/etc/buildtool"
    return os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "buildtool")


def _is_root() -> bool:
    return os.geteuid() == 0 and "BUILDTOOL_ROOTLESS_UID" not in os.environ
