"""Container records as the Engine API's documents: inspect and the lines of the list. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from buildtool.containers import ports, times
from buildtool.containers.body import security
from buildtool.containers.model import Health, MountPoint, Record, State
from buildtool.networks import Endpoint
from buildtool.networks.predefined import predefined_id
from buildtool.runtime.apparmor import KERNEL, named

Json = dict[str, Any]

_OPTIONAL_CONFIG = (
    "ExposedPorts",
    "Healthcheck",
    "ArgsEscaped",
    "NetworkDisabled",
    "MacAddress",
    "StopSignal",
    "Shell",
)
_OPTIONAL_HOST = ("Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Mounts")
MASKED_PATHS = [
    *(f"/proc/{name}" for name in ("asound", "acpi", "interrupts", "kcore", "keys", "latency_stats", "timer_list")),
    *("/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"),
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def _confinement(record: Record) -> str:
    """As it was asked for, also where there is no AppArmor; where there is, what a container gets otherwise."""
    asked = security(record.host.security_opt).apparmor
    return named(asked, privileged=record.host.privileged) if KERNEL.supported() else asked


def inspect(record: Record, directory: Path, exec_ids: Sequence[str], lower: Sequence[Path]) -> Json:
    """The answer to GET /containers/{id}/json: `directory` is the bundle's, `lower` are the layers, bottom first."""
    started = record.state.started_at > 0 or bool(record.state.error)
    logged = record.host.log_config.type == "json-file"
    return {
        "Id": record.id,
        "Created": times.rfc3339nano(record.created),
        "Path": record.path,
        "Args": record.args,
        "State": state(record.state),
        "Image": record.image_id,
        "ResolvConfPath": str(directory / "resolv.conf") if started else "",
        "HostnamePath": str(directory / "hostname") if started else "",
        "HostsPath": str(directory / "hosts") if started else "",
        "LogPath": str(directory / f"{record.id}-json.log") if logged and started else "",
        "Name": "/" + record.name,
        "RestartCount": record.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": _confinement(record),
        "ExecIDs": list(exec_ids) or None,
        "HostConfig": host_config(record),
        "GraphDriver": {
            "Data": {
                "ID": record.id,
                "LowerDir": ":".join(str(path) for path in reversed(lower)),
                "MergedDir": str(directory / "rootfs"),
                "UpperDir": str(directory / "upper"),
                "WorkDir": str(directory / "work"),
            },
            "Name": "overlay2",
        },
        "Mounts": [mount_point(point) for point in record.mounts if point.type != "tmpfs" or _asked(record, point)],
        "Config": config(record),
        "NetworkSettings": network_settings(record),
    }


def state(value: State) -> Json:
    """`State` of inspect."""
    document: Json = {
        "Status": value.status,
        "Running": value.running,
        "Paused": value.paused,
        "Restarting": value.restarting,
        "OOMKilled": value.oom_killed,
        "Dead": value.dead,
        "Pid": value.pid,
        "ExitCode": value.exit_code,
        "Error": value.error,
        "StartedAt": times.rfc3339nano(value.started_at),
        "FinishedAt": times.rfc3339nano(value.finished_at),
    }
    if value.health is not None:
        document["Health"] = health(value.health)
    return document


