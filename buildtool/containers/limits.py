"""Resource limits: checked as Docker checks them, and turned into the OCI runtime-spec's `linux.resources`."""

from __future__ import annotations

import os
import re
from typing import Any

from buildtool.containers.model import HostConfig, ThrottleDevice
from buildtool.errors import InvalidInput

SHM_SIZE = 64 << 20
_MINIMUM_MEMORY = 6 << 20
_ULIMITS = frozenset(
    {
        *("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss"),
        *("rtprio", "rttime", "sigpending", "stack"),
    }
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?", re.IGNORECASE)
_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")


def parse_size(text: str, what: str) -> int:
    """`10m`, `1.5g`, `4096` in bytes (binary multiples). Raises InvalidInput; -1 stays -1 (no limit)."""
    if text == "-1":
        return -1
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"invalid size for {what}: '{text}'")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


def check(host: HostConfig) -> None:
    """Raises InvalidInput with Docker's texts when a limit is out of its range or contradicts another."""
    _check_memory(host)
    _check_cpu(host)
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidInput("Range of blkio weight is from 10 to 1000")
    if host.shm_size < 0:
        raise InvalidInput("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidInput(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    for rule in host.device_cgroup_rules or ():
        if not _RULE.fullmatch(rule):
            raise InvalidInput(f"invalid device cgroup rule format: '{rule}'")
    for limit in host.ulimits or ():
        if limit.name not in _ULIMITS:
            raise InvalidInput(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidInput(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
    for device in host.devices or ():
        if set(device.cgroup_permissions) - set("rwm"):
            raise InvalidInput(f"invalid device mode: {device.cgroup_permissions}")


def _check_memory(host: HostConfig) -> None:
    if 0 < host.memory < _MINIMUM_MEMORY:
        raise InvalidInput("Minimum memory limit allowed is 6MB")
    if host.memory < 0 or host.memory_reservation < 0:
        raise InvalidInput(f"Invalid memory limit: {min(host.memory, host.memory_reservation)}")
    if host.memory_swap < -1:
        raise InvalidInput("Invalid memory-swap limit: it is -1 (unlimited) or more")
    if host.memory > 0 and 0 < host.memory_swap < host.memory:
        raise InvalidInput("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory == 0 and host.memory_swap > 0:
        raise InvalidInput("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host.memory_swappiness is not None and not -1 <= host.memory_swappiness <= 100:
        raise InvalidInput(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    if 0 < host.memory_reservation < _MINIMUM_MEMORY:
        raise InvalidInput("Minimum memory reservation allowed is 6MB")
    if 0 < host.memory < host.memory_reservation:
        raise InvalidInput("Minimum memory limit can not be less than memory reservation limit, see usage")


def _check_cpu(host: HostConfig) -> None:
    if host.nano_cpus and host.cpu_period:
        raise InvalidInput("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus and host.cpu_quota:
        raise InvalidInput("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    available = os.cpu_count() or 1
    if host.nano_cpus and not 10_000_000 <= host.nano_cpus <= available * 1_000_000_000:
        raise InvalidInput(
            f"range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available"
        )
    if host.cpu_period and not 1_000 <= host.cpu_period <= 1_000_000:
        raise InvalidInput("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1_000:
        raise InvalidInput("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    for text, what, limit in ((host.cpuset_cpus, "cpus", available), (host.cpuset_mems, "mems", None)):
        numbers = _cpu_list(text, what)
        if limit is not None and numbers and max(numbers) >= limit:
            raise InvalidInput(f"Requested CPUs are not available - requested {text}, available: 0-{limit - 1}")


def _cpu_list(text: str, what: str) -> set[int]:
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part)
        if match is None or int(match[1]) > int(match[2] or match[1]):
            raise InvalidInput(f"Invalid value {text} for cpuset {what}")
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers


def resources(host: HostConfig) -> dict[str, Any]:
    """The `linux.resources` object of the OCI runtime spec for these limits (device rules included)."""
    cpu: dict[str, Any] = {}
    quota, period = host.cpu_quota, host.cpu_period
    if host.nano_cpus:
        period = 100_000
        quota = host.nano_cpus * period // 1_000_000_000
    for key, value in (
        ("shares", host.cpu_shares),
        ("quota", quota),
        ("period", period),
        ("realtimePeriod", host.cpu_realtime_period),
        ("realtimeRuntime", host.cpu_realtime_runtime),
        ("cpus", host.cpuset_cpus),
        ("mems", host.cpuset_mems),
    ):
        if value:
            cpu[key] = value
    memory: dict[str, Any] = {}
    if host.memory:
        memory["limit"] = host.memory
        memory["swap"] = host.memory_swap or host.memory * 2
    if host.memory_reservation:
        memory["reservation"] = host.memory_reservation
    if host.memory_swappiness is not None and host.memory_swappiness >= 0:
        memory["swappiness"] = host.memory_swappiness
    if host.oom_kill_disable:
        memory["disableOOMKiller"] = True
    document: dict[str, Any] = {}
    if cpu:
        document["cpu"] = cpu
    if memory:
        document["memory"] = memory
    if host.pids_limit:
        document["pids"] = {"limit": host.pids_limit}
    block = _block(host)
    if block:
        document["blockIO"] = block
    return document


def rlimits(host: HostConfig) -> list[dict[str, Any]]:
    """`HostConfig.Ulimits` in the OCI form."""
    return [
        {"type": f"RLIMIT_{limit.name.upper()}", "soft": limit.soft, "hard": limit.hard}
        for limit in host.ulimits or ()
    ]


def device_rules(host: HostConfig) -> list[dict[str, Any]]:
    """`HostConfig.DeviceCgroupRules` in the OCI form."""
    rules = []
    for rule in host.device_cgroup_rules or ():
        match = _RULE.fullmatch(rule)
        if match is not None:
            entry: dict[str, Any] = {"allow": True, "type": match[1], "access": match[4]}
            for key, number in (("major", match[2]), ("minor", match[3])):
                if number != "*":
                    entry[key] = int(number)
            rules.append(entry)
    return rules


def _block(host: HostConfig) -> dict[str, Any]:
    block: dict[str, Any] = {}
    if host.blkio_weight:
        block["weight"] = host.blkio_weight
    if host.blkio_weight_device:
        block["weightDevice"] = [{**_number(d.path), "weight": d.weight} for d in host.blkio_weight_device]
    throttles: tuple[tuple[str, list[ThrottleDevice] | None], ...] = (
        ("throttleReadBpsDevice", host.blkio_device_read_bps),
        ("throttleWriteBpsDevice", host.blkio_device_write_bps),
        ("throttleReadIOPSDevice", host.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", host.blkio_device_write_iops),
    )
    for key, devices in throttles:
        if devices:
            block[key] = [{**_number(device.path), "rate": device.rate} for device in devices]
    return block


def _number(path: str) -> dict[str, int]:
    try:
        device = os.stat(path).st_rdev  # noqa: PTH116 - a path of the host's /dev, as given
    except OSError as error:
        raise InvalidInput(f"no such block device {path}: {error.strerror}") from None
    return {"major": os.major(device), "minor": os.minor(device)}
