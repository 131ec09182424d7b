"""Results into caches that travel: only what is not there already is compressed and sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from buildtool.aio import offload
from buildtool.cache import Store
from buildtool.errors import BuildtoolError
from buildtool.graph import Copy, Exec, StepId
from buildtool.images import Images, LayerSource
from buildtool.images.forms import find_form, make_form
from buildtool.oci import Descriptor, Digest
from buildtool.solve.build_trees import BuildTrees
from buildtool.solve.cache_mounts import CacheMounts
from buildtool.solve.caches.backend import CacheBackend
from buildtool.solve.caches.importing import Imports
from buildtool.solve.caches.mounts import export_mount, mounts_of
from buildtool.solve.caches.options import CacheTarget
from buildtool.solve.caches.records import (
    BUNDLE,
    Bundle,
    CacheRecord,
    InlineRecord,
    decode_bundle,
    encode_bundle,
    encode_record,
)
from buildtool.solve.events import Tell
from buildtool.solve.keys import SCRATCH_KEY, generation_pointer
from buildtool.solve.prepare import Prepared
from buildtool.solve.records import StepResult
from buildtool.solve.result import Layers, fits, layer_of
from buildtool.solve.threads import to_end, together

R = TypeVar("R")
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A result that may go out, with its layer as it would."""

    step: StepId
    result: StepResult
    layer: LayerSource


def candidates(prepared: Prepared, results: Mapping[StepId, StepResult], mode: str, store: Store) -> list[Candidate]:
    """The results of a finished build that the mode asks for, in the order of the graph. Blocking."""
    plan = prepared.plan
    wanted = plan.exported if mode == "min" else set(plan.graph)
    found = []
    for step in plan.graph:
        result = results.get(step) or prepared.hits.get(step)
        if step not in wanted or result is None or not _may_travel(prepared, step):
            continue
        if result.is_here or fits(result, plan.epoch_of(step)):
            found.append(Candidate(step, result, layer_of(result, plan.epoch_of(step), store)))
    return found


def _may_travel(prepared: Prepared, step: StepId) -> bool:
    node = prepared.node(step)
    if not node.has_layer or step not in prepared.preimages:
        return False
    if isinstance(node.step, Exec) and node.step.execution.no_cache:
        return False
    # what a RUN sees of the context through a mount is as quickly copied as fetched
    return bool(node.name) or not isinstance(node.step, Copy) or not node.step.from_context


def inline_records(prepared: Prepared, results: Mapping[StepId, StepResult], store: Store) -> list[InlineRecord]:
    """What an image's config says of its own layers. Blocking."""
    plan = prepared.plan
    below = len(prepared.base_images[plan.image.base.chain_id].layers) if plan.image.base is not None else 0
    by_step = {each.step: each for each in candidates(prepared, results, "min", store)}
    trees = BuildTrees(store, prepared, results)
    return [
        InlineRecord(
            key=Digest(prepared.keys[step]),
            layer=below + index,
            size=by_step[step].layer.size,
            content=by_step[step].result.content,
            tree=_tree(prepared, trees, step),
            below=_below(prepared, step),
            squash=store.squash_ids,
            epoch=plan.image.epoch,
        )
        for index, step in enumerate(plan.image.chain)
        if step in by_step
    ]


