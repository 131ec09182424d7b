"""Layers of an image that is still being built, brought to the repository that it will be pushed to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from buildtool.errors import BuildtoolError
from buildtool.images import Image, Images, LayerSource
from buildtool.images.forms import Compression, named_forms
from buildtool.oci import Descriptor
from buildtool.registry.push import NotToBeHad, Pusher
from buildtool.registry.transport import BROKEN
from buildtool.registry.work import settled

log = logging.getLogger(__name__)


class Ahead:
    """One repository. Nothing is raised: the push that follows meets what went wrong again, and tells.

    A push of the same layers meanwhile waits for them instead of bringing them itself.
    """

    def __init__(
        self,
        images: Images,
        name: str,
        open: Callable[[], Awaitable[Pusher]],
        compression: Compression,
        tasks: set[asyncio.Task[None]],
    ) -> None:
        """`open` reaches the registry; `tasks` are awaited by their owner."""
        self.compression = compression
        self._images = images
        self._name = name
        self._open = open
        self._tasks = tasks
        self._own: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[Pusher] | None = None
        self._failed = False

    def begin(self, layer: LayerSource) -> None:
        """Bring a layer there in the background."""
        self._start(self._send([(layer, None)]))

    def begin_image(self, image: Image) -> None:
        """Bring all layers of an image that are here."""
        self._start(self._send_image(image))

    def cancel(self) -> None:
        """Give up."""
        for task in self._own:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        for tasks in (self._tasks, self._own):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _send_image(self, image: Image) -> None:
        named = await settled(named_forms, self._images.store, image)
        await self._send(list(zip(image.layers, named, strict=True)))

    async def _send(self, layers: list[tuple[LayerSource, Descriptor | None]]) -> None:
        if self._failed:
            return
        try:
            with self._images.store.leases.hold(f"upload to {self._name}") as lease:
                for source, _ in layers:
                    if source.snapshot is not None:
                        lease.snapshot(source.snapshot)
                if self._opening is None:
                    self._opening = asyncio.ensure_future(self._open())
                pusher = await asyncio.shield(self._opening)
                for source, named in layers:
                    await pusher.bring_layer(source, named, lease)
        except (BuildtoolError, NotToBeHad, OSError, *BROKEN) as error:
            self._failed = True
            log.info("%s: a layer is not brought ahead of the push: %s", self._name, error)
