"""The trees that the steps of one build stand on: what of them is not here is brought in, and no more than needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from buildtool.cache import SnapshotId
from buildtool.graph import Copy, Exec, Merge, Node, Source, StepId
from buildtool.solve.base_trees import BaseTrees
from buildtool.solve.caches.lazy import LazyLayers
from buildtool.solve.files import FileSource
from buildtool.solve.prepare import Prepared
from buildtool.solve.records import StepResult
from buildtool.solve.threads import together

T = TypeVar("T")
Arrived = Callable[[Node, StepResult], Awaitable[None]]
"""Is told what has come out of a cache and is here now."""


class StepTrees:
    """`results` are those of the steps that are done; `ready` has an event for each that is still to be done."""

    def __init__(
        self,
        prepared: Prepared,
        results: dict[StepId, StepResult],
        ready: Mapping[StepId, asyncio.Event],
        bases: BaseTrees,
        lazy: LazyLayers,
        arrived: Arrived,
    ) -> None:
        self._prepared = prepared
        self._results = results
        self._ready = ready
        self._bases = bases
        self._lazy = lazy
        self._arrived = arrived

    async def chain(self, step: StepId, *, above_image: bool = False) -> list[SnapshotId]:
        """The snapshots of a finished step's tree, bottom first, all of them here; with `above_image` without those
        of the image that it stands on. Raises LostLayer.
        """
        await self.settled(step)
        own: list[StepId] = []
        current: StepId | None = step
        chain: list[SnapshotId] = []
        while current is not None:
            node = self._prepared.node(current)
            if node.is_source:
                self._lazy.begin([self._results[each] for each in own])
                chain = [] if above_image else [*await self._bases.chain(node.step)]
                break
            own.append(current)
            current = node.parent
        self._lazy.begin([self._results[each] for each in own])
        for each in reversed(own):
            result = self._results[each]
            if not result.is_here:
                result = await self._lazy.bring(result, chain)
                self._results[each] = result
                await self._arrived(self._prepared.node(each), result)
            chain.append(result.snapshot)
        return chain

    async def settled(self, step: StepId) -> None:
        """Wait for what lies under a step: a hit may stand on steps that are none."""
        current: StepId | None = step
        while current is not None:
            if current in self._ready:
                await self._ready[current].wait()
            current = self._prepared.node(current).parent

    async def partly(self, node: Node) -> Source | None:
        """The image that a COPY --from takes files of and whose layers are not here yet."""
        if not isinstance(node.step, Copy) or node.step.from_context:
            return None
        return await self._bases.elsewhere(node.inputs[-1])

    async def look(self, source: Source, look: Callable[[FileSource], Awaitable[T]], *, whole: bool) -> T:
        """`look` at the files of an image, with no more layers than it needs (`whole`: it needs all)."""
        return await self._bases.look(source, look, whole=whole)

    async def of_all(self, node: Node) -> list[list[SnapshotId]]:
        """The trees of all inputs."""
        return await together(self.chain(needed) for needed in node.inputs)

    async def of(self, node: Node, partly: Source | None = None) -> list[list[SnapshotId]]:
        """The inputs' trees as far as the step needs them; without the last one, when it is `partly` here."""
        match node.step:
            case Merge(onto_image=True):
                return [await self.chain(node.inputs[0], above_image=True), await self.chain(node.inputs[1])]
            case Exec(mounts=mounts):
                shown = {mount.input: mount.source for mount in mounts if mount.type == "bind"}
                return await together(
                    self._shown(needed, shown.get(index)) for index, needed in enumerate(node.inputs)
                )
            case _:
                return await together(self.chain(needed) for needed in (node.inputs[:-1] if partly else node.inputs))

    async def _shown(self, step: StepId, path: str | None) -> list[SnapshotId]:
        source = await self._bases.elsewhere(step) if path is not None else None
        return await self.chain(step) if source is None or path is None else await self._bases.shown(source, path)

    async def close(self) -> None:
        """Wait for what goes on beside the steps."""
        await self._bases.close()
        await self._lazy.close()
