"""`top`: the container's processes, from the host's /proc for the default columns, else by the host's ps."""

from __future__ import annotations

import asyncio
import os
import pwd
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildtool.aio import offload
from buildtool.errors import BuildtoolError, InvalidInput, Unavailable

DEFAULT = "-ef"
_TITLES = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]


async def top(pids: Sequence[int], ps_args: str) -> dict[str, Any]:
    """The answer to GET /containers/{id}/top for these processes (host pids)."""
    if ps_args in ("", DEFAULT):
        return {"Titles": _TITLES, "Processes": await offload(_processes, pids)}
    return await _by_ps(pids, ps_args)


def _processes(pids: Sequence[int]) -> list[list[str]]:
    now, ticks = time.time(), os.sysconf("SC_CLK_TCK")
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    rows = []
    for pid in sorted(pids):
        try:
            rows.append(_row(pid, now, ticks, uptime))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return rows


def _row(pid: int, now: float, ticks: int, uptime: float) -> list[str]:
    directory = Path(f"/proc/{pid}")
    text = (directory / "stat").read_text(errors="replace")
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    seconds = (int(fields[11]) + int(fields[12])) // ticks
    age = max(uptime - int(fields[19]) / ticks, 0.001)
    command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(
        errors="replace"
    ).rstrip() or f"[{name}]"
    began = time.localtime(now - age)
    stime = time.strftime("%H:%M" if age < 86400 else "%b%d", began)
    return [
        _user(directory.stat().st_uid),
        str(pid),
        fields[1],
        str(min(99, int(100 * seconds / age))),
        stime,
        _terminal(int(fields[4])),
        time.strftime("%H:%M:%S", time.gmtime(seconds)),
        command,
    ]


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _terminal(number: int) -> str:
    if number == 0:
        return "?"
    major, minor = (number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00)
    return f"pts/{minor + (major - 136) * 256}" if 136 <= major < 144 else f"tty{minor}"


async def _by_ps(pids: Sequence[int], ps_args: str) -> dict[str, Any]:
    try:
        arguments = shlex.split(ps_args)
    except ValueError as error:
        raise InvalidInput(f"ps arguments {ps_args!r}: {error}") from None
    try:
        process = await asyncio.create_subprocess_exec(
            "ps", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError:
        raise Unavailable("ps is not installed on the daemon's machine: only the default columns are there") from None
    out, err = await process.communicate()
    if process.returncode:
        raise BuildtoolError(f"ps: {err.decode(errors='replace').strip()}")
    return parse_ps(out.decode(errors="replace"), frozenset(pids))


def parse_ps(output: str, pids: frozenset[int]) -> dict[str, Any]:
    """ps's table, only the rows of these processes. Raises InvalidInput when it has no PID column."""
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidInput("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows = []
    for line in lines[1:]:
        fields = line.split(maxsplit=len(titles) - 1)
        if len(fields) > column and fields[column].isdecimal() and int(fields[column]) in pids:
            rows.append(fields)
    return {"Titles": titles, "Processes": rows}
