"""Runs a package tool of this machine: its output into a file, its words line by line, ended when cancelled."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from buildtool.errors import BuildtoolError
from buildtool.images.bootstrap import Cancel, Say, cancelled

_POLL = 0.2
_GRACE = 20.0


def run_tool(
    command: Sequence[str],
    target: Path,
    say: Say,
    cancel: Cancel,
    *,
    hint: str,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run it (in the directory), its stdout into the target; its stderr goes to `say`.

    Ends it when cancelled. Raises BuildtoolError with its last errors, and the hint, when it fails.
    """
    given = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        **(environment or {}),
    }
    with target.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=directory,
            env=given,
            start_new_session=True,
        )
    last: list[str] = []
    try:
        assert process.stderr is not None
        for line in _lines(process.stderr, cancel):
            say(line)
            last = [*last[-7:], line]
        if not cancel.wanted:
            process.wait()
    finally:
        _end(process)
    if cancel.wanted:
        raise cancelled()
    if process.returncode != 0:
        errors = [line for line in last if line.startswith("E:")] or last
        raise BuildtoolError(f"{Path(command[0]).name} failed: {' / '.join(errors)}", hint=hint)


def _lines(pipe: IO[bytes], cancel: Cancel) -> Iterator[str]:
    """Lines of a pipe as they come, carriage returns ending lines too; ends early when cancelled."""
    rest = b""
    while not cancel.wanted:
        if not select.select([pipe], [], [], _POLL)[0]:
            continue
        data = os.read(pipe.fileno(), 65536)
        if not data:
            break
        *lines, rest = re.split(rb"[\r\n]+", rest + data)
        yield from (line.decode(errors="replace") for line in lines if line)
    if rest:
        yield rest.decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that the tool and all it started are gone."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
