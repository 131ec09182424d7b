"""Which program runs a container: the embedded runtime, or another OCI runtime by its name or path."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from buildtool.errors import InvalidInput

EMBEDDED = "buildtool"
# Names that other engines have for their default: they mean ours where no such program is.
_DEFAULTS = ("", EMBEDDED, "io.containerd.runc.v2")
_KNOWN = ("runc", "crun", "youki", "runsc", "kata-runtime")


def program(name: str) -> str:
    """The path of the runtime program, "" for the embedded one. Raises InvalidInput for what cannot be executed."""
    if name in _DEFAULTS:
        return ""
    if "/" in name:
        if name.startswith("/") and Path(name).is_file() and os.access(name, os.X_OK):
            return name
        raise InvalidInput(f"unknown or invalid runtime name: {name}: there is no program of that absolute path")
    found = shutil.which(name)
    if found is not None:
        return found
    if name == "runc":
        return ""
    raise InvalidInput(f"unknown or invalid runtime name: {name}")


def known() -> dict[str, dict[str, str]]:
    """`Runtimes` of GET /info: the embedded one, and those found on this machine."""
    found = {name: path for name in _KNOWN if (path := shutil.which(name))}
    return {EMBEDDED: {"path": EMBEDDED}, **{name: {"path": path} for name, path in found.items()}}
