"""The container service: one door to everything the Engine API does with containers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

from buildtool.cache import Pins, Store
from buildtool.containers import limits, pruning, stats, streams, top, updates
from buildtool.containers.archive import Archives
from buildtool.containers.attach import Attachment
from buildtool.containers.base import Bases
from buildtool.containers.connections import Connections
from buildtool.containers.container import Container
from buildtool.containers.creation import Creator
from buildtool.containers.detach import parse_detach_keys
from buildtool.containers.events import Events
from buildtool.containers.execs import Execs, process
from buildtool.containers.files import Files
from buildtool.containers.health import Prober
from buildtool.containers.lifecycle import Lifecycle
from buildtool.containers.logs import LogOptions
from buildtool.containers.model import Record
from buildtool.containers.names import check_name, new_id
from buildtool.containers.networkviews import NetworkViews
from buildtool.containers.preparation import Preparer
from buildtool.containers.recovery import Recovery
from buildtool.containers.registry import Registry
from buildtool.containers.views import Views
from buildtool.containers.volume_archive import VolumeArchives
from buildtool.containers.volumes import Volumes
from buildtool.containers.waiters import WaitResult, check_condition
from buildtool.errors import BuildtoolError, Conflict, InvalidInput, NotFound
from buildtool.images import Images
from buildtool.networks import Networks
from buildtool.oci import parse_platform
from buildtool.runtime import ExecTask, Runtime, Task

Json = dict[str, Any]
Jsons = list[Json]
Strings = list[str]
Records = list[Record]
Paths = list[Path]


class Containers:
    """Use it from one event loop. A container is named by its id, its name or a unique prefix of its id."""

    def __init__(self, store: Store, images: Images, runtime: Runtime, events: Events, run_root: Path) -> None:
        self._store, self._images, self._runtime, self._events = store, images, runtime, events
        self._run_root = run_root
        self._registry = Registry(store)
        self._bases = Bases(store, self._registry.directory / ".init")
        self.volumes = Volumes(store, events)
        self.volumes.users = self._volume_users
        self.volume_archives = VolumeArchives(self.volumes, self._volume_runners)
        self._preparer = Preparer(images, self._registry, self._bases, self.volumes)
        self._prober = Prober(self._start_probe, self._health_changed)
        self.networks = Networks(store)
        self.network_views = NetworkViews(self.networks)
        self.connections = Connections(self.networks, self._registry, events)
        self._lifecycle = Lifecycle(
            self._registry, runtime, events, self._preparer, self.volumes, self._prober, self.connections
        )
        self._creator = Creator(images, self._registry, self._bases, self.volumes, self.connections)
        self._execs = Execs(self._registry, self._lifecycle, self._preparer)
        archives = Archives(self._bases, self._preparer, self.volumes)
        self.files = Files(store, images, self._registry, self._bases, archives, self._lifecycle)
        self._views = Views(self._registry, images, self._bases, self.networks)
        self._recovery = Recovery(
            self._registry, self._bases, runtime, self._lifecycle, self.connections, self.volumes
        )

    # Opening and closing

    async def open(self) -> None:
        """Read the records, find running containers again, finish what ended meanwhile, apply restart policies."""
        await self._recovery.run()

    async def close(self) -> None:
        """Stop looking after containers (they go on running) and write what is pending."""
        await self._execs.close()
        await self._lifecycle.close()
        await self.networks.close()
        await self._registry.flush()

    # Looking

    def get(self, reference: str) -> Container:
        """Raises NotFound ("No such container: x"), InvalidInput (ambiguous prefix)."""
        return self._registry.get(reference)

    def running(self) -> int:
        """How many containers run."""
        return sum(container.state.running for container in self._registry)

    async def list(
        self, *, all: bool = False, limit: int | None = None, size: bool = False, filters: Any = None
    ) -> Jsons:
        """GET /containers/json."""
        return await self._views.summaries(all=all, limit=limit, size=size, filters=filters)

    async def inspect(self, reference: str, *, size: bool = False) -> Json:
        """GET /containers/{id}/json."""
        return await self._views.inspect(self.get(reference), size=size)

    # From create to remove

    async def create(self, body: Any, *, name: str | None = None, platform: str | None = None) -> tuple[str, Strings]:
        """The id and warnings of a new container."""
        wanted = parse_platform(platform) if platform else None
        container, warnings = await self._creator.create(body, name, wanted)
        self._lifecycle.publish(container, "create")
        return container.id, warnings

    async def start(self, reference: str, *, detach_keys: str = "") -> None:
        """POST /containers/{id}/start. Raises NotModified, Conflict, InvalidInput, CommandNotFound,
        CommandNotExecutable…"""
        container = self.get(reference)
        parse_detach_keys(detach_keys)
        container.detach_keys = detach_keys
        await self._lifecycle.start(container)

    async def stop(self, reference: str, *, signal: str | None = None, timeout: int | None = None) -> None:
        """POST /containers/{id}/stop. Raises NotModified."""
        await self._lifecycle.stop(self.get(reference), timeout, signal)

    async def restart(self, reference: str, *, signal: str | None = None, timeout: int | None = None) -> None:
        """POST /containers/{id}/restart."""
        await self._lifecycle.restart(self.get(reference), timeout, signal)

    async def kill(self, reference: str, *, signal: str | None = None) -> None:
        """POST /containers/{id}/kill. Raises Conflict."""
        await self._lifecycle.kill(self.get(reference), signal or "")

    async def pause(self, reference: str) -> None:
        """POST /containers/{id}/pause. Raises Conflict."""
        await self._lifecycle.pause(self.get(reference))

    async def unpause(self, reference: str) -> None:
        """POST /containers/{id}/unpause. Raises Conflict."""
        await self._lifecycle.unpause(self.get(reference))

    async def remove(self, reference: str, *, force: bool = False, volumes: bool = False) -> None:
        """DELETE /containers/{id}. Raises Conflict."""
        await self._lifecycle.remove(self.get(reference), force=force, volumes=volumes)

    async def remove_link(self, reference: str) -> None:
        """DELETE /containers/{id}?link=1: `reference` is `container/alias`. Raises InvalidInput, NotFound."""
        parent, _, alias = reference.strip("/").rpartition("/")
        if not parent:
            raise InvalidInput(f"Cannot remove link {reference}: write CONTAINER/ALIAS")
        container = self.get(parent)
        if container.record.links.pop(alias, None) is None:
            raise NotFound(f"No such link: {reference}")
        self._registry.changed(container)

    async def rename(self, reference: str, name: str) -> None:
        """POST /containers/{id}/rename. Raises InvalidInput, Conflict."""
        container = self.get(reference)
        if not name:
            raise InvalidInput("Neither old nor new names may be empty")
        name = check_name(name)
        old = container.name
        if name == old:
            raise InvalidInput("Renaming a container with the same name as its current name")
        self._registry.reserve(name, container.id)
        self._registry.release(old, container.id)
        container.record.name = name
        self.connections.rename(container, old)
        self._registry.changed(container)
        self._lifecycle.publish(container, "rename", oldName="/" + old)

    async def resize(self, reference: str, height: int, width: int) -> None:
        """Set the terminal's size. Raises Conflict when it does not run."""
        container = self.get(reference)
        task = self._task(container)
        await task.resize(height, width)
        self._lifecycle.publish(container, "resize", height=str(height), width=str(width))

    async def waiter(self, reference: str, condition: str = "") -> Awaitable[WaitResult]:
        """Subscribed when this returns: await the result for the end. Raises NotFound, InvalidInput."""
        container = self.get(reference)
        condition = check_condition(condition)
        if condition == "not-running" and not container.state.running:
            future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
            future.set_result(WaitResult(container.state.exit_code))
            return future
        return container.waiters.subscribe(condition)

    async def wait(self, reference: str, condition: str = "") -> WaitResult:
        """Wait for the condition: `not-running`, `next-exit` or `removed`."""
        return await (await self.waiter(reference, condition))

    async def update(self, reference: str, body: Any) -> Strings:
        """POST /containers/{id}/update: the warnings."""
        container = self.get(reference)
        changed = updates.parse(body, container.host)
        warnings: Strings = []
        if container.alive and changed.limits:
            warnings = await self._task(container).update(limits.resources(changed.host))
        container.record.host = changed.host
        policy = changed.host.restart_policy
        container.policy.name, container.policy.maximum_retry_count = policy.name, policy.maximum_retry_count
        self._registry.changed(container)
        self._lifecycle.publish(container, "update")
        return warnings

    async def prune(self, filters: Any = None) -> Json:
        """POST /containers/prune."""
        return await pruning.prune(self._registry, self._lifecycle, self._events, filters)

    # Streams

    async def attach(
        self,
        reference: str,
        *,
        stdin: bool = False,
        stdout: bool = False,
        stderr: bool = False,
        logs: bool = False,
        stream: bool = True,
        detach_keys: str = "",
    ) -> Attachment:
        """Connect to the streams, before or after the start. Raises Conflict (paused, restarting), InvalidInput."""
        return await streams.attach(
            self._lifecycle,
            self.get(reference),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            logs=logs,
            stream=stream,
            detach_keys=detach_keys,
        )

    async def logs(
        self,
        reference: str,
        *,
        stdout: bool = True,
        stderr: bool = True,
        follow: bool = False,
        since: str = "",
        until: str = "",
        timestamps: bool = False,
        tail: str | int | None = "all",
        details: bool = False,
    ) -> AsyncIterator[bytes]:
        """The log as blocks of frames (raw with a terminal); with `follow` until the container stops.

        Raises InvalidInput, NotFound, Unavailable (the driver keeps nothing to read).
        """
        container = self.get(reference)
        options = LogOptions.parse(
            stdout=stdout,
            stderr=stderr,
            since=since,
            until=until,
            timestamps=timestamps,
            tail=tail,
            raw=container.tty,
            prefix=streams.details(container) if details else b"",
        )
        async with contextlib.aclosing(streams.logs(container, options, following=follow)) as blocks:
            async for block in blocks:
                yield block

    async def stats(self, reference: str, *, stream: bool = True, one_shot: bool = False) -> AsyncIterator[Json]:
        """What it uses: once (after a second, for the rates; at once with `one_shot`), or every second."""
        container = self.get(reference)
        async for sample in stats.samples(container, stream=stream, one_shot=one_shot):
            yield sample

    # Processes

    async def exec_create(self, reference: str, body: Any) -> str:
        """POST /containers/{id}/exec: the exec's id."""
        return self._execs.create(self.get(reference), body)

    def exec_check(self, exec_id: str, body: Any) -> None:
        """Raises what `exec_start` would refuse before doing anything: NotFound, InvalidInput, Conflict."""
        self._execs.check(exec_id, body)

    async def exec_start(self, exec_id: str, body: Any) -> Attachment | None:
        """POST /exec/{id}/start: the streams; None when the body says `Detach`."""
        return await self._execs.start(exec_id, body)

    async def exec_inspect(self, exec_id: str) -> Json:
        """GET /exec/{id}/json."""
        return self._execs.get(exec_id).inspect()

    async def exec_ended(self, exec_id: str) -> None:
        """Wait until it has ended and its exit code is known. Raises NotFound."""
        await self._execs.get(exec_id).ended.wait()

    async def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        """POST /exec/{id}/resize."""
        await self._execs.resize(exec_id, height, width)

    async def top(self, reference: str, ps_args: str = "-ef") -> Json:
        """GET /containers/{id}/top. Raises Conflict when it does not run."""
        container = self.get(reference)
        if container.state.restarting:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        found = await top.top(await self._task(container).pids(), ps_args)
        self._lifecycle.publish(container, "top")
        return found

    def _task(self, container: Container) -> Task:
        if container.task is None or not container.alive:
            raise Conflict(f"container {container.id} is not running")
        return container.task

    async def _start_probe(self, container: Container, task: Task, command: Strings) -> ExecTask:
        document = await process(self._preparer, container, command)
        return await task.exec(document, tty=False, stdin=False, id=f"health-{new_id()[:12]}")

    def _health_changed(self, container: Container, new_status: bool) -> None:
        self._registry.changed(container)
        health = container.state.health
        if new_status and health is not None:
            self._lifecycle.publish(container, f"health_status: {health.status}")
            if health.status == "unhealthy" and Prober.heals(container):
                self._lifecycle.heal(container)

    # For others

    def pins(self) -> Pins:
        """What gc must keep for the containers' sake."""
        return self._registry.pins()

    def images_in_use(self) -> dict[str, Strings]:
        """The ids of the containers of each image, by the image's id."""
        users: dict[str, Strings] = {}
        for container in self._registry:
            users.setdefault(container.record.image_id, []).append(container.id)
        return users

    def is_running(self, reference: str) -> bool:
        """Whether there is such a container and it runs."""
        try:
            return self.get(reference).state.running
        except BuildtoolError:
            return False

    def _volume_runners(self, name: str) -> Strings:
        return [identity for identity in self._volume_users(name) if self.is_running(identity)]

    def _volume_users(self, name: str) -> Strings:
        return [c.id for c in self._registry if any(p.type == "volume" and p.name == name for p in c.record.mounts)]
