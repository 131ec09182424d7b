"""What the daemon hands to the runtime, and what it gets back: bundles and exit statuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Rootfs:
    """An overlay to mount as the container's root: snapshot directories bottom first, and the writable layer.

    Without `upper` the tree is read-only. `volatile` skips the kernel's syncs (build steps, which fsync once at the
    end).
    """

    lower: list[Path]
    upper: Path | None = None
    work: Path | None = None
    volatile: bool = False


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Where output is logged: `json-file` (Docker's format) or `none`.

    `max_size` in bytes (None = unlimited); `max_file` counts the current file and the rotated ones (`path`, `path.1`
    …), `compress` makes the rotated ones `.gz`. `attributes` are said in every record. `sink` is where lines go
    besides: the settings of `logsinks.open_sink`.
    """

    driver: str = "none"
    path: Path | None = None
    max_size: int | None = None
    max_file: int = 1
    sink: dict[str, Any] | None = None
    attributes: dict[str, str] | None = None
    compress: bool = False


@dataclass(frozen=True, slots=True)
class Bundle:
    """One container to be: an OCI runtime spec, its root, and what becomes of its standard streams.

    `directory` belongs to the runtime: config.json, shim.sock and exit.json are written there. A container that is
    not `detached` is killed when the daemon that created it goes away (build steps); a detached one lives on once
    it is started. With `init` the first process is one of ours that passes signals on and reaps. `runtime` is the
    path of another OCI runtime program that is to run it.
    """

    id: str
    directory: Path
    spec: dict[str, Any]
    rootfs: Rootfs | Path
    log: LogConfig = field(default_factory=LogConfig)
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    detached: bool = True
    init: bool = False
    runtime: str = ""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: its exit code (128 + n for signal n), the signal, and when (seconds since the epoch)."""

    code: int
    signal: int | None = None
    oom_killed: bool = False
    exited_at: float = 0.0
