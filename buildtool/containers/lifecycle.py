"""Starting, stopping and ending: the container's state machine, driven by what its processes do."""

from __future__ import annotations

import asyncio
import logging
import signal as signals
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from buildtool.aio import offload
from buildtool.containers import announce, etcfiles, links, present, removal, times
from buildtool.containers.attach import Attachment
from buildtool.containers.connections import Connections
from buildtool.containers.container import Container
from buildtool.containers.events import Events
from buildtool.containers.health import Prober
from buildtool.containers.model import Health
from buildtool.containers.preparation import Preparer
from buildtool.containers.registry import Registry
from buildtool.containers.signals import parse_signal
from buildtool.containers.volumes import Volumes
from buildtool.containers.waiters import WaitResult
from buildtool.errors import BuildtoolError, Conflict, NotFound, NotModified
from buildtool.runtime import ExitStatus, Runtime

if TYPE_CHECKING:
    from buildtool.runtime import Task

log = logging.getLogger("buildtool.containers")
_UNKNOWN_EXIT = 128


class Lifecycle:
    """All changes of a container's state go through here."""

    def __init__(
        self,
        registry: Registry,
        runtime: Runtime,
        events: Events,
        preparer: Preparer,
        volumes: Volumes,
        prober: Prober,
        connections: Connections,
    ) -> None:
        self._registry, self._runtime, self._events = registry, runtime, events
        self._preparer, self._volumes, self._prober = preparer, volumes, prober
        self._connections = connections
        self._background: set[asyncio.Task[None]] = set()

    def publish(self, container: Container, action: str, **extra: str) -> None:
        """An event of this container."""
        self._events.publish("container", action, container.id, present.attributes(container.record, extra))

    # Starting

    async def start(self, container: Container) -> None:
        """Start it by hand. Raises NotModified, Conflict (paused, being removed), what the runtime raises."""
        async with container.lock:
            self._check_startable(container)
            self._cancel_restart(container)
            container.policy.rearm()
            container.record.manually_stopped = False
            container.record.restart_count = 0
            await self._start(container)

    def _check_startable(self, container: Container) -> None:
        state = container.state
        if container.removed or state.removing or state.dead:
            raise Conflict("container is marked for removal and cannot be started")
        if state.paused:
            raise Conflict("cannot start a paused container, try unpause instead")
        if state.running and not state.restarting:
            raise NotModified(f"container {container.id} is already running")

    async def _start(self, container: Container) -> None:
        """With the lock held."""
        await self._reap(container)
        state = container.state
        try:
            await self._connections.join(container)
            task = await self._runtime.create(await self._preparer.bundle(container))
        except (BuildtoolError, OSError) as error:
            await self._start_failed(container, error)
            raise
        try:
            await self._connections.plug(container, task.pid)
            for attachment in list(container.attachments):
                await self.bind(attachment, task)
            started_at = times.now()
            await task.start()
        except (BuildtoolError, OSError) as error:
            await task.delete()
            await self._start_failed(container, error)
            raise
        container.task = task
        state.started_at = started_at
        state.running, state.paused, state.restarting = True, False, False
        state.pid, state.exit_code, state.error, state.oom_killed = task.pid, 0, "", False
        state.health = Health() if self._prober.wanted(container) else None
        self._registry.changed(container)
        announce.started(self._events, container.record)
        self.publish(container, "start")
        self.watch(container, task)
        await self._tell_parents(container)

    async def _tell_parents(self, container: Container) -> None:
        """Those that run with a link to it learn its address."""
        address = links.address_of(container.record)
        for parent, alias in links.parents(self._registry, container) if address else ():
            line = links.hosts_line(alias, address, container.record)
            await offload(etcfiles.replace_line, parent.directory, alias, line)

    def watch(self, container: Container, task: Task) -> None:
        """Look after a running process: its end, its health."""
        container.monitor = self._spawn(self._monitor(container, task))
        if container.state.health is not None:
            container.prober = self._spawn(self._prober.run(container, task))

    async def bind(self, attachment: Attachment, task: Task) -> None:
        """Connect an attachment to a process."""
        stream = await task.attach(stdin=attachment.stdin, stdout=attachment.stdout, stderr=attachment.stderr)
        attachment.bind(stream)

    async def _start_failed(self, container: Container, error: Exception) -> None:
        await self._give_back(container)
        state = container.state
        code = error.exit_code if isinstance(error, BuildtoolError) and error.exit_code > 1 else _UNKNOWN_EXIT
        state.running = state.restarting = False
        state.error, state.exit_code, state.pid = str(error), code, 0
        self._end_attachments(container)
        self._registry.changed(container)
        container.waiters.exited(WaitResult(code))
        if container.host.auto_remove:
            await self._remove_locked(container, volumes=True)

    # Ending

    async def _monitor(self, container: Container, task: Task) -> None:
        status = await task.wait()
        again = self.exited(container, status)
        async with container.lock:
            await self._reap(container)
            if again is None and container.host.auto_remove and not container.keep and not container.removed:
                await self._remove_locked(container, volumes=True)

    def exited(self, container: Container, status: ExitStatus) -> float | None:
        """The process has ended: new state, events, waiters. Returns the delay when it is to start again."""
        state = container.state
        if container.prober is not None:
            container.prober.cancel()
            container.prober = None
        finished = int(status.exited_at * times.SECOND) or times.now()
        state.finished_at = max(finished, state.started_at)
        state.pid, state.paused = 0, False
        state.exit_code, state.oom_killed = status.code, status.oom_killed
        if state.health is not None and state.health.status != "unhealthy":
            state.health.status = "unhealthy"
        ran_for = state.finished_at - state.started_at
        if status.oom_killed:
            self.publish(container, "oom")
        self.publish(container, "die", exitCode=str(status.code), execDuration=str(ran_for // times.SECOND))
        announce.ended(self._events, container.record)
        manual = container.record.manually_stopped
        delay = container.policy.after_exit(status.code, ran_for, manually_stopped=manual)
        if delay is None:
            state.running = state.restarting = False
        else:
            state.running = state.restarting = True
            container.record.restart_count += 1
            self.restart_after(container, delay)
        self._registry.changed(container)
        container.waiters.exited(WaitResult(status.code))
        return delay

    async def _reap(self, container: Container) -> None:
        """Let the shim of an ended process go. With the lock held; nothing to do when it was done already."""
        task, state = container.task, container.state
        if task is None or (state.running and not state.restarting):
            return
        container.task = None
        container.execs.clear()
        await task.delete()
        await self._give_back(container)
        self._end_attachments(container, bound_only=True)

    async def _give_back(self, container: Container) -> None:
        """Its addresses, its ports, the volumes that are mounted for it."""
        await self._connections.leave(container)
        if self._volumes.holds(container.id):
            try:
                await offload(self._volumes.release, container.id)
            except (BuildtoolError, OSError) as error:
                log.warning("volumes of container %s: %s", container.id[:12], error)

    def _end_attachments(self, container: Container, *, bound_only: bool = False) -> None:
        for attachment in list(container.attachments):
            if attachment.bound or not bound_only:
                attachment.bind(None)
                container.attachments.discard(attachment)

    def restart_after(self, container: Container, delay: float) -> None:
        """Start it after so many seconds, unless it is started, stopped or removed before."""
        container.restarter = self._spawn(self._restart_later(container, delay))

    async def _restart_later(self, container: Container, delay: float) -> None:
        await asyncio.sleep(delay)
        async with container.lock:
            running = container.state.running and not container.state.restarting
            if running or container.removed or container.restarter is not asyncio.current_task():
                return
            container.restarter = None
            try:
                await self._start(container)
            except (BuildtoolError, OSError) as error:
                log.warning("container %s does not start again: %s", container.id[:12], error)

    def _cancel_restart(self, container: Container) -> None:
        if container.restarter is not None:
            container.restarter.cancel()
            container.restarter = None
        if container.state.restarting:
            container.state.running = container.state.restarting = False

    # Stopping

    async def stop(self, container: Container, timeout: int | None, signal: str | None) -> None:
        """Stop it: stop signal, then SIGKILL after `timeout` seconds (-1: never). Raises NotModified."""
        if not container.state.running:
            raise NotModified(f"container {container.id} is already stopped")
        number = parse_signal(signal or container.config.stop_signal or "SIGTERM")
        seconds = timeout if timeout is not None else container.config.stop_timeout
        seconds = 10 if seconds is None else seconds
        container.policy.cancelled = True
        container.record.manually_stopped = True
        self._registry.changed(container)
        if container.state.restarting:
            self._cancel_restart(container)
        elif not await self._signal_and_wait(container, number, None if seconds < 0 else float(seconds)):
            await self._signal_and_wait(container, signals.SIGKILL, None)
        await self.settled(container)
        self.publish(container, "stop")

    async def _signal_and_wait(self, container: Container, number: int, seconds: float | None) -> bool:
        ended = container.waiters.subscribe("not-running")
        if not container.alive:
            ended.cancel()
            return True
        await self._signal(container, number)
        try:
            await asyncio.wait_for(ended, seconds)
        except TimeoutError:
            return False
        return True

    async def _signal(self, container: Container, number: int) -> None:
        task = container.task
        if task is None:
            return
        self.publish(container, "kill", signal=str(int(number)))
        try:
            await task.signal(number)
            if container.state.paused:
                await task.resume()
                container.state.paused = False
        except (ProcessLookupError, NotFound):
            return  # it ended by itself meanwhile

    async def kill(self, container: Container, signal: str) -> None:
        """Send a signal; with SIGKILL wait for the end. Raises Conflict when it does not run, InvalidInput."""
        number = parse_signal(signal or "SIGKILL")
        self.check_running(container, f"cannot kill container: {container.name}: ")
        stop_signal = container.config.stop_signal
        if not stop_signal or number == signals.SIGKILL or parse_signal(stop_signal) == number:
            container.policy.cancelled = True
        container.record.manually_stopped = True
        if container.state.restarting:
            self._cancel_restart(container)
            self._registry.changed(container)
            return
        if number == signals.SIGKILL:
            await self._signal_and_wait(container, number, 10.0)
        else:
            await self._signal(container, number)

    async def restart(self, container: Container, timeout: int | None, signal: str | None) -> None:
        """Stop it when it runs, start it; an AutoRemove container stays."""
        container.keep = True
        try:
            if container.state.running:
                await self.stop(container, timeout, signal)
            await self.start(container)
        finally:
            container.keep = False
        self.publish(container, "restart")

    def heal(self, container: Container) -> None:
        """Restart it in the background: it is unhealthy."""
        self._spawn(self._heal(container))

    async def _heal(self, container: Container) -> None:
        try:
            await self.restart(container, None, None)
        except (BuildtoolError, OSError) as error:
            log.warning("container %s is unhealthy and does not restart: %s", container.id[:12], error)

    async def pause(self, container: Container) -> None:
        """Freeze all its processes. Raises Conflict."""
        async with container.lock:
            self.check_running(container)
            if container.state.paused:
                raise Conflict(f"container {container.id} is already paused")
            if container.task is None or container.state.restarting:
                raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
            await container.task.pause()
            container.state.paused = True
        self._registry.changed(container)
        self.publish(container, "pause")

    async def unpause(self, container: Container) -> None:
        """Let it go on. Raises Conflict."""
        async with container.lock:
            if not container.state.paused or container.task is None:
                raise Conflict(f"Container {container.id} is not paused")
            await container.task.resume()
            container.state.paused = False
        self._registry.changed(container)
        self.publish(container, "unpause")

    @staticmethod
    def check_running(container: Container, prefix: str = "") -> None:
        """Raises Conflict unless it runs."""
        if not container.state.running:
            raise Conflict(f"{prefix}container {container.id} is not running")

    # Removing

    async def remove(self, container: Container, *, force: bool, volumes: bool) -> None:
        """Remove it, killing it first with `force`; `volumes`: also its anonymous volumes. Raises Conflict."""
        state = container.state
        removal.check(container, force=force)
        state.removing = True
        try:
            if state.running:
                container.policy.cancelled = True
                self._cancel_restart(container)
                await self._signal_and_wait(container, signals.SIGKILL, None)
            async with container.lock:
                await self._reap(container)
                if not container.removed:
                    await self._remove_locked(container, volumes=volumes)
        finally:
            state.removing = False

    async def _remove_locked(self, container: Container, *, volumes: bool) -> None:
        container.state.removing = True
        self._cancel_restart(container)
        await offload(removal.erase, self._registry, container)
        self._registry.discard(container)
        self._end_attachments(container)
        self.publish(container, "destroy")
        container.waiters.removed(WaitResult(container.state.exit_code))
        if volumes:
            await offload(removal.remove_volumes, self._volumes, container)

    async def settled(self, container: Container) -> None:
        """Wait until an ended container is cleaned up (and removed, when it removes itself)."""
        monitor = container.monitor
        if monitor is not None and monitor is not asyncio.current_task():
            await asyncio.wait((monitor,))

    async def close(self) -> None:
        """Stop looking after containers; they go on."""
        for work in list(self._background):
            work.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for container in self._registry:
            for attachment in list(container.attachments):
                await attachment.close()
            if container.task is not None:
                container.task.release()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a container's background work failed", exc_info=error)
