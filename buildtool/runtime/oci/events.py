"""`events`: what a container uses, every so often, and that it ran out of memory; in runc's documents.

Source: runc(8), "runc events".
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from buildtool.runtime.cgroups import Cgroup, Hierarchies
from buildtool.runtime.oci.records import Record, Records, group_of
from buildtool.runtime.stats import Stats, read_stats

_LOOK_SECONDS = 0.1
Document = dict[str, Any]


def usage(record: Record) -> Document:
    """One event of the type `stats`."""
    group = group_of(record)
    stats = read_stats(group.directories, unified=Hierarchies.find().is_v2, pid=record.pid)
    return {"type": "stats", "id": record.id, "data": _data(stats)}


def watch(records: Records, record: Record, seconds: float) -> Iterator[Document]:
    """A `stats` each interval, an `oom` each time that the kernel kills for memory, until the container has ended."""
    group = group_of(record)
    killed = group.oom_kills()
    due = time.monotonic() + seconds
    while records.status(record) != "stopped":
        killed, before = group.oom_kills(), killed
        for _ in range(killed - before):
            yield {"type": "oom", "id": record.id}
        if time.monotonic() >= due:
            due = time.monotonic() + seconds
            yield usage(record)
        time.sleep(min(_LOOK_SECONDS, seconds))
    yield from _last(group, record, killed)


def _last(group: Cgroup, record: Record, killed: int) -> Iterator[Document]:
    for _ in range(group.oom_kills() - killed):
        yield {"type": "oom", "id": record.id}


def _data(stats: Stats) -> Document:
    return {
        "cpu": {
            "usage": {
                "total": stats.cpu_total,
                "percpu": stats.cpu_per_core,
                "kernel": stats.cpu_system,
                "user": stats.cpu_user,
            },
            "throttling": {
                "periods": stats.periods,
                "throttledPeriods": stats.throttled_periods,
                "throttledTime": stats.throttled_time,
            },
        },
        "memory": {
            "cache": stats.memory_stat.get("cache", stats.memory_stat.get("file", 0)),
            "usage": {
                "limit": 2**64 - 1 if stats.memory_limit is None else stats.memory_limit,
                "usage": stats.memory_usage,
                "max": stats.memory_peak,
                "failcnt": stats.memory_failures,
            },
            "raw": stats.memory_stat,
        },
        "pids": {"current": stats.pids_current, "limit": stats.pids_limit or 0},
        "blkio": {
            "ioServiceBytesRecursive": [_entry(*entry) for entry in stats.io_bytes],
            "ioServicedRecursive": [_entry(*entry) for entry in stats.io_operations],
        },
    }


def _entry(major: int, minor: int, operation: str, value: int) -> Document:
    return {"major": major, "minor": minor, "op": operation.capitalize(), "value": value}
