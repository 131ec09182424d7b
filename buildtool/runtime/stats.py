"""What a container uses, as its control groups count it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Stats:
    """One reading. Times in nanoseconds, sizes in bytes; 0 (or None for limits) where the kernel counts nothing."""

    cpu_total: int = 0
    cpu_user: int = 0
    cpu_system: int = 0
    cpu_per_core: list[int] = field(default_factory=list)
    throttled_periods: int = 0
    throttled_time: int = 0
    periods: int = 0
    memory_usage: int = 0
    memory_peak: int = 0
    memory_limit: int | None = None
    memory_failures: int = 0
    memory_stat: dict[str, int] = field(default_factory=dict)
    pids_current: int = 0
    pids_limit: int | None = None
    io_bytes: list[tuple[int, int, str, int]] = field(default_factory=list)
    """(major, minor, operation as Docker names it, bytes)"""
    io_operations: list[tuple[int, int, str, int]] = field(default_factory=list)
    unified: bool = False


def read_stats(directories: dict[str, str], *, unified: bool, pid: int) -> Stats:
    """Read the counters of the control groups in `directories` (controller to directory, "" = version 2).

    Where no control group counts processor time (a user without rights), the init process's own time stands in.
    """
    stats = Stats(unified=unified)
    if unified and "" in directories:
        _read_v2(Path(directories[""]), stats)
    else:
        _read_v1(directories, stats)
    if not directories:
        _read_process(pid, stats)
    return stats


def read_pids(directories: dict[str, str], pid: int) -> list[int]:
    """The processes of a container; only the init process when it has no control group."""
    for directory in directories.values():
        text = _text(Path(directory, "cgroup.procs"))
        if text:
            return [int(line) for line in text.split()]
    return [pid] if not directories and Path(f"/proc/{pid}").exists() else []


def _read_v2(directory: Path, stats: Stats) -> None:
    _read_cpu_stat(directory, stats)
    stats.memory_usage = _number(directory / "memory.current") or 0
    stats.memory_peak = _number(directory / "memory.peak") or 0
    stats.memory_limit = _number(directory / "memory.max")
    stats.memory_stat = _table(directory / "memory.stat")
    stats.memory_failures = _table(directory / "memory.events").get("max", 0)
    stats.pids_current = _number(directory / "pids.current") or 0
    stats.pids_limit = _number(directory / "pids.max")
    for line in _text(directory / "io.stat").splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        for pair in pairs:
            key, _, value = pair.partition("=")
            target = {"rbytes": "read", "wbytes": "write"}.get(key)
            if target:
                stats.io_bytes.append((int(major), int(minor), target, int(value)))
            target = {"rios": "read", "wios": "write"}.get(key)
            if target:
                stats.io_operations.append((int(major), int(minor), target, int(value)))


def _read_cpu_stat(directory: Path, stats: Stats) -> None:
    cpu = _table(directory / "cpu.stat")
    stats.cpu_total = cpu.get("usage_usec", 0) * 1000
    stats.cpu_user = cpu.get("user_usec", 0) * 1000
    stats.cpu_system = cpu.get("system_usec", 0) * 1000
    stats.periods = cpu.get("nr_periods", 0)
    stats.throttled_periods = cpu.get("nr_throttled", 0)
    stats.throttled_time = cpu.get("throttled_usec", 0) * 1000


def _read_v1(directories: dict[str, str], stats: Stats) -> None:
    if "" in directories:  # hybrid: the version 2 core counts processor time without a controller
        _read_cpu_stat(Path(directories[""]), stats)
    if "cpuacct" in directories:
        place = Path(directories["cpuacct"])
        stats.cpu_total = _number(place / "cpuacct.usage") or 0
        stats.cpu_user = _number(place / "cpuacct.usage_user") or 0
        stats.cpu_system = _number(place / "cpuacct.usage_sys") or 0
        stats.cpu_per_core = [int(value) for value in _text(place / "cpuacct.usage_percpu").split()]
    if "cpu" in directories:
        throttling = _table(Path(directories["cpu"], "cpu.stat"))
        stats.periods = throttling.get("nr_periods", 0)
        stats.throttled_periods = throttling.get("nr_throttled", 0)
        stats.throttled_time = throttling.get("throttled_time", 0)
    if "memory" in directories:
        place = Path(directories["memory"])
        stats.memory_usage = _number(place / "memory.usage_in_bytes") or 0
        stats.memory_peak = _number(place / "memory.max_usage_in_bytes") or 0
        limit = _number(place / "memory.limit_in_bytes")
        stats.memory_limit = limit if limit is not None and limit < 1 << 62 else None
        stats.memory_stat = _table(place / "memory.stat")
        stats.memory_failures = _number(place / "memory.failcnt") or 0
    if "pids" in directories:
        place = Path(directories["pids"])
        stats.pids_current = _number(place / "pids.current") or 0
        stats.pids_limit = _number(place / "pids.max")
    if "blkio" in directories:
        place = Path(directories["blkio"])
        stats.io_bytes = _block_table(place / "blkio.throttle.io_service_bytes_recursive")
        stats.io_operations = _block_table(place / "blkio.throttle.io_serviced_recursive")


def _read_process(pid: int, stats: Stats) -> None:
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    if len(fields) > 21:
        tick = 10_000_000
        stats.cpu_user, stats.cpu_system = int(fields[11]) * tick, int(fields[12]) * tick
        stats.cpu_total = stats.cpu_user + stats.cpu_system
        stats.memory_usage = int(fields[21]) * 4096
        stats.pids_current = 1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _table(path: Path) -> dict[str, int]:
    table = {}
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if value.strip().isdigit():
            table[key] = int(value)
    return table


def _block_table(path: Path) -> list[tuple[int, int, str, int]]:
    rows = []
    for line in _text(path).splitlines():
        parts = line.split()
        if len(parts) == 3 and ":" in parts[0] and parts[1] in ("Read", "Write"):
            major, _, minor = parts[0].partition(":")
            rows.append((int(major), int(minor), parts[1].lower(), int(parts[2])))
    return rows
