"""A service's limits, devices and shared memory as HostConfig's members."""

from __future__ import annotations

from typing import Any

_RESOURCES = (
    ("CpuPeriod", "cpu_period"),
    ("CpuQuota", "cpu_quota"),
    ("CpuRealtimePeriod", "cpu_rt_period"),
    ("CpuRealtimeRuntime", "cpu_rt_runtime"),
    ("CpuShares", "cpu_shares"),
    ("CpuCount", "cpu_count"),
    ("CpuPercent", "cpu_percent"),
    ("CpusetCpus", "cpuset"),
    ("OomScoreAdj", "oom_score_adj"),
    ("PidsLimit", "pids_limit"),
    ("DeviceCgroupRules", "device_cgroup_rules"),
)
_SIZES = (
    ("Memory", "mem_limit"),
    ("MemoryReservation", "mem_reservation"),
    ("MemorySwap", "memswap_limit"),
    ("MemorySwappiness", "mem_swappiness"),
    ("ShmSize", "shm_size"),
)
_BLKIO = (
    ("BlkioDeviceReadBps", "device_read_bps"),
    ("BlkioDeviceReadIOps", "device_read_iops"),
    ("BlkioDeviceWriteBps", "device_write_bps"),
    ("BlkioDeviceWriteIOps", "device_write_iops"),
)


def limits(service: dict[str, Any]) -> dict[str, Any]:
    """The part of HostConfig that limits; `deploy.resources` counts where the service says nothing itself."""
    host: dict[str, Any] = {field: service[key] for field, key in _RESOURCES if service.get(key) is not None}
    host |= {field: int(service[key]) for field, key in _SIZES if service.get(key) is not None}
    if service.get("oom_kill_disable"):
        host["OomKillDisable"] = True
    resources = (service.get("deploy") or {}).get("resources") or {}
    bounds, reservations = resources.get("limits") or {}, resources.get("reservations") or {}
    cpus = service.get("cpus") or bounds.get("cpus")
    if cpus:
        host["NanoCpus"] = round(float(cpus) * 10**9)
    if bounds.get("memory"):
        host.setdefault("Memory", int(bounds["memory"]))
    if bounds.get("pids"):
        host.setdefault("PidsLimit", bounds["pids"])
    if reservations.get("memory"):
        host.setdefault("MemoryReservation", int(reservations["memory"]))
    if service.get("ulimits"):
        host["Ulimits"] = [_ulimit(name, limit) for name, limit in sorted(service["ulimits"].items())]
    host |= _blkio(service.get("blkio_config") or {})
    host |= _devices(service, reservations.get("devices") or [])
    return host


def _ulimit(name: str, limit: Any) -> dict[str, Any]:
    if isinstance(limit, dict):
        return {"Name": name, "Soft": limit["soft"], "Hard": limit["hard"]}
    return {"Name": name, "Soft": limit, "Hard": limit}


def _blkio(config: dict[str, Any]) -> dict[str, Any]:
    host: dict[str, Any] = {}
    if config.get("weight"):
        host["BlkioWeight"] = config["weight"]
    if config.get("weight_device"):
        host["BlkioWeightDevice"] = [{"Path": i["path"], "Weight": i["weight"]} for i in config["weight_device"]]
    for field, key in _BLKIO:
        if config.get(key):
            host[field] = [{"Path": item["path"], "Rate": int(item["rate"])} for item in config[key]]
    return host


def _devices(service: dict[str, Any], reserved: list[dict[str, Any]]) -> dict[str, Any]:
    host: dict[str, Any] = {}
    requests = [_request(item) for item in reserved]
    requests += [_request({"capabilities": ["gpu"], **item}) for item in service.get("gpus") or []]
    plain = []
    for device in service.get("devices") or []:
        if "=" in device["source"]:
            requests.append({"Driver": "cdi", "DeviceIDs": [device["source"]]})
        else:
            plain.append(
                {
                    "PathOnHost": device["source"],
                    "PathInContainer": device["target"],
                    "CgroupPermissions": device.get("permissions") or "rwm",
                }
            )
    if plain:
        host["Devices"] = plain
    if requests:
        host["DeviceRequests"] = requests
    return host


def _request(item: dict[str, Any]) -> dict[str, Any]:
    count = item.get("count")
    return {
        "Driver": item.get("driver") or "",
        "Count": count if count is not None else 0 if item.get("device_ids") else -1,
        "DeviceIDs": item.get("device_ids") or None,
        "Capabilities": [item.get("capabilities") or []],
        "Options": dict(item.get("options") or {}),
    }
