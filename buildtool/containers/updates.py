"""`update`: the changed limits and restart policy of an existing container. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from buildtool.containers import limits
from buildtool.containers.model import HostConfig, decode
from buildtool.containers.restart import check_policy
from buildtool.errors import Conflict, InvalidInput

_LIMITS = (
    *("blkio_weight", "cpu_period", "cpu_quota", "cpu_realtime_period", "cpu_realtime_runtime", "cpu_shares"),
    *("cpuset_cpus", "cpuset_mems", "memory", "memory_reservation", "memory_swap", "nano_cpus", "pids_limit"),
)


@dataclass(frozen=True)
class Update:
    """The host config as it is to be, and whether limits are among the changes."""

    host: HostConfig
    limits: bool


def parse(body: Any, host: HostConfig) -> Update:
    """Put the given limits over those there are. Raises InvalidInput, Conflict (restart policy with AutoRemove)."""
    if not isinstance(body, dict):
        raise InvalidInput("invalid update request: not a JSON object")
    asked = decode(body, HostConfig, "update request")
    changes: dict[str, Any] = {name: getattr(asked, name) for name in _LIMITS if getattr(asked, name)}
    if "nano_cpus" in changes and (host.cpu_quota or host.cpu_period):
        raise Conflict(
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota or CPU Period has already been set"
        )
    if ("cpu_quota" in changes or "cpu_period" in changes) and host.nano_cpus:
        raise Conflict("Conflicting options: CPU Quota or Period cannot be updated as NanoCPUs has already been set")
    if changes.get("memory", 0) > host.memory_swap > 0 and "memory_swap" not in changes:
        raise InvalidInput(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    touched = bool(changes)
    policy = asked.restart_policy
    if policy.name:
        check_policy(policy.name, policy.maximum_retry_count)
        if host.auto_remove and policy.name != "no":
            raise InvalidInput("Restart policy cannot be updated because AutoRemove is enabled for the container")
        changes["restart_policy"] = policy
    updated = msgspec.structs.replace(host, **changes)
    limits.check(updated)
    return Update(updated, touched)
