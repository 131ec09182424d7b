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
from buildtool.errors import BuildtoolError, StepFailed
from buildtool.graph import Copy, Exec, Merge, Mkdir, Node, Source, Squash, StepId, digest_of
from buildtool.images import Images
from buildtool.solve.base_trees import BaseRegistry, BaseTrees
from buildtool.solve.caches.importing import Imports
from buildtool.solve.caches.lazy import LazyLayers, LostLayer
from buildtool.solve.debug import held_back, stops, visit_before
from buildtool.solve.events import telling
from buildtool.solve.expiry import expired
from buildtool.solve.explain import Difference
from buildtool.solve.file_steps import (
    CopyResult,
    PlannedCopy,
    PlannedMkdir,
    archive_preimage,
    content_key,
    execute_copy,
    execute_merge,
    execute_mkdir,
    plan_copy,
    plan_mkdir,
    tree_of,
)
from buildtool.solve.files import FileSource, TreeFiles
from buildtool.solve.finding import Finder
from buildtool.solve.flights import Flights, Listener
from buildtool.solve.gate import Gate, longest_ways
from buildtool.solve.ledger import Emit, Ledger
from buildtool.solve.prepare import Prepared
from buildtool.solve.records import Records, StepResult
from buildtool.solve.remembering import Remembering
from buildtool.solve.run import Usage
from buildtool.solve.run_room import RunContext
from buildtool.solve.squash import execute_squash
from buildtool.solve.step_trees import StepTrees
from buildtool.solve.threads import first_error, to_end
from buildtool.solve.tries import execute_tries

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
    registry: BaseRegistry | None
    looks: asyncio.Semaphore
    """How many threads look at trees at a time: thousands of small system calls, which only hinder each other."""


