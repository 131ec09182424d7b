"""Which steps run now: places by processor weight, shared fairly between builds, the most urgent of a build first.

A step weighs 1 unless it is known from before: one that kept a processor busy weighs 2, one that kept four busy 8,
one that mostly slept a quarter. Among builds the one that has least in use comes first.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

Step = TypeVar("Step", bound=Hashable)

UNKNOWN = 1.0
LIGHT = 0.25
_BUSY = 2.0


def weight_of(cpu: float, capacity: float) -> float:
    """The weight of a step that kept so many processors busy the last time (0: not known)."""
    return UNKNOWN if cpu <= 0 else min(max(LIGHT, cpu * _BUSY), capacity)


def default_capacity() -> float:
    """Four a processor, at least eight."""
    return float(max(8, 4 * (os.cpu_count() or 1)))


def longest_ways(
    order: Sequence[Step], after: Callable[[Step], Iterable[Step]], seconds: Callable[[Step], float]
) -> dict[Step, float]:
    """For each step the seconds from its start to the end of the longest chain of these that begins with it.

    `order` has every step after those it needs; `after` gives the steps that need one.
    """
    longest: dict[Step, float] = {}
    for step in reversed(order):
        longest[step] = seconds(step) + max((longest.get(child, 0.0) for child in after(step)), default=0.0)
    return longest


@dataclass(eq=False)
class _Waiter:
    share: Share
    urgency: float
    weight: float
    number: int
    future: asyncio.Future[None]


class Gate:
    """The places of one daemon."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.used = 0.0
        self._waiting: list[_Waiter] = []
        self._count = 0

    def share(self, jobs: int = 0) -> Share:
        """A build's part, with at most so many steps at a time (0: as many as there are places)."""
        return Share(self, jobs)

    async def _enter(self, share: Share, urgency: float, weight: float) -> None:
        self._count += 1
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiter(share, urgency, weight, self._count, future))
        self._admit()
        try:
            await future
        except asyncio.CancelledError:
            self._waiting = [waiter for waiter in self._waiting if waiter.future is not future]
            if future.done() and not future.cancelled():
                self._leave(share, weight)
            raise

    def _leave(self, share: Share, weight: float) -> None:
        self.used -= weight
        share.used -= weight
        share.running -= 1
        self._admit()

    def _admit(self) -> None:
        """Let in who fits. Behind one that does not fit only light ones pass, so that it gets its place."""
        limit = self.capacity
        while True:
            for waiter in sorted(self._waiting, key=lambda each: (each.share.used, -each.urgency, each.number)):
                if waiter.future.done() or (waiter.share.jobs and waiter.share.running >= waiter.share.jobs):
                    continue
                if self.used and self.used + waiter.weight > self.capacity:
                    limit = LIGHT
                    continue
                if waiter.weight <= limit:
                    break
            else:
                return
            self._waiting.remove(waiter)
            self.used += waiter.weight
            waiter.share.used += waiter.weight
            waiter.share.running += 1
            waiter.future.set_result(None)


@dataclass(eq=False)
class Share:
    """One build's part of the places."""

    gate: Gate
    jobs: int = 0
    used: float = field(default=0.0, init=False)
    running: int = field(default=0, init=False)

    @asynccontextmanager
    async def place(self, urgency: float, cpu: float = 0.0) -> AsyncIterator[None]:
        """Wait for a place and hold it. `urgency`: seconds of the longest chain of steps that begins with it."""
        weight = weight_of(cpu, self.gate.capacity)
        await self.gate._enter(self, urgency, weight)
        try:
            yield
        finally:
            self.gate._leave(self, weight)