def health(value: Health) -> Json:
    """`State.Health` of inspect."""
    return {
        "Status": value.status,
        "FailingStreak": value.failing_streak,
        "Log": [
            {
                "Start": times.rfc3339nano(result.start),
                "End": times.rfc3339nano(result.end),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in value.log
        ],
    }


def config(record: Record) -> Json:
    """`Config` of inspect: members that Docker omits when empty are omitted."""
    document: Json = msgspec.to_builtins(record.config)
    for key in _OPTIONAL_CONFIG:
        if not document[key]:
            del document[key]
    if document["StopTimeout"] is None:
        del document["StopTimeout"]
    return document


def host_config(record: Record) -> Json:
    """`HostConfig` of inspect."""
    document: Json = msgspec.to_builtins(record.host)
    for key in _OPTIONAL_HOST:
        if not document[key]:
            del document[key]
    if document["Init"] is None:
        del document["Init"]
    unmasked = record.host.privileged or "systempaths=unconfined" in (record.host.security_opt or ())
    if document["MaskedPaths"] is None and not unmasked:
        document["MaskedPaths"] = list(MASKED_PATHS)
    if document["ReadonlyPaths"] is None and not unmasked:
        document["ReadonlyPaths"] = list(READONLY_PATHS)
    return document


def mount_point(point: MountPoint) -> Json:
    """One entry of `Mounts`."""
    document: Json = {"Type": point.type}
    if point.name:
        document["Name"] = point.name
    document |= {"Source": point.source, "Destination": point.destination}
    if point.driver:
        document["Driver"] = point.driver
    shown = point.mode if point.type != "tmpfs" else ""
    return document | {"Mode": shown, "RW": point.rw, "Propagation": point.propagation}


def _asked(record: Record, point: MountPoint) -> bool:
    """Docker lists a tmpfs among the mounts when `--mount` made it, not when `--tmpfs` did."""
    return point.destination not in (record.host.tmpfs or {})


def network_settings(record: Record) -> Json:
    """`NetworkSettings` of inspect; the fields of old clients are those of the default bridge."""
    running = record.state.running and not record.state.restarting
    own = record.sandbox if running else None
    sandbox = ""
    if running:
        sandbox = own.id if own else hashlib.sha256(f"{record.id} {record.state.started_at}".encode()).hexdigest()
    key = "default" if record.host.network_mode == "host" else sandbox[:12]
    attached = networks(record)
    legacy = attached.get("bridge", {})
    return {
        "Bridge": "",
        "SandboxID": sandbox,
        "SandboxKey": f"/var/run/docker/netns/{key}" if running else "",
        "Ports": published(record),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{name: legacy.get(name, "") for name in ("EndpointID", "Gateway", "GlobalIPv6Address")},
        "GlobalIPv6PrefixLen": legacy.get("GlobalIPv6PrefixLen", 0),
        "IPAddress": legacy.get("IPAddress", ""),
        "IPPrefixLen": legacy.get("IPPrefixLen", 0),
        "IPv6Gateway": legacy.get("IPv6Gateway", ""),
        "MacAddress": legacy.get("MacAddress", ""),
        "Networks": attached,
    }


def published(record: Record) -> Json:
    """`NetworkSettings.Ports`: where the exposed and published ports of a running container are found on the host."""
    if record.sandbox is None or not record.state.running or record.state.restarting:
        return {}
    found: Json = {f"{n}/{kind}": None for key in record.config.exposed_ports or () for n, kind in ports.numbers(key)}
    for port in record.sandbox.ports:
        key = f"{port.container_port}/{port.protocol}"
        found[key] = [*(found.get(key) or ()), {"HostIp": port.host_ip, "HostPort": str(port.host_port or "")}]
    return dict(sorted(found.items(), key=lambda item: item[0]))


def networks(record: Record) -> Json:
    """`NetworkSettings.Networks`: none when the network is another container's."""
    mode = record.host.network_mode
    if mode.startswith("container:"):
        return {}
    if mode in ("host", "none"):
        return {mode: _shared_endpoint(record, mode)}
    ends = {end.network: end for end in record.sandbox.endpoints} if record.sandbox is not None else {}
    return {name: _endpoint(asked, ends.get(name)) for name, asked in sorted(record.networks.items())}


def _shared_endpoint(record: Record, mode: str) -> Json:
    """In the host's network, or none, a container has no address of its own."""
    running = record.state.running and not record.state.restarting
    document = _endpoint(record.networks.get(mode, {}), None)
    if running:
        text = f"{record.id} {mode} {record.state.started_at}"
        document["EndpointID"] = hashlib.sha256(text.encode()).hexdigest()
    document["NetworkID"] = predefined_id(mode) if record.state.started_at else ""
    return document


def _endpoint(asked: Json, end: Endpoint | None) -> Json:
    return {
        "IPAMConfig": asked.get("IPAMConfig"),
        "Links": asked.get("Links"),
        "Aliases": asked.get("Aliases"),
        "MacAddress": end.mac if end else "",
        "DriverOpts": asked.get("DriverOpts"),
        "GwPriority": asked.get("GwPriority") or 0,
        "NetworkID": end.network_id if end else "",
        "EndpointID": end.id if end else "",
        "Gateway": end.gateway if end else "",
        "IPAddress": end.address if end else "",
        "IPPrefixLen": end.prefix if end else 0,
        "IPv6Gateway": end.gateway6 if end else "",
        "GlobalIPv6Address": end.address6 if end else "",
        "GlobalIPv6PrefixLen": end.prefix6 if end else 0,
        "DNSNames": (end.names if end else []) or None,
    }


def port_list(record: Record) -> list[Json]:
    """`Ports` of the list of containers."""
    found: list[Json] = []
    for key, bindings in published(record).items():
        number, _, kind = key.partition("/")
        private: Json = {"PrivatePort": int(number), "Type": kind}
        public = [binding for binding in bindings or () if binding["HostPort"]]
        found += [{"IP": b["HostIp"], **private, "PublicPort": int(b["HostPort"])} for b in public]
        if not public:
            found.append(private)
    return found


def summary(record: Record, image: str) -> Json:
    """One entry of GET /containers/json; `image` is how the image is named now."""
    host: Json = {"NetworkMode": record.host.network_mode}
    if record.host.annotations:
        host["Annotations"] = record.host.annotations
    return {
        "Id": record.id,
        "Names": ["/" + record.name],
        "Image": image,
        "ImageID": record.image_id,
        "Command": command_line(record.path, record.args),
        "Created": record.created // times.SECOND,
        "Ports": port_list(record),
        "Labels": record.config.labels or {},
        "State": record.state.status,
        "Status": status_text(record.state),
        "HostConfig": host,
        "NetworkSettings": {"Networks": networks(record)},
        "Mounts": [mount_point(point) for point in record.mounts if point.type != "tmpfs" or _asked(record, point)],
    }


def command_line(path: str, args: Sequence[str]) -> str:
    """The command as `ps` shows it: arguments with a space are quoted."""
    return " ".join([path, *(f"'{arg}'" if " " in arg else arg for arg in args)])


def status_text(value: State, at: int | None = None) -> str:
    """`Up 5 minutes (healthy)`, `Exited (0) 2 hours ago`, as of `at` (now)."""
    at = times.now() if at is None else at
    if value.running:
        if value.paused:
            return f"Up {times.human_duration(at - value.started_at)} (Paused)"
        if value.restarting:
            return f"Restarting ({value.exit_code}) {times.human_duration(at - value.finished_at)} ago"
        up = f"Up {times.human_duration(at - value.started_at)}"
        if value.health is None:
            return up
        return f"{up} ({'health: starting' if value.health.status == 'starting' else value.health.status})"
    if value.removing:
        return "Removal In Progress"
    if value.dead:
        return "Dead"
    if not value.started_at:
        return "Created"
    return f"Exited ({value.exit_code}) {times.human_duration(at - value.finished_at)} ago"


def attributes(record: Record, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The attributes of the container's events."""
    return {**(record.config.labels or {}), "image": record.config.image, "name": record.name, **(extra or {})}
