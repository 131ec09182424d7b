"""Limits, devices and policies in the flags of `run`, `create` and `update`."""

from __future__ import annotations

from buildtool.cli.values import parse_size
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_UPDATABLE = (
    ("BlkioWeight", "blkio-weight"),
    ("CpuPeriod", "cpu-period"),
    ("CpuQuota", "cpu-quota"),
    ("CpuRealtimePeriod", "cpu-rt-period"),
    ("CpuRealtimeRuntime", "cpu-rt-runtime"),
    ("CpuShares", "cpu-shares"),
    ("NanoCpus", "cpus"),
    ("Memory", "memory"),
    ("MemoryReservation", "memory-reservation"),
    ("MemorySwap", "memory-swap"),
    ("PidsLimit", "pids-limit"),
)
_CPUSETS = (("CpusetCpus", "cpuset-cpus"), ("CpusetMems", "cpuset-mems"))


def updatable_resources(call: Call) -> dict[str, Any]:
    """What `update` may change too; only the flags that were given."""
    resources: dict[str, Any] = {field: call.number(flag) for field, flag in _UPDATABLE if call.given(flag)}
    return resources | {field: call.text(flag) for field, flag in _CPUSETS if call.given(flag)}


def host_resources(call: Call) -> dict[str, Any]:
    """All limits and devices for HostConfig."""
    resources = updatable_resources(call)
    for field, flag in (
        ("KernelMemory", "kernel-memory"),
        ("MemorySwappiness", "memory-swappiness"),
        ("OomScoreAdj", "oom-score-adj"),
        ("ShmSize", "shm-size"),
    ):
        if call.given(flag):
            resources[field] = call.number(flag)
    swappiness = resources.get("MemorySwappiness", -1)
    if not -1 <= swappiness <= 100:
        raise InvalidInput(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    if call.given("oom-kill-disable"):
        resources["OomKillDisable"] = call.switch("oom-kill-disable")
    if call.texts("ulimit"):
        resources["Ulimits"] = [parse_ulimit(item) for item in call.texts("ulimit")]
    if call.texts("device"):
        paths = [item for item in call.texts("device") if not _is_cdi(item)]
        resources["Devices"] = [_device(item) for item in paths]
        named = [item for item in call.texts("device") if _is_cdi(item)]
        if named:
            resources["DeviceRequests"] = [{"Driver": "cdi", "DeviceIDs": named}]
    if call.texts("device-cgroup-rule"):
        resources["DeviceCgroupRules"] = call.texts("device-cgroup-rule")
    if call.texts("gpus"):
        gpus = [_gpu_request(item) for item in call.texts("gpus")]
        resources["DeviceRequests"] = [*resources.get("DeviceRequests", []), *gpus]
    if call.texts("blkio-weight-device"):
        resources["BlkioWeightDevice"] = [
            {"Path": path, "Weight": rate} for path, rate in map(_device_rate, call.texts("blkio-weight-device"))
        ]
    for field, flag in (
        ("BlkioDeviceReadBps", "device-read-bps"),
        ("BlkioDeviceReadIOps", "device-read-iops"),
        ("BlkioDeviceWriteBps", "device-write-bps"),
        ("BlkioDeviceWriteIOps", "device-write-iops"),
    ):
        if call.texts(flag):
            resources[field] = [{"Path": path, "Rate": rate} for path, rate in map(_device_rate, call.texts(flag))]
    return resources


def parse_ulimit(text: str) -> dict[str, Any]:
    """`nofile=1024:2048`; one number stands for both limits. Raises InvalidInput."""
    name, separator, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        numbers = [-1 if number == "unlimited" else int(number) for number in (soft, hard or soft)]
    except ValueError:
        numbers = []
    if not separator or not name or not numbers:
        raise InvalidInput(f"invalid ulimit argument: {text}")
    if numbers[1] != -1 and numbers[0] > numbers[1]:
        raise InvalidInput(f"ulimit soft limit must be less than or equal to hard limit: {numbers[0]} > {numbers[1]}")
    return {"Name": name, "Soft": numbers[0], "Hard": numbers[1]}


def restart_policy(text: str) -> dict[str, Any]:
    """`on-failure:3`. The daemon decides which names there are; the form is checked here."""
    name, separator, count = text.partition(":")
    if separator and not name:
        raise InvalidInput("invalid restart policy format: no policy provided before colon")
    if separator and not count.lstrip("-").isdecimal():
        raise InvalidInput("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(count) if separator else 0}


def _is_cdi(text: str) -> bool:
    """`vendor.com/class=name`."""
    kind, equal, name = text.partition("=")
    return bool(equal and name and "/" in kind and not kind.startswith("/"))


def _device(text: str) -> dict[str, str]:
    """`/dev/a`, `/dev/a:/dev/b`, `/dev/a:/dev/b:rwm`, `/dev/a:r`."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not parts[0]:
        raise InvalidInput(f"invalid device specification: {text}")
    source, target, access = parts[0], parts[0], "rwm"
    if len(parts) == 3:
        target, access = parts[1], parts[2]
    elif len(parts) == 2 and parts[1] and set(parts[1]) <= set("rwm"):
        access = parts[1]
    elif len(parts) == 2:
        target = parts[1]
    if not access or not set(access) <= set("rwm"):
        raise InvalidInput(f"invalid device mode: {access}")
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": access}


def _device_rate(text: str) -> tuple[str, int]:
    path, separator, rate = text.rpartition(":")
    if not separator or not path.startswith("/dev/"):
        raise InvalidInput(f"bad format for device path: {text}: write /dev/NAME:NUMBER")
    try:
        return path, parse_size(rate)
    except ValueError:
        raise InvalidInput(f"invalid rate for device: {text}. The correct format is <device-path>:<number>") from None


def _gpu_request(text: str) -> dict[str, Any]:
    """`all`, a number, or `device=0,1` with further `key=value` fields."""
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    for field in text.split(","):
        key, separator, value = field.partition("=")
        if not separator:
            if key != "all" and not key.isdecimal():
                raise InvalidInput(f"invalid value for --gpus: {text}")
            request["Count"] = -1 if key == "all" else int(key)
        elif key == "device":
            request["DeviceIDs"] = value.split(";")
        elif key == "driver":
            request["Driver"] = value
        elif key == "count":
            request["Count"] = -1 if value == "all" else int(value)
        elif key == "capabilities":
            request["Capabilities"] = [[*value.split(";"), "gpu"]]
        else:
            raise InvalidInput(f"unexpected key '{key}' in '{text}'")
    return request
