"""Layers of results that came from a cache: brought in when a step stands on them, and not before."""

from __future__ import annotations

import asyncio
import time
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
    """A layer that a cache promised cannot be had: what it was found for has to be executed.

    `silent` names the cache (as LayerSource.sources does) when it does not say anything any more.
    """

    def __init__(self, diff_id: Digest, message: str, silent: str = "") -> None:
        super().__init__(message)
        self.diff_id = diff_id
        self.silent = silent


class Silence(BuildtoolError):
    """Nothing came for too long."""


class LazyLayers:
    """Those of one build. `patience` is for how many seconds nothing at all may come while something is fetched."""

    def __init__(self, store: Store, lease: Lease, fetch: Fetch | None, tell: Tell, patience: float) -> None:
        self._store = store
        self._lease = lease
        self._fetch = fetch
        self._tell = tell
        self._patience = patience
        self._heard = 0.0
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
            silent = layer.sources[0] if isinstance(error, Silence) and layer.sources else ""
            raise LostLayer(
                layer.diff_id, f"layer {layer.diff_id} of the cache cannot be had: {error.message}", silent
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
        task = asyncio.ensure_future(self._fetch(layer, self._hear))
        try:
            await self._listen(task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _hear(self, message: str, current: int = 0, total: int = 0, /) -> None:
        self._heard = time.monotonic()
        self._tell(message, current, total)

    async def _listen(self, task: asyncio.Future[None]) -> None:
        """Wait for a fetch, as long as something comes of it or of another one of this build. Raises Silence."""
        self._heard = time.monotonic()
        while not task.done():
            left = self._heard + self._patience - time.monotonic()
            if left <= 0:
                raise Silence(f"nothing has come for {self._patience:g} seconds")
            await asyncio.wait([task], timeout=left)
        await task

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
