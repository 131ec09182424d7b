"""A small epoll loop for the shim: callbacks by descriptor, and timers."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

IN = select.EPOLLIN
OUT = select.EPOLLOUT
HUP = select.EPOLLHUP | select.EPOLLERR


class Loop:
    """Calls `callback(events)` for ready descriptors until `stop`; single-threaded."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._running = True

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Watch a descriptor, or change what is watched. Errors and hang-ups are always reported."""
        if fd in self._callbacks:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor (before it is closed)."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once after this many seconds."""
        self._timers.append((time.monotonic() + seconds, callback))

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        while self._running:
            for fd, events in self._epoll.poll(self._timeout()):
                callback = self._callbacks.get(fd)  # an earlier callback of this round may have closed it
                if callback is not None:
                    callback(events)
            self._fire()

    def _timeout(self) -> float:
        if not self._timers:
            return -1.0
        return max(0.0, min(when for when, _ in self._timers) - time.monotonic())

    def _fire(self) -> None:
        if not self._timers:
            return
        now = time.monotonic()
        due = [timer for timer in self._timers if timer[0] <= now]
        if due:
            self._timers = [timer for timer in self._timers if timer[0] > now]
            for _, callback in due:
                callback()
