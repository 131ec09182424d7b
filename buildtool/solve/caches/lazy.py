"""Layers of results that came from a cache: brought in when a step stands on them, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from buildtool.aio import offload
from buildtool.cache import Lease, SnapshotId, Store
from buildtool.errors import BuildtoolError
from buildtool.oci import Digest
from buildtool.solve.caches.options import Fetch
from buildtool.solve.events import Tell
from buildtool.solve.records import StepResult
from buildtool.solve.threads import to_end


class LostLayer(BuildtoolError):
    """A layer that a cache promised cannot be had: what it was found for has to be executed."""

    def __init__(self, diff_id: Digest, message: str) -> None:
        super().__init__(message)
        self.diff_id = diff_id


class LazyLayers:
    """Those of one build."""

    def __init__(self, store: Store, lease: Lease, fetch: Fetch | None, tell: Tell) -> None:
        self._store = store
        self._lease = lease
        self._fetch = fetch
        self._tell = tell
        self._fetching: dict[Digest, asyncio.Task[None]] = {}
        self._unpacking: dict[Digest, asyncio.Task[SnapshotId]] = {}

    def begin(self, results: Sequence[StepResult]) -> None:
        """Begin to fetch what of these is not here: all at once, for `bring` to wait for."""
        for result in results:
            if not result.is_here and result.layer is not None and result.layer.diff_id not in self._fetching:
                task = asyncio.ensure_future(self._get(result))
                self._fetching[result.layer.diff_id] = task

    async def bring(self, result: StepResult, below: Sequence[SnapshotId]) -> StepResult:
        """The result with its layer unpacked, on the layers below it. Raises LostLayer."""
        if result.is_here:
            return result
        layer = result.layer
        assert layer is not None
        self.begin([result])
        try:
            await asyncio.shield(self._fetching[layer.diff_id])
            if layer.diff_id not in self._unpacking:
                unpacking = asyncio.ensure_future(to_end(self._unpack, result, tuple(below)))
                self._unpacking[layer.diff_id] = unpacking
            snapshot = await asyncio.shield(self._unpacking[layer.diff_id])
        except BuildtoolError as error:
            raise LostLayer(
                layer.diff_id, f"layer {layer.diff_id} of the cache cannot be had: {error.message}"
            ) from error
        return replace(result, snapshot=snapshot, layer=replace(layer, snapshot=snapshot))

    async def _get(self, result: StepResult) -> None:
        layer = result.layer
        assert layer is not None and layer.blob is not None
        await offload(self._lease.blob, layer.blob.digest)
        if await offload(self._store.blobs.has, layer.blob.digest):
            return
        if self._fetch is None:
            raise BuildtoolError("there is nothing here that could fetch it")
        await self._fetch(layer, self._tell)

    def _unpack(self, result: StepResult, below: tuple[SnapshotId, ...]) -> SnapshotId:
        layer = result.layer
        assert layer is not None and layer.blob is not None
        snapshot = self._store.layers.unpack(layer.blob.digest, parents=below, expected_diff_id=layer.diff_id)
        self._lease.snapshot(snapshot)
        self._store.layers.remember_blob(layer.diff_id, layer.blob)
        return snapshot

    async def close(self) -> None:
        """End what goes on."""
        tasks = [*self._fetching.values(), *self._unpacking.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
