"""Walks the graph: what has a result is taken, what has none is looked up by content or executed, all at once.

Only what the target needs is looked at: below a hit nothing but the layers it stands on. Steps become ready when
their inputs are there; those with the longest way still before them go first.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from buildtool.aio import offload
from buildtool.cache import SnapshotId, Store
from buildtool.errors import BuildtoolError, NotFound, StepFailed
from buildtool.graph import Copy, Exec, Merge, Mkdir, Node, Source, StepId
from buildtool.images import Images
from buildtool.solve import events
from buildtool.solve.explain import NO_CACHE, explain
from buildtool.solve.file_steps import (
    PlannedCopy,
    PlannedMkdir,
    content_key,
    execute_copy,
    execute_merge,
    execute_mkdir,
    plan_copy,
    plan_mkdir,
)
from buildtool.solve.flights import Flights, Gate, Listener
from buildtool.solve.keys import SCRATCH_KEY, seen_key
from buildtool.solve.prepare import Prepared
from buildtool.solve.records import Copied, Records, StepResult
from buildtool.solve.request import StepRecord
from buildtool.solve.run import RunContext, execute_run
from buildtool.solve.threads import to_end
from buildtool.solve.trees import Layers, same_tree

Emit = Callable[[events.Event], None]
_UNKNOWN_SECONDS = 1.0


@dataclass
class Shared:
    """What all builds of a daemon share."""

    store: Store
    images: Images
    records: Records
    run: RunContext
    flights: Flights[StepResult]
    gate: Gate
    run_root: Path


class Solver:
    """One build's walk."""

    def __init__(self, shared: Shared, prepared: Prepared, emit: Emit) -> None:
        self.shared = shared
        self.prepared = prepared
        self.emit = emit
        self.results: dict[StepId, StepResult] = {}
        self.records: dict[StepId, StepRecord] = {}
        self.executed = False
        self.on_result: Callable[[StepId, StepResult], None] = lambda step, result: None
        self._index = {step: number for number, step in enumerate(prepared.plan.visible, 1)}
        self._bases: dict[str, asyncio.Task[list[SnapshotId]]] = {}
        self._ready: dict[StepId, asyncio.Event] = {}

    async def solve(self) -> None:
        """Fill `results` for everything the target's image consists of. Raises the error of the first failed step."""
        pending = self._demand()
        self._report_cached(pending)
        if not pending:
            return
        self._ready = {step: asyncio.Event() for step in pending}
        urgency = self._urgency(pending)
        try:
            async with asyncio.TaskGroup() as group:
                for step in pending:
                    group.create_task(self._step(step, urgency[step]))
        except BaseExceptionGroup as failures:
            raise _first(failures) from None

    def _demand(self) -> list[StepId]:
        """The steps to be executed or looked up by content, in the order of the graph."""
        plan, hits = self.prepared.plan, self.prepared.hits
        wanted: set[StepId] = set()
        stack = [plan.target]
        while stack:
            step = stack.pop()
            if step in wanted:
                continue
            wanted.add(step)
            node = plan.node(step)
            if isinstance(node.step, Source):
                continue
            if step in hits:
                self.results[step] = hits[step]
                if node.parent is not None:
                    stack.append(node.parent)
            else:
                stack.extend(node.inputs)
        return [
            step
            for step in plan.graph
            if step in wanted and step not in hits and not isinstance(plan.node(step).step, Source)
        ]

    def _report_cached(self, pending: list[StepId]) -> None:
        waiting = set(pending)
        for step in self.prepared.plan.visible:
            if step in waiting:
                continue
            node = self.prepared.node(step)
            key = self.prepared.keys[step]
            self._start(node)
            self.emit(events.StepCached(self._index[step], _short(key)))
            self.records[step] = StepRecord(node.name, key, True, 0.0, "")

    def _start(self, node: Node) -> None:
        index = self._index.get(node.id)
        if index is not None:
            self.emit(events.StepStarted(index, len(self._index), node.name, node.span))

    def _urgency(self, pending: list[StepId]) -> dict[StepId, float]:
        """For each step the seconds from its start to the end of the longest chain that begins with it."""
        plan = self.prepared.plan
        longest: dict[StepId, float] = {}
        for step in reversed(pending):
            site = self.prepared.sites.get(plan.node(step).site)
            own = site.seconds if site is not None else _UNKNOWN_SECONDS
            longest[step] = own + max((longest.get(child, 0.0) for child in plan.graph.successors(step)), default=0.0)
        return longest

    async def _step(self, step: StepId, urgency: float) -> None:
        node = self.prepared.node(step)
        for needed in node.inputs:
            if needed in self._ready:
                await self._ready[needed].wait()
        self._start(node)
        began = time.monotonic()
        key = self.prepared.keys[step]
        try:
            chains = [await self._chain(needed) for needed in node.inputs]
            planned = await self._look(node, chains)
            result, reason = await to_end(self._second_chance, node, planned)
            hit = result is not None
            if result is None:
                result = await self._execute(node, chains, planned, urgency)
        except BuildtoolError as error:
            self._failed(node, error)
            raise
        except OSError as error:
            failure = StepFailed(f"{error.filename or node.site}: {error.strerror}", where=node.span)
            self._failed(node, failure)
            raise failure from error
        seconds = time.monotonic() - began
        self.results[step] = result
        self.records[step] = StepRecord(node.name, key, hit, 0.0 if hit else seconds, reason)
        self.on_result(step, result)
        if step in self._index:
            index = self._index[step]
            self.emit(events.StepCached(index, _short(key)) if hit else events.StepDone(index, seconds, _short(key)))
        self._ready[step].set()
        await to_end(self._remember, node, result, hit)

    def _failed(self, node: Node, error: BuildtoolError) -> None:
        error.where = error.where or node.span
        code = error.exit_code_of_step if isinstance(error, StepFailed) else None
        killed = error.oom_killed if isinstance(error, StepFailed) else False
        index = self._index.get(node.id) or next(
            (self._index[child] for child in self.prepared.plan.graph.successors(node.id) if child in self._index), 0
        )
        if index:
            self.emit(events.StepFailed(index, error.message, error.where, code, killed))

    async def close(self) -> None:
        """Wait for what goes on in threads."""
        if self._bases:
            await asyncio.gather(*self._bases.values(), return_exceptions=True)

    # Trees

    def layers(self, step: StepId) -> Layers:
        """The tree of a finished step."""
        above: list[int | str] = []
        current: StepId | None = step
        base = SCRATCH_KEY
        while current is not None:
            node = self.prepared.node(current)
            if isinstance(node.step, Source):
                base = self.prepared.keys[current]
                break
            result = self.results[current]
            above.append(result.content or int(result.snapshot))
            current = node.parent
        return Layers(base, tuple(reversed(above)))

    async def _chain(self, step: StepId) -> list[SnapshotId]:
        """The snapshots of a finished step's tree, bottom first. Unpacks the base image when it is not."""
        own: list[SnapshotId] = []
        current: StepId | None = step
        while current is not None:
            node = self.prepared.node(current)
            if isinstance(node.step, Source):
                return [*await self._base(node.step), *own[::-1]]
            own.append(self.results[current].snapshot)
            current = node.parent
        return own[::-1]

    async def _base(self, source: Source) -> list[SnapshotId]:
        if not source.chain_id:
            return []
        task = self._bases.get(source.chain_id)
        if task is None:
            image = self.prepared.base_images[source.chain_id]
            task = asyncio.create_task(offload(self._unpack, image.id))
            self._bases[source.chain_id] = task
        return await asyncio.shield(task)

    def _unpack(self, image_id: str) -> list[SnapshotId]:
        snapshots = self.shared.images.snapshots(self.shared.images.get(image_id))
        for snapshot in snapshots:
            self.prepared.lease.snapshot(snapshot)
        return snapshots

    # Looking and finding

    async def _look(self, node: Node, chains: list[list[SnapshotId]]) -> PlannedCopy | PlannedMkdir | None:
        store, step = self.shared.store, node.step
        if isinstance(step, Mkdir):
            return await to_end(plan_mkdir, store, node, chains[0])
        if isinstance(step, Copy):
            chain = [] if step.link else chains[0]
            source = None if step.from_context else chains[-1]
            return await to_end(plan_copy, store, node, chain, source, self.prepared.selected.get(node.id))
        return None

    def _second_chance(self, node: Node, planned: PlannedCopy | PlannedMkdir | None) -> tuple[StepResult | None, str]:
        """A result by content key, or of an equal command on equal trees; else why the step has to be executed."""
        found = None
        if not self.prepared.request.no_cache:
            if planned is not None:
                key = content_key(planned)
                found = self.shared.records.find(key, self.prepared.lease) if key else None
            elif isinstance(node.step, Exec):
                found = self._equal_execution(node)
        return found, "" if found is not None else self._reason(node)

    def _equal_execution(self, node: Node) -> StepResult | None:
        records = self.shared.records
        for run in records.executions(seen_key(node)):
            keys = run["inputs"]
            if len(keys) != len(node.inputs):
                continue
            pairs = [(self.layers(needed), records.tree(key)) for needed, key in zip(node.inputs, keys, strict=True)]
            if all(same_tree(now, then, self._diff_id) for now, then in pairs):
                found = records.find(run["key"], self.prepared.lease)
                if found is not None:
                    return found
        return None

    def _diff_id(self, snapshot: int) -> str | None:
        try:
            return self.shared.store.layers.diff_id(SnapshotId(snapshot), self.prepared.plan.image.epoch)[0]
        except (NotFound, FileNotFoundError):
            return None

    def _reason(self, node: Node) -> str:
        """Why this step has to be executed."""
        if self.prepared.request.no_cache:
            return NO_CACHE
        site = self.prepared.sites.get(node.site)
        before = self.shared.records.preimage(site.key) if site is not None else None
        names = [self._name_of(needed) for needed in node.inputs]

        def files() -> tuple[list[str], list[str]] | None:
            copied = self.prepared.sites.copied(node.site)
            selected = self.prepared.selected.get(node.id)
            return (copied.lines, selected.lines) if copied is not None and selected is not None else None

        return explain(before, self.prepared.preimages[node.id], names, files)

    def _name_of(self, step: StepId) -> str:
        node = self.prepared.node(step)
        return "" if isinstance(node.step, Source) else node.name or node.site

    # Doing

    async def _execute(
        self,
        node: Node,
        chains: list[list[SnapshotId]],
        planned: PlannedCopy | PlannedMkdir | None,
        urgency: float,
    ) -> StepResult:
        key = self.prepared.keys[node.id]
        if self.prepared.request.no_cache:
            key = f"{key} {id(self)}"  # must not be given what began before it was asked for
        index = self._index.get(node.id, 0)

        def listen(stream: str, data: bytes) -> None:
            if index:
                self.emit(events.StepOutput(index, "stderr" if stream == "stderr" else "stdout", data))

        async def work(tell: Listener) -> StepResult:
            await self.shared.gate.enter(urgency)
            try:
                began = time.monotonic()
                snapshot = await self._make(node, chains, planned, tell)
                content = content_key(planned) if planned is not None else ""
                return StepResult(snapshot, time.monotonic() - began, content)
            finally:
                self.shared.gate.leave()

        self.executed = True
        return await self.shared.flights.run(key, work, listen)

    async def _make(
        self,
        node: Node,
        chains: list[list[SnapshotId]],
        planned: PlannedCopy | PlannedMkdir | None,
        tell: Listener,
    ) -> SnapshotId:
        store = self.shared.store
        if isinstance(planned, PlannedCopy):
            return await self._copy(planned)
        if isinstance(planned, PlannedMkdir):
            return await to_end(execute_mkdir, store, planned)
        if isinstance(node.step, Merge):
            return await to_end(execute_merge, store, chains[0], chains[1][-1])
        return await execute_run(self.shared.run, self.prepared.request, node, chains, tell)

    async def _copy(self, planned: PlannedCopy) -> SnapshotId:
        cancelled = threading.Event()
        sites, site = self.prepared.sites, planned.node.site

        def work() -> tuple[SnapshotId, Copied | None]:
            return execute_copy(self.shared.store, planned, sites.copied(site), cancelled)

        task = asyncio.ensure_future(offload(work))
        try:
            snapshot, copied = await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()
            raise
        if copied is not None:
            await offload(sites.set_copied, site, copied)
        return snapshot

    def _remember(self, node: Node, result: StepResult, hit: bool) -> None:
        """Records for the next build: under the definition key, and under the one found by content."""
        records, prepared = self.shared.records, self.prepared
        prepared.lease.snapshot(result.snapshot)
        key, preimage = prepared.keys[node.id], prepared.preimages[node.id]
        records.put(key, preimage, result, prepared.keys[node.parent] if node.parent is not None else SCRATCH_KEY)
        if result.content and not hit:
            records.put(result.content, {"level": "content"}, result)
        if isinstance(node.step, Exec) and not hit:
            records.note_execution(seen_key(node), key, [prepared.keys[needed] for needed in node.inputs])
        prepared.sites.set(node.site, key, result.seconds)


def _short(key: str) -> str:
    return key.removeprefix("sha256:")[:12]


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell the user: the first that is no mere consequence."""
    for error in failures.exceptions:
        found = _first(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(found, asyncio.CancelledError):
            return found
    return failures.exceptions[0]
