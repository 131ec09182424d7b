# ruff: noqa: PTH123
"""OCI `linux.resources` as writes to control group files, for versions 1 and 2.

Source: OCI runtime-spec v1.2, config-linux.md, "Control groups"; the conversions of shares and weights are those
every runtime uses.
"""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]
Setting = tuple[str, str, bool]  # file, value, whether a kernel without it is fine
Settings = dict[str, list[Setting]]

# What every container may use besides the spec's rules, as all runtimes allow it.
_DEFAULT_DEVICES = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
)


NO_DEVICES: Spec = {"allow": False, "access": "rwm"}
"""The general denial, which leaves a container the devices that all have."""


def device_rules(rules: list[Spec]) -> list[tuple[bool, str]]:
    """The spec's device rules as (allow, `type major:minor access`); a general denial is followed by the defaults."""
    out: list[tuple[bool, str]] = []
    for rule in rules:
        kind, allow = rule.get("type") or "a", bool(rule.get("allow"))
        major, minor = rule.get("major"), rule.get("minor")
        if kind == "a" and major is None and minor is None:
            out = [(allow, "a")]
            if not allow:
                out += [(True, default) for default in _DEFAULT_DEVICES]
            continue
        number = f"{_star(major)}:{_star(minor)}"
        access = rule.get("access") or "rwm"
        out += [(allow, f"{one} {number} {access}") for one in (("b", "c") if kind == "a" else (kind,))]
    return out


def _star(number: int | None) -> str:
    return "*" if number is None or number < 0 else str(number)


def v1_settings(resources: Spec) -> Settings:
    """Writes by controller, in the order the kernel needs."""
    wanted: Settings = {}
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    rows: list[Setting] = []
    _add(rows, memory, "limit", "memory.limit_in_bytes")
    _add(rows, memory, "swap", "memory.memsw.limit_in_bytes", optional=True)
    _add(rows, memory, "reservation", "memory.soft_limit_in_bytes")
    _add(rows, memory, "kernelTCP", "memory.kmem.tcp.limit_in_bytes", optional=True)
    _add(rows, memory, "swappiness", "memory.swappiness", optional=True)
    if memory.get("disableOOMKiller"):
        rows.append(("memory.oom_control", "1", True))
    _keep(wanted, "memory", rows)
    rows = []
    _add(rows, cpu, "shares", "cpu.shares")
    _add(rows, cpu, "period", "cpu.cfs_period_us")
    _add(rows, cpu, "quota", "cpu.cfs_quota_us")
    _add(rows, cpu, "realtimePeriod", "cpu.rt_period_us", optional=True)
    _add(rows, cpu, "realtimeRuntime", "cpu.rt_runtime_us", optional=True)
    _keep(wanted, "cpu", rows)
    rows = []
    _add(rows, cpu, "cpus", "cpuset.cpus")
    _add(rows, cpu, "mems", "cpuset.mems")
    _keep(wanted, "cpuset", rows)
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        wanted["pids"] = [("pids.max", str(limit) if limit > 0 else "max", False)]
    _keep(wanted, "blkio", _v1_block(resources.get("blockIO") or {}))
    return wanted


def _v1_block(block: Spec) -> list[Setting]:
    rows: list[Setting] = []
    _add(rows, block, "weight", "blkio.weight", optional=True)
    for device in block.get("weightDevice") or []:
        rows.append(("blkio.weight_device", f"{device['major']}:{device['minor']} {device.get('weight', 0)}", True))
    for key, name in (
        ("throttleReadBpsDevice", "read_bps_device"),
        ("throttleWriteBpsDevice", "write_bps_device"),
        ("throttleReadIOPSDevice", "read_iops_device"),
        ("throttleWriteIOPSDevice", "write_iops_device"),
    ):
        for device in block.get(key) or []:
            rows.append((f"blkio.throttle.{name}", f"{device['major']}:{device['minor']} {device['rate']}", False))
    return rows


def v2_settings(resources: Spec) -> Settings:
    """Writes for the unified hierarchy, named by controller for messages."""
    wanted: Settings = {}
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    rows: list[Setting] = []
    limit, swap = memory.get("limit"), memory.get("swap")
    if limit:
        rows.append(("memory.max", _or_max(limit), False))
    if swap:
        value = "max" if swap < 0 else str(max(0, swap - max(0, limit or 0)))
        rows.append(("memory.swap.max", value, True))
    if memory.get("reservation"):
        rows.append(("memory.low", _or_max(memory["reservation"]), False))
    _keep(wanted, "memory", rows)
    rows = []
    if cpu.get("shares"):
        rows.append(("cpu.weight", str(1 + (max(2, min(262144, cpu["shares"])) - 2) * 9999 // 262142), False))
    if cpu.get("quota") or cpu.get("period"):
        rows.append(("cpu.max", f"{_or_max(cpu.get('quota') or -1)} {cpu.get('period') or 100000}", False))
    _keep(wanted, "cpu", rows)
    rows = []
    _add(rows, cpu, "cpus", "cpuset.cpus")
    _add(rows, cpu, "mems", "cpuset.mems")
    _keep(wanted, "cpuset", rows)
    pids = (resources.get("pids") or {}).get("limit")
    if pids is not None:
        wanted["pids"] = [("pids.max", str(pids) if pids > 0 else "max", False)]
    _keep(wanted, "io", _v2_block(resources.get("blockIO") or {}))
    _keep(wanted, "unified", [(name, str(value), False) for name, value in (resources.get("unified") or {}).items()])
    return wanted


def _v2_block(block: Spec) -> list[Setting]:
    rows: list[Setting] = []
    if block.get("weight"):
        rows.append(("io.weight", str(1 + (block["weight"] - 10) * 9999 // 990), True))
    for key, name in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for device in block.get(key) or []:
            rows.append(("io.max", f"{device['major']}:{device['minor']} {name}={device['rate']}", False))
    return rows


def enable_controllers(directory: str) -> None:
    """Let the children of a version 2 group use every controller it has; what is refused stays off."""
    try:
        with open(directory + "/cgroup.controllers", encoding="ascii") as table:
            available = table.read().split()
        with open(directory + "/cgroup.subtree_control", encoding="ascii") as table:
            enabled = table.read().split()
    except OSError:
        return
    for name in available:
        if name in ("memory", "pids", "cpu", "cpuset", "io") and name not in enabled:
            try:
                with open(directory + "/cgroup.subtree_control", "w", encoding="ascii") as control:
                    control.write("+" + name)
            except OSError:  # processes in this group, or not delegated: its limits get a warning when set
                continue


def _add(rows: list[Setting], values: Spec, key: str, name: str, *, optional: bool = False) -> None:
    value = values.get(key)
    if value is not None and value != "" and (value != 0 or key == "swappiness"):
        rows.append((name, str(value), optional))


def _keep(wanted: Settings, controller: str, rows: list[Setting]) -> None:
    if rows:
        wanted[controller] = rows


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)