class Solver:
    """One build's walk."""

    def __init__(self, shared: Shared, prepared: Prepared, emit: Emit, imports: Imports | None = None) -> None:
        self.shared = shared
        self.prepared = prepared
        self.ledger = Ledger(prepared, emit)
        self.results: dict[StepId, StepResult] = {}
        self.executed = False
        self.on_result: Callable[[StepId, StepResult], None] = lambda step, result: None
        self._ready: dict[StepId, asyncio.Event] = {}
        self._stops: set[StepId] = set()
        self._held: dict[StepId, StepResult] = {}
        self.imports = imports
        self._elsewhere: dict[str, StepResult] = {}
        caches = prepared.request.caches
        self._remembering = Remembering(shared.records, prepared)
        self.trees = StepTrees(
            prepared,
            self.results,
            self._ready,
            BaseTrees(shared.store, shared.images, prepared, shared.registry, telling(emit)),
            LazyLayers(shared.store, prepared.lease, caches.fetch, telling(emit), caches.patience),
            lambda node, result: to_end(self._remembering.arrived, node, result),
        )
        self._finder = Finder(shared.store, shared.records, prepared, self.results, self._elsewhere)
        self._share = shared.gate.share(prepared.request.jobs)

    async def solve(self) -> None:
        """Fill `results` for everything the target's image consists of. Raises the error of the first failed step."""
        self._stops = stops(self.prepared.plan, self.prepared.request)
        self._held = held_back(self.prepared.plan, self._stops, self.prepared.hits)
        self.results.update(self._held)
        pending = self._demand()
        self._report_cached(pending)
        if not pending:
            return
        self._ready.update({step: asyncio.Event() for step in pending})
        urgency = longest_ways(pending, self.prepared.plan.graph.successors, self._expected)
        try:
            async with asyncio.TaskGroup() as group:
                for step in pending:
                    group.create_task(self._step(step, urgency[step]))
        except BaseExceptionGroup as failures:
            raise first_error(failures) from None

    def _demand(self) -> list[StepId]:
        """The steps to be executed or looked up by content, in the order of the graph."""
        plan, hits = self.prepared.plan, self.prepared.hits
        wanted: set[StepId] = set()
        stack = [*plan.targets, *self._stops]
        while stack:
            step = stack.pop()
            if step in wanted:
                continue
            wanted.add(step)
            node = plan.node(step)
            if node.is_source:
                continue
            if step in hits:
                self.results[step] = hits[step]
                if node.parent is not None:
                    stack.append(node.parent)
            else:
                stack.extend(node.inputs)
        return [step for step in plan.graph if step in wanted and step not in hits and not plan.node(step).is_source]

    def _report_cached(self, pending: list[StepId]) -> None:
        waiting = set(pending)
        for step in self.prepared.plan.visible:
            if step in waiting:
                continue
            node = self.prepared.node(step)
            self.ledger.start(node)
            found = self.results.get(step)
            base = node.is_source
            self.ledger.cached(node, "base" if base else "unneeded" if found is None else "definition")
            if found is not None:
                self.prepared.sites.set(node.site, self.prepared.keys[step], found)

    def _expected(self, step: StepId) -> float:
        """How many seconds the step took the last time."""
        site = self.prepared.sites.get(self.prepared.plan.node(step).site)
        return site.seconds if site is not None else _UNKNOWN_SECONDS

    async def _step(self, step: StepId, urgency: float) -> None:
        node = self.prepared.node(step)
        for needed in node.inputs:
            if needed in self._ready:
                await self._ready[needed].wait()
        self.ledger.start(node)
        began = time.monotonic()
        planned: PlannedCopy | PlannedMkdir | None = None
        result: StepResult | None = None
        early = isinstance(node.step, Exec) and step not in self._stops
        try:
            if early:  # an equal tree is known without that what it consists of is here
                result, hit, reasons = await self._find(node, None)
            if result is None:
                partly = await self.trees.partly(node) if step not in self._stops else None
                chains = await (self.trees.of_all(node) if step in self._stops else self.trees.of(node, partly))
                if step in self._stops:
                    await visit_before(self.shared.run, self.prepared.request, node, chains)
                if step in self._held:
                    self.ledger.cached(node, "definition", began)
                    self.prepared.sites.set(node.site, self.prepared.keys[step], self._held[step])
                    self._ready[step].set()
                    return
                planned = await self._look(node, chains, partly)
                await self._ask(planned)
                if not early:
                    result, hit, reasons = await self._find(node, planned)
            if result is None:
                result = await self._execute(node, chains, planned, urgency)
        except asyncio.CancelledError:
            self.ledger.canceled(node, began)
            raise
        except LostLayer:
            raise  # no failure of the step: the build begins again without that layer
        except BuildtoolError as error:
            self.ledger.failed(node, error, began)
            raise
        except OSError as error:
            failure = StepFailed(f"{error.filename or node.site}: {error.strerror}", where=node.span)
            self.ledger.failed(node, failure, began)
            raise failure from error
        self.results[step] = result
        if hit:
            self.ledger.cached(node, hit, began)
        else:
            self.ledger.done(node, result, began, reasons)
        self.on_result(step, result)
        self._ready[step].set()
        await to_end(self._remembering.done, node, planned, result, bool(hit))

    async def close(self) -> None:
        """Wait for what goes on beside the steps."""
        await self.trees.close()

    # Looking and finding

    async def _look(
        self, node: Node, chains: list[list[SnapshotId]], partly: Source | None
    ) -> PlannedCopy | PlannedMkdir | None:
        store, step = self.shared.store, node.step
        if isinstance(step, Mkdir):
            async with self.shared.looks:
                return await to_end(plan_mkdir, store, node, chains[0])
        if not isinstance(step, Copy):
            return None

        async def look(files: FileSource | None) -> PlannedCopy:
            chain, learnt = [] if step.link else chains[0], self.shared.records.archive_reads
            async with self.shared.looks:
                return await to_end(plan_copy, store, node, chain, files, self.prepared.selected.get(node.id), learnt)

        if partly is not None:
            return await self.trees.look(partly, look, whole=step.parents)
        return await look(None if step.from_context else TreeFiles(tree_of(store, chains[-1])))

    async def _ask(self, planned: PlannedCopy | PlannedMkdir | None) -> None:
        """Whether a cache elsewhere has the content that a COPY is about to make."""
        key = content_key(planned) if planned is not None else ""
        if not key or self.imports is None or self.prepared.request.no_cache:
            return
        if self.shared.records.find(key, self.prepared.lease) is None:
            self._elsewhere |= await self.imports.find([key])

    async def _find(
        self, node: Node, planned: PlannedCopy | PlannedMkdir | None
    ) -> tuple[StepResult | None, str, list[Difference]]:
        for needed in node.inputs:
            await self.trees.settled(needed)
        result, hit, reasons = await to_end(self._finder.find, node, planned)
        if result is None and isinstance(node.step, Exec) and not node.step.execution.no_cache:
            result, hit = await self._equal_elsewhere(node, node.step), "tree"
        return (result, hit, reasons) if result is not None else (None, "", reasons)

    async def _equal_elsewhere(self, node: Node, step: Exec) -> StepResult | None:
        """What an equal command on an equal tree made on another machine."""
        if self.imports is None or self.prepared.request.no_cache or not self.imports.may_know(node):
            return None
        key = await to_end(self._finder.tree_key, node)
        found = (await self.imports.find([key])).get(key) if key else None
        return None if found is None or expired(found.made, step.execution) else found

    # Doing

    async def _execute(
        self,
        node: Node,
        chains: list[list[SnapshotId]],
        planned: PlannedCopy | PlannedMkdir | None,
        urgency: float,
    ) -> StepResult:
        key = self.prepared.keys[node.id]
        if self.prepared.request.no_cache or self.prepared.request.debug is not None:
            key = f"{key} {id(self)}"  # must not be given what began before it was asked for

        def listen(stream: str, data: bytes) -> None:
            self.ledger.output(node, stream, data)

        mine, records = False, self.shared.records
        site = self.prepared.sites.get(node.site)

        async def work(tell: Listener) -> StepResult:
            nonlocal mine
            mine, waits = True, time.monotonic()
            async with self._share.place(urgency, site.cpu if site is not None else 0.0):
                began = time.monotonic()
                self.ledger.waited[node.id] = began - waits
                usage = Usage()
                try:
                    snapshot = await self._make(node, chains, planned, tell, usage)
                finally:
                    if usage.cache_mounts:
                        await to_end(records.note_mounts, usage.cache_mounts, self._remembering.origin(node))
                seconds = time.monotonic() - began
                preimage = self._remembering.by_content(node, planned)
                content = digest_of(preimage) if preimage is not None else ""
                return StepResult(snapshot, seconds, content, usage.processors, time.time())

        self.executed = True
        result = await self.shared.flights.run(key, work, listen)
        if not mine:
            self.ledger.joined.add(node.id)
        return result

    async def _make(
        self,
        node: Node,
        chains: list[list[SnapshotId]],
        planned: PlannedCopy | PlannedMkdir | None,
        tell: Listener,
        usage: Usage,
    ) -> SnapshotId:
        store = self.shared.store
        if isinstance(planned, PlannedCopy):
            return await self._copy(planned)
        if isinstance(planned, PlannedMkdir):
            return await to_end(execute_mkdir, store, planned)
        if isinstance(node.step, Merge):
            return await to_end(execute_merge, store, chains[0], chains[1][-1])
        if isinstance(node.step, Squash):
            return await to_end(execute_squash, store, chains[-1], node.step.layers)
        return await execute_tries(self.shared.run, self.prepared.request, node, chains, tell, usage)

    async def _copy(self, planned: PlannedCopy) -> SnapshotId:
        cancelled = threading.Event()
        sites, site = self.prepared.sites, planned.node.site

        def work() -> CopyResult:
            return execute_copy(self.shared.store, planned, sites.copied(site), cancelled)

        task = asyncio.ensure_future(offload(work))
        try:
            made = await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()
            raise
        if made.copied is not None:
            await offload(sites.set_copied, site, planned.selected.digest, made.copied)
        if made.reads is not None:
            self._remembering.learnt[planned.node.id] = archive_preimage(planned, made.reads)
            await offload(self.shared.records.note_archive_reads, planned.asking, made.reads)
        return made.snapshot
