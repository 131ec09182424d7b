"""The builder: one door from a request to an image."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from buildtool.aio import offload
from buildtool.buildfile import IgnoreRules
from buildtool.cache import SnapshotId, Store
from buildtool.cache.memory_files import let_go, remembered
from buildtool.errors import BuildtoolError, InvalidInput
from buildtool.graph import Exec, Plan, StepId
from buildtool.images import Image, Images
from buildtool.images.model import annotations_of
from buildtool.networks import Networks
from buildtool.oci import Reference, parse_reference
from buildtool.runtime import Runtime, Task
from buildtool.solve.ahead import Ahead, first_compression
from buildtool.solve.attest import attest
from buildtool.solve.base_trees import BaseRegistry
from buildtool.solve.cache_keeper import CacheKeeper
from buildtool.solve.cache_mounts import CacheMounts
from buildtool.solve.caches.exporting import Export, inline_records
from buildtool.solve.caches.importing import Imports, add_hits
from buildtool.solve.caches.lazy import LostLayer
from buildtool.solve.caches.options import CacheTarget
from buildtool.solve.caches.records import encode_inline
from buildtool.solve.events import Built, Event, Tell, Warning, telling
from buildtool.solve.flights import Flights
from buildtool.solve.gate import Gate, default_capacity
from buildtool.solve.history import BuildHistory, Recording
from buildtool.solve.platforms import by_platform, index_notes, refuse_foreign
from buildtool.solve.prepare import Prepared
from buildtool.solve.preparing import Preparing
from buildtool.solve.records import Records, StepResult, forget_old_files
from buildtool.solve.remotes import Remotes
from buildtool.solve.request import BuildRequest, BuildResult, BuildWarning
from buildtool.solve.result import LayerDigests, Layers, add_image, find_image, fits, image_key, without_empty
from buildtool.solve.run_chroot import NO_COMMANDS, forget_tree, only_chroot_is_possible, refuse_commands
from buildtool.solve.run_chroot import WARNING as CHROOT_WARNING
from buildtool.solve.run_mounts import SharedFiles
from buildtool.solve.run_network import RunNetworks
from buildtool.solve.run_room import RunContext
from buildtool.solve.settling import Settling
from buildtool.solve.solver import Shared, Solver

_FLUSH_EVERY = 60.0


class Builder:
    """Builds images. Concurrent builds share work: a step that several need at once is executed once."""

    def __init__(
        self,
        store: Store,
        images: Images,
        runtime: Runtime,
        run_root: Path,
        registry: BaseRegistry | None = None,
        networks: Networks | None = None,
    ) -> None:
        """Without `registry`, a base image that is not in the store is an error; without `networks`, RUN steps have
        the host's.
        """
        self._networks = RunNetworks(networks)
        self._background: set[asyncio.Task[None]] = set()
        self._settling = Settling(store)
        self._store = store
        self._images = images
        self._records = Records(store)
        self.history = BuildHistory(store)
        self.remotes = Remotes(store)
        self._preparing = Preparing(store, images, self._records, self.remotes, registry)
        directory = run_root / "builds"
        self._shared = Shared(
            store=store,
            images=images,
            records=self._records,
            run=RunContext(
                store,
                runtime,
                directory,
                CacheMounts(store.root / "mounts"),
                SharedFiles(directory / "shared"),
                self._go_on,
                self._networks,
                only_chroot_is_possible(store.root),
            ),
            flights=Flights[StepResult](),
            gate=Gate(default_capacity()),
            run_root=run_root,
            registry=registry,
            looks=asyncio.Semaphore(os.cpu_count() or 1),
        )
        self.cache = CacheKeeper(store, self._shared.run.cache_mounts)
        self.cache.remove_leftovers()
        self._left: list[Path] | None = None
        forget_old_files(store.root)
        left = [path for place in remembered(directory) for path in place.iterdir() if path.is_dir()]
        if left:
            self._left = left

    async def build(
        self, request: BuildRequest, emit: Callable[[Event], None], begun: Callable[[str], None] = lambda build: None
    ) -> BuildResult:
        """Build an image, telling `emit` what happens, and `begun` first of all its id in the history.

        Cancelling the caller's task kills running steps, waits for their end and leaves nothing behind. Raises
        InvalidInput and NotFound for what the Buildfile asks, StepFailed for a failed step, StoreFull.
        """
        tags = [_tag(name) for name in request.tags]
        self._networks.check(request.network_mode)
        if request.isolation not in ("", "default", "chroot"):
            raise InvalidInput(f"unknown isolation {request.isolation!r}", hint="There are default and chroot.")
        IgnoreRules.parse("\n".join(request.cutoff_ignore), "--cutoff-ignore")
        if request.jobs < 0:
            raise InvalidInput(f"invalid number of jobs: {request.jobs}", hint="0 or none is no limit.")
        recording = self.history.begin(request, [tag.familiar for tag in tags])
        begun(recording.record.id)

        def tell(event: Event) -> None:
            recording.tell(event)
            emit(event)

        try:
            result, executed = await self._build(request, tags, tell, recording)
        except BaseException as error:
            if recording.record.status == "running":  # before there was a plan
                recording.end(error=error)
            self._later(self.history.keep, recording.record)
            raise
        self._later(self._after, recording)
        if executed:
            self._settling.soon()
        return result

    async def _build(
        self, request: BuildRequest, tags: list[Reference], emit: Callable[[Event], None], recording: Recording
    ) -> tuple[BuildResult, bool]:
        """The result, and whether any step was executed."""
        await self.clear_left()

        def warn(text: str) -> None:
            emit(Warning(text, None))

        imports = Imports(self._store, request.caches, warn, telling(emit))
        with self._store.leases.hold(f"build {request.dockerfile_name}") as lease:
            if request.caches.origins and not request.no_cache:
                await imports.open()
            while True:
                began = time.monotonic()
                prepared = await self._preparing.prepare(request, lease, emit)
                if request.caches.origins and not request.no_cache:
                    generations: dict[str, str] = {}
                    while found := await imports.generations(prepared):  # one of them may tell of the next
                        generations |= found
                        prepared = await self._preparing.prepare(request, lease, emit, generations)
                    await add_hits(prepared, imports)
                    await imports.fill_mounts(prepared, self._shared.run.cache_mounts)
                recording.phase("prepare", began)
                try:
                    return await self._solve(prepared, imports, tags, emit, recording)
                except LostLayer as lost:
                    warn(f"{lost.message}; what it was found for is executed")
                    imports.refuse(lost.diff_id, lost.silent)

    async def _solve(
        self,
        prepared: Prepared,
        imports: Imports,
        tags: list[Reference],
        emit: Callable[[Event], None],
        recording: Recording,
    ) -> tuple[BuildResult, bool]:
        request = prepared.request
        if request.isolation == "chroot" or self._shared.run.chroot:
            nodes = (prepared.node(step) for step in prepared.plan.graph)
            if any(isinstance(node.step, Exec) and node.id not in prepared.hits for node in nodes):
                prepared.warnings.append(BuildWarning(CHROOT_WARNING))
        if os.geteuid() != 0:
            refuse_commands(prepared)
            prepared.warnings.append(BuildWarning(NO_COMMANDS))
        for warning in prepared.warnings:
            emit(Warning(warning.message, warning.where))
        refuse_foreign(prepared)
        parts = by_platform(prepared)
        layers = Layers(self._store, prepared.lease, first_compression(request))
        bases = [part.base(part.plan.image.base) for part in parts if part.plan.image.base is not None]
        ahead = Ahead(request.destinations, bases)
        digests = [LayerDigests(self._store, part.plan.image, layers, ahead.add) for part in parts]
        solver = Solver(self._shared, prepared, emit, imports)
        exports = self._exports(prepared, imports, layers, telling(emit))

        def done(step: StepId, result: StepResult) -> None:
            if solver.executed:
                ahead.executed()
            for each in digests:
                each.begin(step, result)
            for _, export in exports:
                export.begin(step, result)

        solver.on_result = done
        try:
            began = time.monotonic()
            await solver.solve()
            recording.phase("solve", began)
            began = time.monotonic()
            alone = tags if len(parts) == 1 else []
            made = [await self._image(part, solver, each, alone) for part, each in zip(parts, digests, strict=True)]
            images = [
                await self._attested(part, image, recording, imports, emit)
                for part, (image, _) in zip(parts, made, strict=True)
            ]
            index = None
            if len(parts) > 1:
                index = await offload(self._images.name_index, images, tags, index_notes(request, images))
            image = images[0]
            recording.phase("export", began)
            began = time.monotonic()
            await self._give(exports, solver, emit)
            if prepared.request.caches.targets:
                recording.phase("cache export", began)
        except LostLayer:
            raise
        except BaseException as error:
            ahead.cancel()
            recording.end(error=error, steps=solver.ledger.all(), warnings=prepared.warnings)
            raise
        finally:
            for _, export in exports:
                await export.close()
            await solver.close()
            if request.isolation == "chroot" or self._shared.run.chroot:
                await forget_tree(self._store)
            for each in digests:
                await each.close()
            await layers.close()
            if prepared.sites.changed:
                await offload(prepared.sites.save)
        named = image.id if index is None else index.digest
        emit(Built(named, tuple(tag.familiar for tag in tags)))
        is_new = any(is_new for _, is_new in made)
        steps, build = solver.ledger.all(), recording.record.id
        result = BuildResult(image, steps, prepared.warnings, build, is_new, tuple(images), index)
        recording.end(image=named, steps=result.steps, warnings=result.warnings)
        return result, solver.executed

    def _exports(
        self, prepared: Prepared, imports: Imports, layers: Layers, tell: Tell
    ) -> list[tuple[CacheTarget, Export]]:
        return [
            (target, Export(self._images, prepared, target, self._shared.run.cache_mounts, imports, layers, tell))
            for target in prepared.request.caches.targets
        ]

    async def _give(
        self, exports: list[tuple[CacheTarget, Export]], solver: Solver, emit: Callable[[Event], None]
    ) -> None:
        """Send the results to the caches they are to go to, one after the other."""
        for target, export in exports:
            try:
                await export.run(solver.results)
            except (BuildtoolError, OSError, TimeoutError) as error:
                reason = error.message if isinstance(error, BuildtoolError) else str(error) or "it takes too long"
                if not target.ignore_errors:
                    raise BuildtoolError(f"cannot export the cache to {target.name}: {reason}") from error
                emit(Warning(f"the cache is not exported to {target.name}: {reason}", None))

    async def _attested(
        self,
        prepared: Prepared,
        image: Image,
        recording: Recording,
        imports: Imports,
        emit: Callable[[Event], None],
    ) -> Image:
        """The image, with what the request wants to be stated about it."""

        async def aside(request: BuildRequest) -> tuple[Plan, list[SnapshotId]]:
            besides = await self._preparing.prepare(request, prepared.lease, emit)
            if request.caches.origins:
                await add_hits(besides, imports)
            solver = Solver(self._shared, besides, lambda event: None, imports)
            try:
                await solver.solve()
                return besides.plan, await solver.trees.chain(besides.plan.target)
            finally:
                await solver.close()

        wanted = prepared.request.attest
        if wanted is None:
            return image
        return await attest(self._images, wanted, prepared, image, recording.record, aside, telling(emit))

    async def close(self) -> None:
        """Wait for what finished builds still have to write."""
        if self._background:
            await asyncio.wait(self._background)
        await self._settling.close()

    async def clear_left(self) -> None:
        """End and remove what steps of a killed daemon left: processes, control groups, bundles."""
        left, self._left = self._left, None
        for path in left or ():
            if (path / "bundle").is_dir():
                found = await self._shared.run.runtime.reattach(path / "bundle")
                if isinstance(found, Task):
                    await found.delete()
            await offload(shutil.rmtree, path, ignore_errors=True)
            let_go(path.parent)

    async def _image(
        self, prepared: Prepared, solver: Solver, digests: LayerDigests, tags: list[Reference]
    ) -> tuple[Image, bool]:
        plan = prepared.plan.image
        if any(line.optional for line in plan.history):
            plan = await offload(without_empty, plan, solver.results, self._store)
        base = prepared.base(plan.base) if plan.base is not None else None
        if base is not None:
            base = self._images.find(base.id) or base  # more of its layers may be here by now
        for step in plan.chain:
            if not (solver.results[step].is_here or fits(solver.results[step], plan.epoch)):
                await solver.trees.chain(step)
        cache = None
        if prepared.request.caches.inline:
            cache = encode_inline(await offload(inline_records, prepared, solver.results, self._store))
        wanted = prepared.request.annotations_for(plan.platform)
        key = image_key(plan, base, solver.results, cache)
        if not solver.executed:
            found = await offload(find_image, self._images, self._records, key, tags)
            if found is not None and (not wanted or annotations_of(self._store, found) == wanted):
                return found, False
        layers = await digests.get(plan.chain, solver.results)

        def add() -> tuple[Image, bool]:
            image, is_new = add_image(self._images, plan, base, layers, tags, cache, wanted)
            self._records.put_image(key, image.id)
            return image, is_new

        return await offload(add)

    def _later(self, work: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        self._go_on(offload(work, *args, **kwargs))

    def _go_on(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _after(self, recording: Recording) -> None:
        """The build's record."""
        self.history.keep(recording.record)
        self._store.actions.flush(every=_FLUSH_EVERY)


def _tag(name: str) -> Reference:
    try:
        return parse_reference(name).with_default_tag()
    except BuildtoolError as error:
        error.hint = error.hint or f"the tag was {name!r}"
        raise
