"""Running a build and following its events, for both build endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from buildtool.aio import offload
from buildtool.daemon.services import Services

if TYPE_CHECKING:
    from buildtool.solve import BuildRequest, BuildResult
    from buildtool.solve.events import Event
    from buildtool.solve.history import BuildRecord


class RunningBuild:
    """Iterate over its events, then ask for its `result`. Leaving `async with` early cancels the build and waits for
    it."""

    def __init__(self, services: Services, request: BuildRequest) -> None:
        self._services = services
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._task: asyncio.Task[BuildResult] | None = None
        self._id = ""

    async def __aenter__(self) -> RunningBuild:
        builder = await self._services.builder()
        self._task = asyncio.create_task(builder.build(self._request, self.tell, self._begun))
        self._task.add_done_callback(lambda _: self._events.put_nowait(None))
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        if not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._services.tidy_soon()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    async def result(self) -> BuildResult:
        """What the build made. Raises what it failed with."""
        assert self._task is not None
        return await self._task

    async def record(self) -> BuildRecord | None:
        """What the history has of it; None when it was refused before it began."""
        if not self._id:
            return None
        history = (await self._services.builder()).history
        return await offload(history.find, self._id)

    def _begun(self, id: str) -> None:
        self._id = id

    def tell(self, event: Event) -> None:
        """One more event; from any thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)
