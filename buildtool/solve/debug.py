"""Shells in the trees of steps: where one failed, and before one begins."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from buildtool.buildfile.suggest import did_you_mean
from buildtool.cache import SnapshotId
from buildtool.errors import InvalidInput
from buildtool.graph import Exec, Node, Plan, Source, StepId
from buildtool.runtime import Task
from buildtool.solve.debugger import OpenShell, ShellOptions
from buildtool.solve.records import StepResult
from buildtool.solve.request import BuildRequest
from buildtool.solve.run_end import end
from buildtool.solve.run_room import Room, RunContext
from buildtool.solve.source_lines import source_lines
from buildtool.solve.threads import acquire, to_end

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def stops(plan: Plan, request: BuildRequest) -> set[StepId]:
    """The steps that `--debug-at` names. Raises InvalidInput when one names none."""
    if request.debug is None:
        return set()
    nodes = [node for step in plan.visible if not isinstance((node := plan.node(step)).step, Source)]
    return {_stop(nodes, text, request) for text in request.debug.at}


def _stop(nodes: Sequence[Node], text: str, request: BuildRequest) -> StepId:
    if re.fullmatch("[0-9]+", text):
        line = int(text)
        here = [node for node in nodes if node.span is not None and node.span.file == request.dockerfile_name]
        here.sort(key=lambda node: node.span.line if node.span is not None else 0)
        for node in here:
            assert node.span is not None
            if node.span.line + len(source_lines(request.dockerfile, node.span)) > line:
                return node.id
        last = f"the last one is on line {here[-1].span.line}" if here and here[-1].span is not None else ""
        raise InvalidInput(f"--debug-at {text}: no step of this build is on that line or after it", hint=last)
    for node in nodes:
        if node.stage == text:
            return node.id
    stages = sorted({node.stage for node in nodes} - {""})
    known = f"stages of this build: {', '.join(stages)}" if stages else "the stages of this build have no names"
    raise InvalidInput(
        f"--debug-at {text}: no such stage in this build, and no line",
        hint=did_you_mean(text, stages, otherwise=known),
    )


def held_back(plan: Plan, stops: set[StepId], hits: dict[StepId, StepResult]) -> dict[StepId, StepResult]:
    """Take from `hits` those at or after a stop: their turn comes when the build goes on."""
    after: set[StepId] = set()
    held: dict[StepId, StepResult] = {}
    for step in plan.graph if stops else ():
        if step in stops or not after.isdisjoint(plan.node(step).inputs):
            after.add(step)
            if step in hits:
                held[step] = hits.pop(step)
    return held


async def visit_failed(context: RunContext, request: BuildRequest, node: Node, room: Room) -> None:
    """Let the caller look at a RUN that failed: its tree as it left it, with its mounts."""
    if request.debug is not None and request.debug.failures:
        await request.debug.debugger.visit(node.name, node.span, "failed", _opener(context, node, room))


async def visit_before(
    context: RunContext, request: BuildRequest, node: Node, chains: Sequence[Sequence[SnapshotId]]
) -> None:
    """Let the caller look at the tree that a step is about to change. Nothing of what is done there stays."""
    if request.debug is None:
        return
    if not isinstance(node.step, Exec):
        node = replace(node, step=Exec(("/bin/sh",), "/", "", (_PATH,)))
        chains = chains[:1] if node.parent is not None else [[]]
    assert isinstance(node.step, Exec)
    async with AsyncExitStack() as stack:
        caches = await context.cache_mounts.acquire_all(context.store, node, chains, stack)
        connection = await context.networks.join(node.step, node, stack)
        room = await acquire(Room.open, Room.close, context, request, node, chains, caches, connection)
        try:
            for agent in room.agents:
                await stack.enter_async_context(agent)
            await request.debug.debugger.visit(node.name, node.span, "before", _opener(context, node, room))
        finally:
            await to_end(room.close)


def _opener(context: RunContext, node: Node, room: Room) -> OpenShell:
    @asynccontextmanager
    async def open_shell(options: ShellOptions) -> AsyncIterator[Task]:
        step = node.step
        assert isinstance(step, Exec)
        async with AsyncExitStack() as stack:
            # A connected namespace is the step's, which holds it; an own one ended with its container.
            connection = room.connection
            if connection is not None and not connection.namespace:
                connection = await context.networks.join(step, node, stack)
            bundle = await to_end(room.shell, options)
            task = await context.runtime.create(bundle)
            try:
                await context.networks.plug(connection, task.pid, node)
                yield task
            finally:
                await end(task)

    return open_shell
