"""Makes what builds made survive a power cut: some seconds after the last of a series, all at once.

Flushing a file system takes the disk from whoever writes next; builds come in series, and a kernel writes by itself
what is left alone for half a minute. Until then a power cut costs what the builds of the last seconds made (the store
forgets it, see docs/store.md), a killed daemon costs nothing.
"""

from __future__ import annotations

import asyncio
import time

from buildtool.aio import offload
from buildtool.cache import Store

PAUSE = 5.0
LONGEST = 30.0


class Settling:
    """One store's. For one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._first = self._last = 0.0
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """A build has made something."""
        self._last = time.monotonic()
        if self._task is None or self._task.done():
            self._first = self._last
            self._task = asyncio.create_task(self._settle())

    async def close(self) -> None:
        """Do now what was to be done soon."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await offload(self._store.snapshots.sync)

    async def _settle(self) -> None:
        begun = 0.0
        while begun <= self._last:  # builds that end meanwhile have their turn too
            pause = min(self._last + PAUSE, self._first + LONGEST) - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
                continue
            begun = self._first = time.monotonic()
            await asyncio.shield(offload(self._store.snapshots.sync))
