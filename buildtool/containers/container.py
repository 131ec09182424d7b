"""A container as the service holds it in memory: its record, and what is alive about it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from buildtool.containers.model import Config, HostConfig, Record, State
from buildtool.containers.restart import RestartPolicy
from buildtool.containers.waiters import Waiters

if TYPE_CHECKING:
    from buildtool.containers.attach import Attachment
    from buildtool.containers.execs import Exec
    from buildtool.runtime import Task


class Container:
    """One container. `lock` is held while its processes are started, cleaned up or removed."""

    def __init__(self, record: Record, directory: Path) -> None:
        self.record = record
        self.directory = directory
        self.lock = asyncio.Lock()
        self.waiters = Waiters()
        self.policy = RestartPolicy(record.host.restart_policy.name, record.host.restart_policy.maximum_retry_count)
        self.task: Task | None = None
        self.monitor: asyncio.Task[None] | None = None
        self.restarter: asyncio.Task[None] | None = None
        self.prober: asyncio.Task[None] | None = None
        self.attachments: set[Attachment] = set()
        self.execs: dict[str, Exec] = {}
        self.detach_keys = ""
        self.keep = False
        self.removed = False

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        """The name without a slash."""
        return self.record.name

    @property
    def state(self) -> State:
        return self.record.state

    @property
    def config(self) -> Config:
        return self.record.config

    @property
    def host(self) -> HostConfig:
        return self.record.host

    @property
    def tty(self) -> bool:
        """Whether its streams are raw (a terminal) rather than frames."""
        return self.record.config.tty

    @property
    def log_path(self) -> Path:
        """The json-file log."""
        return self.directory / f"{self.id}-json.log"

    @property
    def alive(self) -> bool:
        """Whether it has processes: running or paused, not waiting for a restart."""
        return self.task is not None and self.state.running and not self.state.restarting
