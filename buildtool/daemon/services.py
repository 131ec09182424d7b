"""Everything the routes call, opened and closed together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from buildtool.aio import offload
from buildtool.cache import Pins, Store
from buildtool.cache.memory_files import remembered
from buildtool.containers import Containers, Events
from buildtool.daemon.bases import Bases
from buildtool.daemon.build_policy import ENTITLEMENTS
from buildtool.daemon.context import remove_leftovers
from buildtool.daemon.sessions import Sessions
from buildtool.daemon.tidying import Tidier
from buildtool.errors import BuildtoolError
from buildtool.images import Image, Images
from buildtool.runtime import Runtime

if TYPE_CHECKING:
    from buildtool.cache import GcReport
    from buildtool.registry import Registries
    from buildtool.solve import Builder

log = logging.getLogger("buildtool.daemon")


@dataclass
class Services:
    """One data root's services. Routes hold nothing else."""

    root: Path
    run_dir: Path
    store: Store
    runtime: Runtime
    images: Images
    containers: Containers
    events: Events
    sessions: Sessions = field(default_factory=Sessions)
    entitlements: frozenset[str] = frozenset(ENTITLEMENTS)
    started: float = field(default_factory=time.time)
    _collecting: asyncio.Task[None] | None = None
    _collect_again: bool = False
    _builder: Builder | None = None
    _registries: Registries | None = None
    _builder_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tidier: Tidier | None = None

    @classmethod
    async def open(cls, root: Path, run_dir: Path) -> Services:
        """Lock and recover the data root, start the spawner, find the containers of the last daemon again.

        Raises StoreLocked when another process has the data root; what was opened is closed again on any error.
        """
        async with contextlib.AsyncExitStack() as stack:
            store = Store.open(root)
            stack.callback(store.close)
            remove_leftovers(root)
            runtime = await Runtime.launch(run_dir, state_dir=root / "containers")
            stack.push_async_callback(runtime.close)
            events = Events()
            images = Images(store)
            images.events = _image_events(events)
            containers = Containers(store, images, runtime, events, run_dir)
            await containers.open()
            services = cls(root, run_dir, store, runtime, images, containers, events)
            images.bringer = services._bring
            if any(next(place.glob("build-*"), None) for place in remembered(run_dir / "builds")):
                await (await services.builder()).clear_left()  # steps of a killed daemon, with their secrets
            stack.pop_all()
            return services

    async def close(self) -> None:
        """Let go of everything; containers go on running."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.store.close)
            stack.push_async_callback(self.runtime.close)
            if self._collecting is not None:
                await asyncio.gather(self._collecting, return_exceptions=True)
            if self._tidier is not None:
                await self._tidier.close()
            if self._builder is not None:
                stack.push_async_callback(self._builder.close)
            stack.push_async_callback(self.containers.close)
            if self._registries is not None:
                stack.push_async_callback(self._registries.close)

    async def builder(self) -> Builder:
        """The builder; its libraries are imported at the first build only."""
        async with self._builder_lock:
            if self._builder is None:
                self._builder = await offload(self._make_builder)
            return self._builder

    def _make_builder(self) -> Builder:
        from buildtool.solve import Builder

        networks = self.containers.networks
        return Builder(self.store, self.images, self.runtime, self.run_dir, Bases(self.registries), networks)

    async def _bring(self, image: Image) -> None:
        await self.registries().remote_layers.complete(image, lambda message: None)

    def registries(self) -> Registries:
        """The registry client; imported at the first use."""
        if self._registries is None:
            from buildtool.registry import Registries

            self._registries = Registries(self.images)
        return self._registries

    def pins(self) -> Pins:
        """What images and containers need, which GC must keep."""
        return self.images.pins() | self.containers.pins()

    async def collect(
        self,
        *,
        max_cache_bytes: int | None = None,
        unused_since: float | None = None,
        actions: Literal["keep", "unused", "all"] = "keep",
    ) -> GcReport:
        """Remove what nothing refers to; protected entries of the build cache stay in any case."""
        protected: set[int] = set()
        if actions != "keep" or max_cache_bytes is not None or unused_since is not None:
            protected = await offload((await self.builder()).cache.protected_snapshots)

        def work() -> GcReport:
            return self.store.gc(
                self.pins(),
                max_cache_bytes=max_cache_bytes,
                unused_since=unused_since,
                actions=actions,
                protected=protected,
            )

        return await offload(work)

    def collect_soon(self) -> None:
        """Remove what nothing refers to in the background; calls while that goes on are one more round after it."""
        self._collect_again = True
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.create_task(self._collect_rounds())

    async def _collect_rounds(self) -> None:
        while self._collect_again:
            self._collect_again = False
            try:
                await self.collect()
            except BuildtoolError as error:
                log.warning("garbage collection failed: %s", error)

    def tidy_soon(self) -> None:
        """A build has ended: see soon whether the build cache has grown beyond its limits."""
        if self._tidier is None:
            self._tidier = Tidier(self)
        self._tidier.soon()

    def image_users(self) -> Callable[[str], list[str]]:
        """A function that gives the ids of the containers made from an image, as of now; for any thread."""
        users = self.containers.images_in_use()
        return lambda image_id: users.get(image_id, [])


def _image_events(events: Events) -> Callable[[str, str, dict[str, Any]], None]:
    def publish(action: str, id: str, attributes: dict[str, Any]) -> None:
        events.publish("image", action, id, attributes)

    return publish
