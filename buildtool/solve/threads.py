"""Blocking work whose end is awaited even when the caller is cancelled: nothing goes on behind its back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar

from buildtool.aio import offload

P = ParamSpec("P")
R = TypeVar("R")


async def to_end(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a blocking function in a thread; a cancellation is raised once it has ended, and its result is lost."""
    return await _finish(fn, None, *args, **kwargs)


async def acquire(fn: Callable[P, R], release: Callable[[R], object], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """The same for a function that makes something: when the caller was cancelled meanwhile, `release` unmakes it."""
    return await _finish(fn, release, *args, **kwargs)


async def _finish(
    fn: Callable[P, R], release: Callable[[R], object] | None, /, *args: P.args, **kwargs: P.kwargs
) -> R:
    work = asyncio.ensure_future(offload(fn, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if not work.done():
            await asyncio.wait([work])
        if not work.cancelled() and work.exception() is None and release is not None:
            await asyncio.wait([asyncio.ensure_future(offload(release, work.result()))])
        raise


async def together(work: Iterable[Coroutine[Any, Any, R]]) -> list[R]:
    """All at once; the first failure ends the others and is raised as it is."""
    coroutines = list(work)
    if len(coroutines) < 2:
        return [await each for each in coroutines]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in coroutines]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def first_error(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell the user: the first that is no mere consequence."""
    for error in failures.exceptions:
        found = first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(found, asyncio.CancelledError):
            return found
    return failures.exceptions[0]
