"""Blocking work for transfers: in threads of their own, never cut short, and many at once with one failure."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar

from buildtool.aio import offload

P = ParamSpec("P")
R = TypeVar("R")


async def settled(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a short blocking function in the pool; a cancelled caller still waits for its end.

    For functions that use something the caller closes afterwards.
    """
    return await _wait_out(asyncio.ensure_future(offload(fn, *args, **kwargs)))


async def in_thread(fn: Callable[[], R], name: str, stop: Callable[[], None] | None = None) -> R:
    """Run a long blocking function in a thread of its own; a cancelled caller calls `stop` and waits for its end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def settle(result: R | None, error: BaseException | None) -> None:
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = fn()
        except BaseException as caught:  # noqa: BLE001 - handed to the caller as it is
            error = RuntimeError("StopIteration") if isinstance(caught, StopIteration) else caught
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await _wait_out(future, stop)


async def _wait_out(future: asyncio.Future[R], stop: Callable[[], None] | None = None) -> R:
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:  # asked again: it still has to end first
                continue
        if not future.cancelled():
            future.exception()
        raise


async def together(work: Iterable[Coroutine[Any, Any, R]]) -> list[R]:
    """Run all at once; the first failure cancels the others, waits for their end, and is raised as it is."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
