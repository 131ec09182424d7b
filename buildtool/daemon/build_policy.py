"""What a build may ask for: entitlements that this daemon grants, limits within the ranges of containers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from buildtool.errors import Forbidden, InvalidInput

if TYPE_CHECKING:
    from buildtool.daemon.services import Services

ENTITLEMENTS = ("device", "network.host", "security.insecure")


class Limits(Protocol):
    """The limits of a build request."""

    @property
    def memory(self) -> int: ...

    @property
    def memory_swap(self) -> int: ...

    @property
    def cpu_shares(self) -> int: ...

    @property
    def cpu_period(self) -> int: ...

    @property
    def cpu_quota(self) -> int: ...

    @property
    def cpuset_cpus(self) -> str: ...

    @property
    def cpuset_mems(self) -> str: ...

    @property
    def shm_size(self) -> int: ...

    @property
    def ulimits(self) -> Sequence[dict[str, Any]]: ...


def check_names(names: Iterable[str]) -> None:
    """Raises InvalidInput for an entitlement that does not exist."""
    for name in names:
        if name not in ENTITLEMENTS and not name.startswith("device="):
            raise InvalidInput(
                f"unknown entitlement {name!r}", hint=f"known are {', '.join(ENTITLEMENTS)} and device=NAME"
            )


def granted(services: Services, asked: Iterable[str], network_mode: str) -> frozenset[str]:
    """The entitlements of a build. Raises InvalidInput, and Forbidden for what this daemon does not grant."""
    asked = list(asked)
    check_names(asked)
    needed = [*asked, *(["network.host"] if network_mode == "host" else [])]
    for name in needed:
        if name.partition("=")[0] not in services.entitlements and name not in services.entitlements:
            raise Forbidden(
                f"granting entitlement {name} is not allowed by build daemon configuration",
                hint="the daemon was started with --entitlement; ask who runs it",
            )
    return frozenset(asked)


def check_limits(limits: Limits) -> None:
    """Raises InvalidInput with Docker's texts for limits that are out of their range."""
    from buildtool.containers.limits import check
    from buildtool.containers.model import HostConfig, Ulimit

    ulimits = [
        Ulimit(name=str(each.get("Name", "")), soft=int(each.get("Soft", 0)), hard=int(each.get("Hard", 0)))
        for each in limits.ulimits
    ]
    check(
        HostConfig(
            memory=limits.memory,
            memory_swap=limits.memory_swap,
            cpu_shares=limits.cpu_shares,
            cpu_period=limits.cpu_period,
            cpu_quota=limits.cpu_quota,
            cpuset_cpus=limits.cpuset_cpus,
            cpuset_mems=limits.cpuset_mems,
            shm_size=limits.shm_size,
            ulimits=ulimits,
        )
    )
