"""One container: OCI runtime bundle to processes (spawner, shim, namespaces, cgroups).

The names below are loaded on first use: the spawner and its shims import single modules of this package and must stay
small.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildtool.runtime.bundle import Bundle, ExitStatus, LogConfig, Rootfs
    from buildtool.runtime.client import Runtime
    from buildtool.runtime.spec import SpecOptions, container_spec
    from buildtool.runtime.stats import Stats
    from buildtool.runtime.task import Attachment, ExecTask, Task
    from buildtool.runtime.users import ResolvedUser, resolve_user

_HOMES = {
    "Attachment": "task",
    "Bundle": "bundle",
    "ExecTask": "task",
    "ExitStatus": "bundle",
    "LogConfig": "bundle",
    "ResolvedUser": "users",
    "Rootfs": "bundle",
    "Runtime": "client",
    "SpecOptions": "spec",
    "Stats": "stats",
    "Task": "task",
    "container_spec": "spec",
    "resolve_user": "users",
}

__all__ = [
    "Attachment",
    "Bundle",
    "ExecTask",
    "ExitStatus",
    "LogConfig",
    "ResolvedUser",
    "Rootfs",
    "Runtime",
    "SpecOptions",
    "Stats",
    "Task",
    "container_spec",
    "resolve_user",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
