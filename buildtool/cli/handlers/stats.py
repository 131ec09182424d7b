"""`stats`: what containers use, once or continuously."""

from __future__ import annotations

import sys
import threading
import time

from buildtool.cli.human import binary_size, decimal_size, short_id
from buildtool.cli.listing import print_rows
from buildtool.client import Client
from buildtool.errors import BuildtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_HEADERS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_INTERVAL = 0.5


class _Watch:
    """Follows one container's figures in a thread of its own."""

    def __init__(self, call: Call, name: str, *, once: bool) -> None:
        self.name = name
        self.latest: dict[str, Any] | None = None
        self.problem: BuildtoolError | None = None
        self._client = Client(call.client.address, autostart=False)
        self._once = once
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self) -> None:
        try:
            query = {"stream": "0" if self._once else "1"}
            for document in self._client.call("GET", f"/containers/{self.name}/stats", query).objects():
                self.latest = document
        except BuildtoolError as error:
            self.problem = error


def stats(call: Call) -> int:
    """Print a table of figures; continuously, unless --no-stream or STDOUT is no terminal."""
    once = call.switch("no-stream")
    names = call.arguments or [
        item["Id"] for item in call.client.get("/containers/json", {"all": call.switch("all")})
    ]
    watches = [_Watch(call, name, once=once) for name in names]
    if once:
        for watch in watches:
            watch.thread.join()
        _raise_problem(watches)
        _print(call, watches)
        return 0
    while True:
        time.sleep(_INTERVAL)
        if call.arguments:
            _raise_problem(watches)
        if not any(watch.latest for watch in watches) and any(watch.thread.is_alive() for watch in watches):
            continue
        if sys.stdout.isatty() and not call.text("format"):
            sys.stdout.write("\x1b[H\x1b[2J")
        _print(call, watches)
        sys.stdout.flush()
        if not any(watch.thread.is_alive() for watch in watches):
            return 0


def _raise_problem(watches: list[_Watch]) -> None:
    for watch in watches:
        if watch.problem is not None:
            raise watch.problem


def _print(call: Call, watches: list[_Watch]) -> None:
    truncate = not call.switch("no-trunc")
    rows = [_row(watch.name, watch.latest or {}, truncate) for watch in watches if watch.problem is None]
    print_rows(rows, call.text("format"), _COLUMNS, _HEADERS, kind="container.statsContext")


def _row(name: str, document: dict[str, Any], truncate: bool) -> dict[str, Any]:
    identifier = document.get("id", "")
    memory = document.get("memory_stats") or {}
    used, limit = _used_memory(memory), memory.get("limit") or 0
    network = [
        sum(card.get(key, 0) for card in (document.get("networks") or {}).values())
        for key in ("rx_bytes", "tx_bytes")
    ]
    known = bool(document.get("read")) and not str(document.get("read")).startswith("0001")
    return {
        "Container": name,
        "ID": short_id(identifier) if truncate else identifier,
        "Name": str(document.get("name", "")).removeprefix("/") or "--",
        "CPUPerc": f"{cpu_percent(document):.2f}%" if known else "--",
        "MemUsage": f"{binary_size(used)} / {binary_size(limit)}" if known else "-- / --",
        "MemPerc": f"{used / limit * 100 if limit else 0.0:.2f}%" if known else "--",
        "NetIO": f"{decimal_size(network[0], 3)} / {decimal_size(network[1], 3)}" if known else "--",
        "BlockIO": _block_io(document) if known else "--",
        "PIDs": str((document.get("pids_stats") or {}).get("current", 0)) if known else "--",
    }


def cpu_percent(document: dict[str, Any]) -> float:
    """Docker's figure: the share of the time that passed, 100 % for each CPU kept busy."""
    now, before = document.get("cpu_stats") or {}, document.get("precpu_stats") or {}
    used = _nested(now, "cpu_usage", "total_usage") - _nested(before, "cpu_usage", "total_usage")
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    cpus = now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or ()) or 1
    return used / passed * cpus * 100.0 if used > 0 and passed > 0 else 0.0


def _nested(document: dict[str, Any], outer: str, inner: str) -> int:
    return int((document.get(outer) or {}).get(inner) or 0)


def _used_memory(memory: dict[str, Any]) -> int:
    """Usage without the page cache that the kernel would give back first."""
    usage, details = memory.get("usage") or 0, memory.get("stats") or {}
    inactive: int = details.get("total_inactive_file") or details.get("inactive_file") or 0
    return int(usage - inactive) if inactive < usage else int(usage)


def _block_io(document: dict[str, Any]) -> str:
    read = written = 0
    for entry in (document.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ():
        if entry["op"][:1].lower() == "r":
            read += entry["value"]
        elif entry["op"][:1].lower() == "w":
            written += entry["value"]
    return f"{decimal_size(read, 3)} / {decimal_size(written, 3)}"
