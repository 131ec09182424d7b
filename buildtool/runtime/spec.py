"""From options to an OCI runtime spec, with Docker's default posture. Pure.

Source: OCI runtime-spec v1.2; the defaults are Docker's (reference, "Default posture of a container").
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from buildtool.errors import InvalidInput
from buildtool.runtime import capabilities as caps
from buildtool.runtime.cgroup_limits import NO_DEVICES
from buildtool.runtime.users import ResolvedUser

Mount = dict[str, Any]

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
_CPU_PATHS = tuple(f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(os.cpu_count() or 1))
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ALL = tuple(caps.NUMBERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecOptions:
    """Everything that shapes one container.

    `network` is "none", "host" or the path of a network namespace; `pid`, `ipc` and `uts` are "" (a new one), "host",
    or the path of a namespace; `cgroup` is "host" or "private". `mounts` are OCI mounts, put after the default ones
    and replacing those of the same destination. `ulimits` are OCI rlimits, `devices` OCI `linux.devices` with an
    additional "access" ("rwm") for the allow-list. `masked_paths` and `readonly_paths`: None = Docker's. `seccomp` is
    "default", "unconfined" or a profile in Docker's JSON format.
    """

    id: str
    args: Sequence[str]
    env: Sequence[str] = ()
    cwd: str = "/"
    user: ResolvedUser = field(default_factory=ResolvedUser)
    hostname: str = ""
    domainname: str = ""
    network: str = "none"
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    cgroup: str = "host"
    mounts: Sequence[Mount] = ()
    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    privileged: bool = False
    readonly_rootfs: bool = False
    seccomp: str | dict[str, Any] = "default"
    no_new_privileges: bool = False
    resources: dict[str, Any] = field(default_factory=dict)
    shm_size: int = 64 * 1024 * 1024
    ulimits: Sequence[dict[str, Any]] = ()
    sysctls: dict[str, str] = field(default_factory=dict)
    devices: Sequence[dict[str, Any]] = ()
    masked_paths: Sequence[str] | None = None
    readonly_paths: Sequence[str] | None = None
    tty: bool = False
    console_size: tuple[int, int] | None = None
    oom_score_adj: int | None = None
    cgroup_parent: str = "/buildtool"
    rootless: bool = False
    umask: int = 0o022


def container_spec(o: SpecOptions) -> dict[str, Any]:
    """The OCI runtime spec of a container. Raises InvalidInput for unknown capabilities or a faulty profile."""
    capabilities = capability_set(o.cap_add, o.cap_drop, privileged=o.privileged)
    return {
        "ociVersion": "1.2.0",
        "process": _process(o, capabilities),
        "root": {"path": "rootfs", "readonly": o.readonly_rootfs},
        "hostname": o.hostname,
        "domainname": o.domainname,
        "mounts": _mounts(o),
        "linux": _linux(o, capabilities),
    }


def process_spec(
    *,
    args: Sequence[str],
    env: Sequence[str],
    cwd: str,
    user: ResolvedUser,
    capabilities: Sequence[str],
    no_new_privileges: bool = False,
    ulimits: Sequence[dict[str, Any]] = (),
    console_size: tuple[int, int] | None = None,
    oom_score_adj: int | None = None,
    umask: int = 0o022,
) -> dict[str, Any]:
    """An OCI `process`, for a container or for Task.exec. HOME is added from the user when `env` has none."""
    environment = list(env)
    if not any(entry.startswith("HOME=") for entry in environment):
        environment.append(f"HOME={user.home}")
    granted = list(capabilities)
    process: dict[str, Any] = {
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids), "umask": umask},
        "args": list(args),
        "env": environment,
        "cwd": cwd or "/",
        "capabilities": {"bounding": granted, "effective": granted, "permitted": granted},
        "noNewPrivileges": no_new_privileges,
        "rlimits": list(ulimits),
    }
    if console_size is not None:
        process["consoleSize"] = {"height": console_size[0], "width": console_size[1]}
    if oom_score_adj is not None:
        process["oomScoreAdj"] = oom_score_adj
    return process


def capability_set(add: Sequence[str], drop: Sequence[str], *, privileged: bool = False) -> list[str]:
    """Docker's --cap-add and --cap-drop on the default set; names with or without CAP_, in any case, or ALL."""
    adds, drops = [_capability(name, "CapAdd") for name in add], [_capability(name, "CapDrop") for name in drop]
    if privileged:
        return list(_ALL)
    if "ALL" in adds:
        return [name for name in _ALL if name not in drops]
    base = [] if "ALL" in drops else [name for name in caps.DEFAULT if name not in drops]
    return base + [name for name in dict.fromkeys(adds) if name not in base]


