"""RUN: a container whose writable layer is the snapshot to be."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from buildtool.aio import offload
from buildtool.cache import SnapshotId
from buildtool.errors import BuildtoolError, CommandNotExecutable, CommandNotFound, StepFailed
from buildtool.graph import Exec, Node
from buildtool.runtime import ExitStatus, Task
from buildtool.solve.debug import visit_failed
from buildtool.solve.flights import Listener
from buildtool.solve.request import BuildRequest
from buildtool.solve.run_end import end
from buildtool.solve.run_network import Connection
from buildtool.solve.run_output import Tail, failure, follow, timed_out
from buildtool.solve.run_room import Room, RunContext
from buildtool.solve.source_lines import whole_span
from buildtool.solve.threads import acquire, to_end

_FIRST_MEASURE = 0.3
_IDLE = 0.01


@dataclass
class Usage:
    """What a command used: how many processors on average (0 when it was too short to be measured), and the names of
    the directories of its cache mounts.
    """

    processors: float = 0.0
    cache_mounts: tuple[str, ...] = ()

    async def watch(self, task: Task) -> None:
        """Measure until cancelled: after a third of a second, then at ever longer intervals (no more than 5 s)."""
        began, pause = time.monotonic(), _FIRST_MEASURE
        while True:
            await asyncio.sleep(pause)
            used = (await task.stats()).cpu_total / 1e9
            if used:
                self.processors = max(used / (time.monotonic() - began), _IDLE)
            pause = min(pause * 2, 5.0)


async def execute_run(
    context: RunContext,
    request: BuildRequest,
    node: Node,
    chains: Sequence[Sequence[SnapshotId]],
    listener: Listener,
    usage: Usage | None = None,
) -> SnapshotId:
    """Run the command on the tree of `chains[0]` (the other chains are those of its mounts) and commit its layer.

    Raises StepFailed when it does not succeed. On every failure, and when cancelled, processes are killed and
    nothing stays.
    """
    step = node.step
    assert isinstance(step, Exec)
    if context.chroot or request.isolation == "chroot":
        from buildtool.solve.run_chroot import execute_chroot

        return await execute_chroot(context, request, node, chains, listener)
    async with AsyncExitStack() as stack:
        caches = await context.cache_mounts.acquire_all(context.store, node, chains, stack)
        if usage is not None:
            usage.cache_mounts = tuple(sorted({path.parent.name for path in caches.values()}))
        connection = await context.networks.join(step, node, stack)
        room = await acquire(Room.open, Room.close, context, request, node, chains, caches, connection)
        task: Task | None = None
        try:
            for agent in room.agents:
                await stack.enter_async_context(agent)
            try:
                task = await _command(context, request, room, node, listener, connection, usage)
            except StepFailed as error:
                if error.where is not None:
                    error.where = whole_span(request.dockerfile, error.where)
                await visit_failed(context, request, node, room)
                raise
            snapshot = await to_end(room.commit, task.created)
        except BaseException:
            if task is not None:
                await end(task)
            await to_end(room.close)
            raise
        context.background(_leave(task, room))
        return snapshot


async def _leave(task: Task, room: Room) -> None:
    """A program that has ended keeps no step waiting for what is left of its container."""
    await end(task)
    await offload(room.close)


async def _command(
    context: RunContext,
    request: BuildRequest,
    room: Room,
    node: Node,
    listener: Listener,
    connection: Connection | None,
    usage: Usage | None,
) -> Task:
    """Run the command; its container, which has ended well but is still to be removed. Raises StepFailed."""
    step = node.step
    assert isinstance(step, Exec)
    tail = Tail()
    try:
        async with asyncio.timeout(step.execution.timeout / 1e9 or None):
            task, status = await _run(context, room, node, listener, connection, usage, tail)
    except TimeoutError:
        raise timed_out(node, tail) from None
    if status.code != 0:
        await end(task)
        raise failure(node, status, tail, request.memory)
    return task


async def _run(
    context: RunContext,
    room: Room,
    node: Node,
    listener: Listener,
    connection: Connection | None,
    usage: Usage | None,
    tail: Tail,
) -> tuple[Task, ExitStatus]:
    try:
        ready = connection is None or connection.namespace != ""
        task = await context.runtime.create(room.bundle, attach=True, start=ready)
    except BuildtoolError as error:
        raise _not_started(node, error) from error
    assert task.stream is not None
    try:
        with contextlib.closing(task.stream) as stream:
            if not ready:
                await context.networks.plug(connection, task.pid, node)
                try:
                    await task.start()
                except BuildtoolError as error:
                    raise _not_started(node, error) from error
            watch = asyncio.create_task(usage.watch(task)) if usage is not None else None
            try:
                await follow(stream, tail, listener, room.hidden)
            finally:
                if watch is not None:
                    watch.cancel()
        return task, await task.wait()
    except BaseException:
        await end(task)
        raise


def _not_started(node: Node, error: BuildtoolError) -> StepFailed:
    if isinstance(error, CommandNotFound | CommandNotExecutable):
        return StepFailed(error.message, exit_code_of_step=error.exit_code, where=node.span)
    return StepFailed(error.message, where=node.span, hint=error.hint)
