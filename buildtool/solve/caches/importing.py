"""Results out of caches that travel: asked for when the graph is known, and only for what it asks.

A cache that fails, is slow or holds what cannot be true is told of once and does without: the steps are executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from buildtool.aio import offload
from buildtool.cache import SnapshotId, Store
from buildtool.errors import BuildtoolError, Corrupt
from buildtool.graph import Exec, Node, StepId
from buildtool.images import LayerSource
from buildtool.oci import Descriptor, Digest
from buildtool.solve.cache_mounts import CacheMounts, cache_mount_name
from buildtool.solve.caches.backend import CacheBackend
from buildtool.solve.caches.mounts import import_mount, mounts_of
from buildtool.solve.caches.options import CacheOrigin, Caches
from buildtool.solve.caches.records import BUNDLE, CacheRecord, decode_bundle, decode_inline, decode_record
from buildtool.solve.events import Tell
from buildtool.solve.expiry import expired, next_generation
from buildtool.solve.keys import generation_pointer, seen_key, seen_key_of
from buildtool.solve.prepare import Prepared
from buildtool.solve.records import StepResult

_MOUNT_TIMES = 10


@dataclass
class _Cache:
    """One that answers. `single`: it has records outside of the bundle, too."""

    origin: CacheOrigin
    backend: CacheBackend
    records: dict[str, CacheRecord]
    single: bool
    usable: bool = True
    mounts: Sequence[str] = ()

    @cached_property
    def executed(self) -> set[str]:
        """The `seen_key` of steps that were executed on trees which are told; "" for those of an image's config."""
        records = [record for record in self.records.values() if record.tree]
        return {seen_key_of(each.preimage["step"]) if each.preimage is not None else "" for each in records}


@dataclass
class Imports:
    """The caches of one build. `warn` is told what is wrong, `tell` what is done."""

    store: Store
    caches: Caches
    warn: Callable[[str], None]
    tell: Tell
    _open: list[_Cache] = field(default_factory=list)
    _refused: set[Digest] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)

    async def open(self) -> None:
        """Read the bundles, all at once. Never fails."""
        found = await asyncio.gather(*(self._read(origin) for origin in self.caches.origins))
        self._open = [each for each in found if each is not None]

    async def _read(self, origin: CacheOrigin) -> _Cache | None:
        self.tell(f"importing cache from {origin.name}")
        try:
            async with asyncio.timeout(origin.seconds):
                backend = await origin.open()
                loaded = await backend.load()
            if not loaded or loaded[0][1] != BUNDLE:
                inline = [record for data, _, layers in loaded for record in decode_inline(data, layers)]
                return _Cache(origin, backend, _by_key(inline), single=False)
            records, faults, mounts = decode_bundle(loaded[0][0])
            for fault in faults:
                self.warn(f"cache {origin.name}: a record is ignored: {fault}")
            return _Cache(origin, backend, _by_key(records), single=True, mounts=mounts)
        except (BuildtoolError, OSError, TimeoutError) as error:
            self.warn(f"cache {origin.name} is not used: {_reason(error, origin)}")
            return None

    def there(self, name: str) -> Mapping[str, CacheRecord]:
        """What was in the bundle of the cache of this name."""
        return next((each.records for each in self._open if each.origin.name == name), {})

    async def find(self, keys: Collection[str], *, bundled: bool = False) -> dict[str, StepResult]:
        """The results under these keys; with `bundled` only those that no further question is needed for."""
        found: dict[str, StepResult] = {}
        for cache in self._open:
            for key in keys:
                record = cache.records.get(key)
                if key not in found and record is not None and cache.usable:
                    result = await offload(self._result, record, cache.backend)
                    if result is not None:
                        found[key] = result
        left = [key for key in keys if key not in found and key not in self._asked]
        if bundled or not left:
            return found
        self._asked.update(left)
        for cache in self._open:
            if cache.single and cache.usable:
                for record in await self._ask(cache, [key for key in left if key not in found]):
                    result = await offload(self._result, record, cache.backend)
                    if result is not None:
                        found |= dict.fromkeys(record.names, result)
        return {key: found[key] for key in keys if key in found}

    def may_know(self, node: Node) -> bool:
        """Whether one of the caches has an execution of an equal step, on whatever trees."""
        caches = [cache.executed for cache in self._open if cache.usable]
        return any(caches) and any("" in known or seen_key(node) in known for known in caches)

    async def generations(self, prepared: Prepared) -> dict[str, str]:
        """The generations that RUN --cache-ttl has elsewhere and no result of is here, by the key without one."""
        found: dict[str, str] = {}
        for step, (plain, current) in prepared.generations.items():
            command, name = prepared.node(step).step, generation_pointer(plain)
            if step in prepared.hits or not isinstance(command, Exec) or not command.execution.cache_ttl:
                continue
            await self.find([name])
            known = [cache.records[key] for cache in self._open for key in (name, plain) if key in cache.records]
            newest = max(known, key=lambda record: record.made, default=None)
            if newest is None:
                continue
            generation = str((newest.preimage or {}).get("generation", ""))
            if expired(newest.made, command.execution) or newest.diff_id in self._refused:
                # not that of the old result, which others have more on
                generation = current or next_generation(plain, generation, newest.made)
            if generation != current:
                found[plain] = generation
        return found

    async def _ask(self, cache: _Cache, keys: Sequence[str]) -> list[CacheRecord]:
        async def one(key: str) -> CacheRecord | None:
            data = await cache.backend.find(key)
            try:
                return decode_record(data, key) if data is not None else None
            except Corrupt as error:
                self.warn(f"cache {cache.origin.name}: a record is ignored: {error.message}")
                return None

        tasks = [asyncio.ensure_future(one(key)) for key in keys]
        try:
            async with asyncio.timeout(cache.origin.seconds):
                found = [record for record in await asyncio.gather(*tasks) if record is not None]
        except (BuildtoolError, OSError, TimeoutError) as error:
            cache.usable = False
            self.warn(f"cache {cache.origin.name} is not used any more: {_reason(error, cache.origin)}")
            return []
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        cache.records |= _by_key(found)
        return found

    async def fill_mounts(self, prepared: Prepared, mounts: CacheMounts) -> None:
        """Make the cache mounts that are not here, and steps that are to be executed need. Never fails."""
        needed = mounts_of(prepared.plan.node(step) for step in _needed(prepared))
        for id in sorted(needed):
            cache = next((each for each in self._open if id in each.mounts), None)
            fetch = self.caches.fetch
            if cache is None or fetch is None or (mounts.root / cache_mount_name(id)).exists():
                continue
            try:
                async with asyncio.timeout(_MOUNT_TIMES * cache.origin.seconds):
                    await import_mount(self.store, prepared.lease, mounts, cache.backend, id, fetch, self.tell)
            except (BuildtoolError, OSError, TimeoutError) as error:
                reason = error.message if isinstance(error, BuildtoolError) else str(error) or "it takes too long"
                self.warn(f"cache {cache.origin.name}: the cache mount {id} begins empty: {reason}")

    def refuse(self, diff_id: Digest, silent: str = "") -> None:
        """Do not give results with this layer any more, nor any of a cache (by its source) that is `silent`."""
        self._refused.add(diff_id)
        for cache in self._open:
            cache.usable = cache.usable and cache.backend.source != silent

    def _result(self, record: CacheRecord, backend: CacheBackend) -> StepResult | None:
        if record.diff_id in self._refused or record.squash != self.store.squash_ids:
            return None
        here = self.store.snapshots.find(record.diff_id)
        blob = Descriptor(record.blob.media_type, record.blob.digest, record.blob.size)
        layer = LayerSource(record.diff_id, record.size, here, blob, record.epoch, (backend.source,))
        snapshot = here if here is not None else SnapshotId(0)
        return StepResult(snapshot, record.seconds, record.content, record.cpu, record.made, layer)