def _capability(name: str, option: str) -> str:
    upper = name.upper()
    if upper == "ALL":
        return upper
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in caps.NUMBERS:
        raise InvalidInput(f'invalid {option}: unknown capability: "{full}"')
    return full


def _process(o: SpecOptions, capabilities: list[str]) -> dict[str, Any]:
    process = process_spec(
        args=o.args,
        env=o.env,
        cwd=o.cwd,
        user=o.user,
        capabilities=capabilities,
        no_new_privileges=o.no_new_privileges,
        ulimits=o.ulimits,
        console_size=o.console_size,
        oom_score_adj=o.oom_score_adj,
        umask=o.umask,
    )
    process["terminal"] = o.tty
    return process


def _linux(o: SpecOptions, capabilities: list[str]) -> dict[str, Any]:
    linux: dict[str, Any] = {
        "namespaces": _namespaces(o),
        "cgroupsPath": _clean(f"{o.cgroup_parent}/{o.id}"),
        "resources": {**o.resources, "devices": _device_rules(o)},
        "devices": [{key: value for key, value in device.items() if key != "access"} for device in o.devices],
        "maskedPaths": _paths(o, o.masked_paths, MASKED_PATHS + _CPU_PATHS),
        "readonlyPaths": _paths(o, o.readonly_paths, READONLY_PATHS),
    }
    if o.sysctls:
        linux["sysctl"] = dict(o.sysctls)
    if not o.privileged and o.seccomp != "unconfined":
        from buildtool.runtime.seccomp import default_filter, profile_filter

        if isinstance(o.seccomp, dict):
            linux["seccomp"] = profile_filter(o.seccomp, capabilities)
        elif o.seccomp in ("default", "builtin", ""):
            linux["seccomp"] = default_filter(capabilities)
        else:
            raise InvalidInput(
                f"invalid seccomp profile {o.seccomp!r}", hint='use "default", "unconfined" or a JSON profile'
            )
    return linux


def _paths(o: SpecOptions, chosen: Sequence[str] | None, default: Sequence[str]) -> list[str]:
    if chosen is not None:
        return list(chosen)
    return [] if o.privileged else list(default)


def _namespaces(o: SpecOptions) -> list[dict[str, str]]:
    spaces = [{"type": "mount"}]
    for kind, mode in (("uts", o.uts), ("ipc", o.ipc), ("pid", o.pid)):
        if mode != "host":
            spaces.append({"type": kind, "path": mode} if mode.startswith("/") else {"type": kind})
    if o.network != "host":
        spaces.append({"type": "network", "path": o.network} if o.network.startswith("/") else {"type": "network"})
    if o.cgroup == "private":
        spaces.append({"type": "cgroup"})
    return spaces


def _device_rules(o: SpecOptions) -> list[dict[str, Any]]:
    if o.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [NO_DEVICES]
    for device in o.devices:
        rules.append(
            {
                "allow": True,
                "type": "b" if device["type"] == "b" else "c",
                "major": device.get("major", 0),
                "minor": device.get("minor", 0),
                "access": device.get("access") or "rwm",
            }
        )
    return rules + list(o.resources.get("devices") or [])


def _mounts(o: SpecOptions) -> list[Mount]:
    own = {_clean(mount["destination"]) for mount in o.mounts}
    defaults = [
        mount
        for mount in _default_mounts(o)
        if mount["destination"] not in own and not ("/dev" in own and mount["destination"].startswith("/dev/"))
    ]
    chosen = [{**mount, "destination": _clean(mount["destination"])} for mount in o.mounts]
    return defaults + sorted(
        chosen, key=lambda mount: mount["destination"].count("/") if mount["destination"] != "/" else 0
    )


def _default_mounts(o: SpecOptions) -> list[Mount]:
    access = ["rw"] if o.privileged else ["ro"]
    guarded = ["nosuid", "noexec", "nodev"]
    mounts: list[Mount] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": guarded},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*guarded, *access]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*guarded, *access]},
    ]
    mounts.append({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": guarded})
    if o.ipc == "host":
        mounts.append(
            {"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", *guarded]}
        )
    else:
        shm = [*guarded, "mode=1777", f"size={o.shm_size}"]
        mounts.append({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": shm})
    return mounts


def _clean(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