class Export:
    """One build's results on their way to a cache: layers as soon as their steps are done, the records at the end."""

    def __init__(
        self,
        images: Images,
        prepared: Prepared,
        target: CacheTarget,
        mounts: CacheMounts,
        imports: Imports,
        layers: Layers,
        tell: Tell,
    ) -> None:
        self._store = images.store
        self._locks = images.locks
        self._layers = layers
        self._there = imports.there(target.name)
        self._opening: asyncio.Task[tuple[CacheBackend, Bundle]] | None = None
        self._early: dict[StepId, asyncio.Task[tuple[Descriptor, bool] | None]] = {}
        self._mounts = mounts
        self._prepared = prepared
        self._target = target
        self._fetch = prepared.request.caches.fetch
        self._tell = tell
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def begin(self, step: StepId, result: StepResult) -> None:
        """A step is done: its layer may go, if it is one that goes."""
        plan = self._prepared.plan
        unwanted = self._target.mode == "min" and step not in plan.exported
        if (
            unwanted
            or not result.is_here
            or not _may_travel(self._prepared, step)
            or self._prepared.keys[step] in self._there
        ):
            return
        if step not in self._early:
            self._early[step] = asyncio.create_task(self._send_early(step, result))

    async def _send_early(self, step: StepId, result: StepResult) -> tuple[Descriptor, bool] | None:
        backend, bundle = await self._opened()
        known = {record.key for record in bundle.records}
        if self._prepared.keys[step] in known:
            return None
        layer = await self._layers.get(result, self._prepared.plan.epoch_of(step))
        there = {record.blob.digest for record in bundle.records}
        return await self._blob(backend, Candidate(step, result, layer), there)

    async def _opened(self) -> tuple[CacheBackend, Bundle]:
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> tuple[CacheBackend, Bundle]:
        backend = await self._target.open()
        return backend, await self._known(backend)

    async def close(self) -> None:
        """End what goes on; for builds that failed, too."""
        tasks = [task for task in (*self._early.values(), self._opening) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self, results: Mapping[StepId, StepResult]) -> None:
        """Send what is missing. Raises BuildtoolError, TimeoutError."""
        chosen = await to_end(candidates, self._prepared, results, self._target.mode, self._store)
        keys = {self._prepared.keys[each.step] for each in chosen}
        if keys <= self._there.keys() and not self._target.mounts:
            self._tell(f"exporting cache to {self._target.name}: nothing is new")
            return
        async with asyncio.timeout(self._target.seconds):
            await self._send(chosen, BuildTrees(self._store, self._prepared, results))

    async def _send(self, chosen: list[Candidate], trees: BuildTrees) -> None:
        again = self._opening is not None
        backend, bundle = await self._opened()
        if again:  # others may have written meanwhile
            bundle = await self._known(backend)
        mounts = await self._send_mounts(backend)
        known = bundle.records
        by_key = {record.key: record for record in known}
        fresh = [each for each in chosen if self._prepared.keys[each.step] not in by_key]
        there = {record.blob.digest for record in known}
        unique = {each.layer.diff_id: each for each in fresh}
        made = await together(self._sent(backend, each, there) for each in unique.values())
        blobs = dict(zip(unique, made, strict=True))
        records = await to_end(lambda: [self._record(each, blobs[each.layer.diff_id][0], trees) for each in fresh])
        await together(self._put(backend, record) for record in records)
        used = [by_key[key] for each in chosen if (key := Digest(self._prepared.keys[each.step])) in by_key]
        if known and not records and mounts <= set(bundle.mounts):
            self._tell(f"exporting cache to {self._target.name}: nothing is new")
            return
        data, kept = encode_bundle([*records, *used, *known], sorted({*bundle.mounts, *mounts}))
        layers = {record.blob.digest: record.blob for record in kept}
        await backend.put_bundle(data, BUNDLE, list(layers.values()))
        sent = [blob.size for blob, is_new in blobs.values() if is_new]
        self._tell(
            f"exported cache to {self._target.name}: {len(records)} of {len(chosen)} records, "
            f"{len(sent)} layers of {sum(sent)} bytes were new"
        )

    async def _known(self, backend: CacheBackend) -> Bundle:
        """What the bundle has by now: another build may have written it."""
        loaded = await backend.load()
        if not loaded or loaded[0][1] != BUNDLE:
            return Bundle([], [], [])
        try:
            return decode_bundle(loaded[0][0])
        except BuildtoolError:
            return Bundle([], [], [])  # it is written anew

    async def _send_mounts(self, backend: CacheBackend) -> set[str]:
        """Send what is new of the cache mounts; the ids of those that there are."""
        wanted = self._target.mounts
        plan = self._prepared.plan
        used = mounts_of(plan.node(step) for step in plan.graph) if wanted else set()
        sent = set()
        for id in sorted(used if "*" in wanted else {*wanted}):
            lease = self._prepared.lease
            if await export_mount(self._store, lease, self._mounts, backend, id, self._tell):
                sent.add(id)
        return sent

    async def _sent(self, backend: CacheBackend, candidate: Candidate, there: set[Digest]) -> tuple[Descriptor, bool]:
        early = self._early.get(candidate.step)
        found = await early if early is not None else None
        return found or await self._blob(backend, candidate, there)

    async def _blob(self, backend: CacheBackend, candidate: Candidate, there: set[Digest]) -> tuple[Descriptor, bool]:
        """The layer's blob, which is in the cache afterwards, and whether it was not before."""
        layer, lease = candidate.layer, self._prepared.lease
        if backend.source in layer.sources and layer.blob is not None:
            return layer.blob, False
        async with self._slots:
            if layer.blob is not None and layer.snapshot is None:
                await self._bring(layer, layer.blob)
            async with self._locks(layer.diff_id):  # a push may be making the same
                blob = await to_end(find_form, self._store, layer, self._target.compression, lease, layer.blob)
                if blob is None:
                    blob = await to_end(make_form, self._store, layer, self._target.compression, lease)
            if blob.digest in there or await backend.has_blob(blob.digest):
                return blob, False
            await backend.put_blob(blob, self._store.blobs.path(blob.digest))
        return blob, True

    async def _bring(self, layer: LayerSource, blob: Descriptor) -> None:
        self._prepared.lease.blob(blob.digest)
        if not await offload(self._store.blobs.has, blob.digest) and self._fetch is not None:
            await self._fetch(layer, self._tell)

    def _record(self, candidate: Candidate, blob: Descriptor, trees: BuildTrees) -> CacheRecord:
        result, layer = candidate.result, candidate.layer
        plain, _ = self._prepared.generations.get(candidate.step, ("", ""))
        return CacheRecord(
            key=Digest(self._prepared.keys[candidate.step]),
            diff_id=layer.diff_id,
            size=layer.size,
            blob=blob,
            epoch=layer.epoch or self._prepared.plan.epoch_of(candidate.step),
            content=result.content,
            tree=_tree(self._prepared, trees, candidate.step),
            generations=generation_pointer(plain) if plain else "",
            below=_below(self._prepared, candidate.step),
            seconds=round(result.seconds, 3),
            cpu=round(result.cpu, 2),
            made=round(result.made, 3),
            squash=self._store.squash_ids,
            preimage=self._prepared.preimages[candidate.step],
        )

    async def _put(self, backend: CacheBackend, record: CacheRecord) -> None:
        async with self._slots:
            await backend.put_record(record.names, encode_record(record), record.blob)


def _tree(prepared: Prepared, trees: BuildTrees, step: StepId) -> str:
    node = prepared.node(step)
    return trees.key(node) if isinstance(node.step, Exec) else ""


def _below(prepared: Prepared, step: StepId) -> str:
    parent = prepared.node(step).parent
    return prepared.keys[parent] if parent is not None else SCRATCH_KEY
