"""The image of a finished build: layers, config, history. Source: OCI image-spec v1.1, config.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from buildtool.aio import offload
from buildtool.cache import Lease, SnapshotId, Store
from buildtool.graph import HistoryLine, ImagePlan, StepId, digest_of
from buildtool.images import Image, Images, LayerSource
from buildtool.images.forms import Compression, new_layer
from buildtool.images.model import manifest_of
from buildtool.oci import Digest, History, ImageConfig, Reference, RootFS, encode, sha256
from buildtool.solve.records import Records, StepResult
from buildtool.solve.threads import to_end

COMMENT = "buildkit.dockerfile.v0"
_EMPTY_TAR = 1024


def rfc3339(epoch: int) -> str:
    """Seconds since the epoch as the config's `created`."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Layers:
    """The layers of results, digested once however many ask for them at the same time.

    Where they are to be `compressed` for a destination, that is done in the same reading.
    """

    def __init__(self, store: Store, lease: Lease, compressed: Compression | None = None) -> None:
        self._store = store
        self._lease = lease
        self._compressed = compressed
        self._tasks: dict[tuple[SnapshotId, int], asyncio.Task[LayerSource]] = {}

    async def get(self, result: StepResult, epoch: int) -> LayerSource:
        """A result's layer in an image of this time. A cancelled caller leaves the work to the others."""
        key = (result.snapshot, epoch)
        if fits(result, epoch) or key not in self._tasks:
            work = to_end(layer_of, result, epoch, self._store, self._lease, self._compressed)
            if fits(result, epoch):
                return await work
            self._tasks[key] = asyncio.create_task(work)
        return await asyncio.shield(self._tasks[key])

    async def close(self) -> None:
        """Wait for what is still being digested; failures were told, or nobody asked."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


class LayerDigests:
    """Digests the layers of an exported stage in the background, each as soon as its step is done."""

    def __init__(
        self, store: Store, plan: ImagePlan, layers: Layers, known: Callable[[LayerSource], None] = lambda layer: None
    ) -> None:
        """`known` is told each layer that it digested."""
        self._known_to = known
        self._store = store
        self._layers = layers
        self._epoch = plan.epoch
        self._exported = frozenset(plan.chain)
        self._tasks: dict[StepId, asyncio.Task[LayerSource]] = {}

    def begin(self, step: StepId, result: StepResult) -> None:
        """A step is done."""
        if step in self._exported and step not in self._tasks and result.is_here:
            self._tasks[step] = asyncio.create_task(self._digest(result))

    async def _digest(self, result: StepResult) -> LayerSource:
        layer = await self._layers.get(result, self._epoch)
        self._known_to(layer)
        return layer

    async def get(self, steps: Sequence[StepId], results: dict[StepId, StepResult]) -> list[LayerSource]:
        """These steps' layers, in order."""
        missing = [step for step in steps if step not in self._tasks]
        found = await offload(self._known, [results[step] for step in missing])
        known = dict(zip(missing, found, strict=True))
        return [await self._tasks[step] if step in self._tasks else known[step] for step in steps]

    def _known(self, results: list[StepResult]) -> list[LayerSource]:
        return [layer_of(result, self._epoch, self._store) for result in results]

    async def close(self) -> None:
        """Wait for what is still being digested; failures were told, or nobody asked."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())
            for task in self._tasks.values():
                if not task.cancelled():
                    task.exception()


def without_empty(plan: ImagePlan, results: dict[StepId, StepResult], store: Store) -> ImagePlan:
    """The image without the layers that are optional and empty: those of a COPY --if-exists that found nothing."""
    chain: list[StepId] = []
    history: list[HistoryLine] = []
    steps = iter(plan.chain)
    for line in plan.history:
        step = next(steps) if line.layer else None
        if step is not None and line.optional and _is_empty(results[step], store):
            line, step = replace(line, layer=False), None
        history.append(line)
        if step is not None:
            chain.append(step)
    return replace(plan, chain=tuple(chain), history=tuple(history))


def _is_empty(result: StepResult, store: Store) -> bool:
    if result.is_here:
        return store.layers.is_empty(result.snapshot)
    return result.layer is not None and 0 < result.layer.size <= _EMPTY_TAR


def layer_of(
    result: StepResult, epoch: int, store: Store, lease: Lease | None = None, compressed: Compression | None = None
) -> LayerSource:
    """The layer in an image of this time: as it came, if no file of it may be newer, else as it is made anew.

    `compressed` (with a lease): how it is to be compressed at once, when it is read anyway.
    """
    if fits(result, epoch):
        assert result.layer is not None
        return result.layer
    if compressed is not None and lease is not None:
        return new_layer(store, result.snapshot, epoch, compressed, lease)
    diff_id, size = store.layers.diff_id(result.snapshot, epoch)
    return LayerSource(diff_id, size, snapshot=result.snapshot, epoch=epoch)


def fits(result: StepResult, epoch: int) -> bool:
    """Whether the layer came out of a cache and may be part of an image of this time as it is."""
    return result.layer is not None and (result.layer.epoch or 0) <= epoch


def image_key(
    image: ImagePlan, base: Image | None, results: dict[StepId, StepResult], cache: dict[str, Any] | None = None
) -> Digest:
    """Names the image before it is made: by its snapshots, config and time. `cache`: see add_image."""
    named = {} if cache is None else {"cache": cache}
    return digest_of(
        {
            "level": "image",
            "base": base.id if base is not None else "",
            "snapshots": [_identity(results[step], image.epoch) for step in image.chain],
            "epoch": image.epoch if image.created == image.epoch else [image.epoch, image.created],
            "config": msgspec.to_builtins(image.config),
            "author": image.author,
            "history": [[line.created_by, line.layer] for line in image.history],
            "platform": str(image.platform),
            **named,
        }
    )


def _identity(result: StepResult, epoch: int) -> int | str:
    return result.layer.diff_id if result.layer is not None and fits(result, epoch) else int(result.snapshot)


def find_image(images: Images, records: Records, key: Digest, tags: Sequence[Reference]) -> Image | None:
    """The image made before of the same things, tagged."""
    identity = records.image(key)
    image = images.find(identity) if identity is not None else None
    if image is None or any(layer.snapshot is None for layer in image.layers if layer.blob is None):
        return None
    for tag in tags:
        if tag not in image.references or images.table.group(tag) is not None:
            images.tag(image.id, tag)
    return images.get(image.id) if tags else image


def add_image(
    images: Images,
    plan: ImagePlan,
    base: Image | None,
    layers: Sequence[LayerSource],
    tags: Sequence[Reference],
    cache: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
) -> tuple[Image, bool]:
    """Register the image: the base's layers and those made here, the base's history and that of the Buildfile; and
    whether it was not here before.

    `cache` are records about its layers that its config is to hold, `annotations` those of its manifest.
    """
    sources = [*(base.layers if base is not None else ()), *layers]
    created = rfc3339(plan.created)
    history = list(base.config.history or ()) if base is not None else []
    history += [
        History(created=created, created_by=line.created_by, comment=COMMENT, empty_layer=not line.layer)
        for line in plan.history
    ]
    platform: dict[str, Any] = {"variant": plan.platform.variant}
    if base is not None:
        platform["os_version"] = base.config.os_version
    config = ImageConfig(
        architecture=plan.platform.architecture,
        os=plan.platform.os,
        rootfs=RootFS("layers", [source.diff_id for source in sources]),
        config=plan.config,
        created=created,
        author=plan.author,
        history=history,
        cache=cache,
        **platform,
    )
    data = encode(config)
    is_new = images.find(sha256(data)) is None
    if not annotations:
        return images.add(data, sources, references=tags), is_new
    manifest = msgspec.structs.replace(manifest_of(sha256(data), len(data), sources), annotations=annotations)
    return images.add(data, sources, references=tags, manifest=encode(manifest), renew=True), is_new
