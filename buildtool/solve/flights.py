"""Single-flight: the same work asked for by several builds at once is done once.

The work belongs to nobody in particular: it goes on while one of those who wait for it is left, and is cancelled with
the last. Who joins late is told what the others heard.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Chunk = tuple[str, bytes]
Listener = Callable[[str, bytes], None]
"""Called with the stream's name and bytes of output."""

_REPLAY = 1 << 18


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.task: asyncio.Task[T] | None = None
        self.listeners: list[Listener] = []
        self.history: deque[Chunk] = deque()
        self.kept = 0

    def tell(self, stream: str, data: bytes) -> None:
        self.history.append((stream, data))
        self.kept += len(data)
        while self.kept > _REPLAY:
            self.kept -= len(self.history.popleft()[1])
        for listener in list(self.listeners):
            listener(stream, data)


class Flights(Generic[T]):
    """Work in flight, by key."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    async def run(self, key: str, work: Callable[[Listener], Awaitable[T]], listener: Listener) -> T:
        """The result of `work`, done by us or by whoever began it first.

        Cancelling the caller cancels the work when nobody else waits, and then waits for its end.
        """
        flight = self._flights.get(key)
        if flight is None or flight.task is None:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.create_task(self._fly(key, flight, work))
        else:
            for stream, data in flight.history:
                listener(stream, data)
        flight.listeners.append(listener)
        task = flight.task
        try:
            return await asyncio.shield(task)
        finally:
            flight.listeners.remove(listener)
            if not flight.listeners and not task.done():
                self._flights.pop(key, None)
                task.cancel()
                await asyncio.wait([task])

    async def _fly(self, key: str, flight: _Flight[T], work: Callable[[Listener], Awaitable[T]]) -> T:
        try:
            return await work(flight.tell)
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
