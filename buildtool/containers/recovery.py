"""What a starting daemon makes of the containers that the last one left: found again, finished, started, cleared."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from buildtool.aio import offload
from buildtool.containers import times
from buildtool.containers.base import Bases
from buildtool.containers.connections import Connections
from buildtool.containers.container import Container
from buildtool.containers.health import Prober
from buildtool.containers.lifecycle import Lifecycle
from buildtool.containers.model import Health, Record, State
from buildtool.containers.registry import Registry
from buildtool.containers.volumes import Volumes
from buildtool.errors import BuildtoolError
from buildtool.runtime import ExitStatus, Runtime, Task

log = logging.getLogger("buildtool.containers")
_LOST = 255
_TOLERANCE = times.SECOND // 1000


def _is_news(status: ExitStatus, state: State) -> bool:
    """Whether the record does not know this end yet: the last daemon may have died before it wrote even the start."""
    return round(status.exited_at * times.SECOND) > state.finished_at + _TOLERANCE


class Recovery:
    """Runs once, when the service opens."""

    def __init__(
        self,
        registry: Registry,
        bases: Bases,
        runtime: Runtime,
        lifecycle: Lifecycle,
        connections: Connections,
        volumes: Volumes,
    ) -> None:
        self._registry, self._bases, self._runtime, self._lifecycle = registry, bases, runtime, lifecycle
        self._connections, self._volumes = connections, volumes

    async def run(self) -> None:
        """Read the records, clear what no record has, and bring every container's state up to date."""
        records, leftovers = await offload(self._load)
        for path in leftovers:
            await self._clear(path)
        for record in records:
            self._registry.add(Container(record, self._registry.directory_of(record.id)))
        await asyncio.gather(*(self._resume_safely(container) for container in self._registry))
        await self._connections.networks.settle()
        await offload(self._volumes.settle)

    def _load(self) -> tuple[list[Record], list[Path]]:
        """The records of whole containers, and the directories of those half removed or half made."""
        directory = self._registry.directory
        directory.mkdir(mode=0o710, exist_ok=True)
        records, unreadable = self._registry.load()
        whole = [r for r in records if not r.state.removing and self._registry.directory_of(r.id).is_dir()]
        kept = {record.id for record in whole}
        for record in records:
            if record.id not in kept:
                self._registry.delete(record.id)
        if not unreadable:
            self._bases.sweep({tuple(record.snapshots) for record in whole})
        present = [path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")]
        return whole, [path for path in present if path.name not in kept | unreadable]

    async def _clear(self, directory: Path) -> None:
        """Remove what is left of a container without a record, its processes first."""
        if (directory / "shim.sock").exists():
            found = await self._runtime.reattach(directory)
            if isinstance(found, Task):
                await found.delete()
        await offload(shutil.rmtree, directory, ignore_errors=True)

    async def _resume_safely(self, container: Container) -> None:
        try:
            await self._resume(container)
        except (BuildtoolError, OSError) as error:
            log.error("container %s cannot be taken over: %s", container.id[:12], error)
            container.state.running = container.state.restarting = False
            container.state.error = str(error)

    async def _resume(self, container: Container) -> None:
        state = container.state
        container.policy.restarts = container.record.restart_count
        ran = state.running and not state.restarting
        found = None
        if ran or any((container.directory / name).exists() for name in ("shim.sock", "exit.json")):
            found = await self._runtime.reattach(container.directory)
        if isinstance(found, Task):
            if found.started:
                for point in container.record.mounts:
                    if point.type == "volume":
                        self._volumes.adopt(point.name, container.id)
                await self._connections.adopt(container, found.pid)
                self._take_over(container, found)
                return
            await found.delete()
        container.record.sandbox = None
        if ran or (isinstance(found, ExitStatus) and _is_news(found, state)):
            self._finish(container, found if isinstance(found, ExitStatus) else ExitStatus(_LOST))
        else:
            state.running = state.restarting = False
        if container.host.auto_remove:
            await self._lifecycle.remove(container, force=False, volumes=True)
            return
        if container.policy.after_daemon_start(
            state.exit_code, started_before=state.started_at > 0, manually_stopped=container.record.manually_stopped
        ):
            self._lifecycle.restart_after(container, 0)

    def _take_over(self, container: Container, task: Task) -> None:
        """It runs; the record may not know yet, when the last daemon died right after the start."""
        state = container.state
        container.task = task
        if not state.running or state.restarting:
            state.started_at, state.exit_code = times.now(), 0
            state.health = Health() if Prober.wanted(container) else None
        state.running, state.restarting, state.paused, state.pid = True, False, task.paused, task.pid
        self._registry.changed(container)
        self._lifecycle.watch(container, task)

    def _finish(self, container: Container, status: ExitStatus) -> None:
        """It ended while no daemon ran; whether it starts again is decided afterwards."""
        state = container.state
        if not state.running:  # the start was not recorded either
            state.started_at = round(status.exited_at * times.SECOND)
        container.policy.cancelled = True
        self._lifecycle.exited(container, status)
        container.policy.cancelled = False
