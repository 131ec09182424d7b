"""`stats`: the control groups' counters in the Engine API's shape, once or every second."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildtool.aio import offload
from buildtool.containers import times
from buildtool.containers.container import Container
from buildtool.errors import BuildtoolError

if TYPE_CHECKING:
    from buildtool.runtime import Stats

Json = dict[str, Any]
_INTERVAL = 1.0


async def samples(container: Container, *, stream: bool, one_shot: bool) -> AsyncIterator[Json]:
    """One sample (with the rates' base a second before it, unless `one_shot`), or one a second until it is removed.

    A container that does not run has a sample without counters.
    """
    before = await _sample(container)
    if not stream and one_shot:
        yield document(container, before, None)
        return
    if stream:
        yield document(container, before, None)
    while True:
        await asyncio.sleep(_INTERVAL if container.alive or stream else 0)
        if container.removed:
            return
        after = await _sample(container)
        yield document(container, after, before)
        if not stream:
            return
        before = after


class Sample:
    """The counters at a moment."""

    def __init__(self, stats: Stats | None, cpu: Json, moment: int, networks: Json) -> None:
        self.stats, self.cpu, self.moment, self.networks = stats, cpu, moment, networks


async def _sample(container: Container) -> Sample:
    task = container.task
    if task is None or not container.alive:
        return Sample(None, _no_cpu(), 0, {})
    try:
        stats = await task.stats()
    except (BuildtoolError, OSError):
        return Sample(None, _no_cpu(), 0, {})
    system = await offload(_system_cpu)
    networks = await offload(_networks, container.state.pid)
    return Sample(stats, _cpu(stats, system), times.now(), networks)


def document(container: Container, sample: Sample, before: Sample | None) -> Json:
    """The answer for one sample; `before` gives `precpu_stats`."""
    stats = sample.stats
    answer: Json = {
        "name": "/" + container.name,
        "id": container.id,
        "read": times.rfc3339nano(sample.moment),
        "preread": times.rfc3339nano(before.moment if before else 0),
        "pids_stats": {},
        "blkio_stats": _blkio(stats),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": sample.cpu,
        "precpu_stats": before.cpu if before else _no_cpu(),
        "memory_stats": {},
    }
    if stats is not None:
        answer["pids_stats"] = {"current": stats.pids_current}
        if stats.pids_limit:
            answer["pids_stats"]["limit"] = stats.pids_limit
        answer["memory_stats"] = _memory(stats)
        if sample.networks:
            answer["networks"] = sample.networks
    return answer


def _no_cpu() -> Json:
    return {
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def _cpu(stats: Stats, system: int) -> Json:
    usage: Json = {
        "total_usage": stats.cpu_total,
        "usage_in_kernelmode": stats.cpu_system,
        "usage_in_usermode": stats.cpu_user,
    }
    if stats.cpu_per_core:
        usage["percpu_usage"] = stats.cpu_per_core
    return {
        "cpu_usage": usage,
        "system_cpu_usage": system,
        "online_cpus": os.cpu_count() or 1,
        "throttling_data": {
            "periods": stats.periods,
            "throttled_periods": stats.throttled_periods,
            "throttled_time": stats.throttled_time,
        },
    }


def _memory(stats: Stats) -> Json:
    memory: Json = {
        "usage": stats.memory_usage,
        "stats": stats.memory_stat,
        "limit": stats.memory_limit or _total_memory(),
    }
    if not stats.unified:
        memory["max_usage"] = stats.memory_peak
        if stats.memory_failures:
            memory["failcnt"] = stats.memory_failures
    return memory


def _blkio(stats: Stats | None) -> Json:
    nothing: list[Json] | None = [] if stats is not None and not stats.unified else None

    def rows(found: list[tuple[int, int, str, int]]) -> list[Json] | None:
        return [
            {"major": major, "minor": minor, "op": op, "value": value} for major, minor, op, value in found
        ] or nothing

    return {
        "io_service_bytes_recursive": rows(stats.io_bytes) if stats else None,
        "io_serviced_recursive": rows(stats.io_operations) if stats else None,
        "io_queue_recursive": nothing,
        "io_service_time_recursive": nothing,
        "io_wait_time_recursive": nothing,
        "io_merged_recursive": nothing,
        "io_time_recursive": nothing,
        "sectors_recursive": nothing,
    }


def _total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _system_cpu() -> int:
    """Nanoseconds that all processors of the host have spent, idle time included (as Docker counts)."""
    ticks = os.sysconf("SC_CLK_TCK")
    with Path("/proc/stat").open() as file:
        fields = file.readline().split()
    return sum(int(field) for field in fields[1:8]) * (times.SECOND // ticks)


def _networks(pid: int) -> Json:
    """Counters of the interfaces in the container's own network namespace; none in the host's."""
    try:
        if Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            return {}
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, _, rest = line.partition(":")
        values = [int(value) for value in rest.split()]
        if name.strip() == "lo" or len(values) < 12:
            continue
        found[name.strip()] = {
            "rx_bytes": values[0],
            "rx_packets": values[1],
            "rx_errors": values[2],
            "rx_dropped": values[3],
            "tx_bytes": values[8],
            "tx_packets": values[9],
            "tx_errors": values[10],
            "tx_dropped": values[11],
        }
    return found
