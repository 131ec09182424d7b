"""The end of a step's container, whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal

from buildtool.errors import BuildtoolError
from buildtool.runtime import Task


async def end(task: Task) -> None:
    """Kill what still runs and wait until it is gone, whatever happens to us meanwhile."""
    ending = asyncio.create_task(_kill_and_delete(task))
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.wait([ending])
        raise


async def _kill_and_delete(task: Task) -> None:
    if task.exit is None:
        with contextlib.suppress(BuildtoolError):
            await task.signal(signal.SIGKILL, all=True)
    await task.delete()