async def add_hits(prepared: Prepared, imports: Imports) -> None:
    """Give a build's steps the results that the caches have for them. What no step needs is not asked for."""
    plan = prepared.plan

    def lacking(steps: Iterable[StepId]) -> dict[str, StepId]:
        nodes = (plan.node(step) for step in steps if step not in prepared.hits)
        return {prepared.keys[node.id]: node.id for node in nodes if node.has_layer and _may_come(node)}

    def take(wanted: Mapping[str, StepId], found: Mapping[str, StepResult]) -> None:
        for key, result in found.items():
            step = plan.node(wanted[key]).step
            if not (isinstance(step, Exec) and step.execution.cache_ttl and expired(result.made, step.execution)):
                prepared.hits[wanted[key]] = result

    wanted = lacking(plan.graph)
    take(wanted, await imports.find(wanted, bundled=True))
    wanted = lacking(_needed(prepared))
    take(wanted, await imports.find(wanted))


def _may_come(node: Node) -> bool:
    return not (isinstance(node.step, Exec) and node.step.execution.no_cache)


def _needed(prepared: Prepared) -> list[StepId]:
    """The steps that have to be executed, as far as is known."""
    needed: list[StepId] = []
    stack, seen = [*prepared.plan.targets], set[StepId]()
    while stack:
        step = stack.pop()
        if step in seen or step in prepared.hits:
            continue
        seen.add(step)
        needed.append(step)
        stack.extend(prepared.plan.node(step).inputs)
    return needed


def _by_key(records: Sequence[CacheRecord]) -> dict[str, CacheRecord]:
    """The newest record that has a name, and one's own for its key."""
    by_name: dict[str, CacheRecord] = {}
    for record in sorted(records, key=lambda each: each.made):
        by_name |= dict.fromkeys(record.names, record)
    return by_name | {record.key: record for record in records}


def _reason(error: BaseException, origin: CacheOrigin) -> str:
    if isinstance(error, TimeoutError):
        return f"it did not answer within {origin.seconds:g} seconds"
    return error.message if isinstance(error, BuildtoolError) else str(error)
