"""The events bus: what happens to containers, images, volumes and networks, for whoever listens.

Publishing never waits. A subscriber is registered when `subscribe` returns, so nothing published afterwards is
lost; the last 256 events are replayed to those who ask for the past.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from buildtool.containers import times
from buildtool.containers.filters import Filters
from buildtool.errors import InvalidInput

REPLAY = 256
_FILTERS = frozenset(
    {
        "config",
        "container",
        "daemon",
        "event",
        "image",
        "label",
        "network",
        "node",
        "plugin",
        "scope",
        "secret",
        "service",
        "type",
        "volume",
    }
)
_PREFIXED_ACTIONS = frozenset({"health_status", "exec_create", "exec_start"})

Event = dict[str, Any]


class Events:
    """Publish from any thread; subscribe from a running event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._past: deque[Event] = deque(maxlen=REPLAY)
        self._subscribers: set[Subscription] = set()
        self._last = 0

    def publish(self, type: str, action: str, id: str, attributes: Mapping[str, str] | None = None) -> None:
        """Tell everyone. `attributes` are copied; times never go backwards and are unique."""
        attributes = dict(attributes or {})
        event: Event = {}
        if type in ("container", "image"):
            event["status"], event["id"] = action, id
        if type == "container" and attributes.get("image"):
            event["from"] = attributes["image"]
        with self._lock:
            moment = self._last = max(times.now(), self._last + 1)
            event |= {
                "Type": type,
                "Action": action,
                "Actor": {"ID": id, "Attributes": attributes},
                "scope": "local",
                "time": moment // times.SECOND,
                "timeNano": moment,
            }
            self._past.append(event)
            for subscriber in self._subscribers:
                subscriber.offer(event)

    def subscribe(self, since: str = "", until: str = "", filters: Any = None) -> Subscription:
        """Listen from now on; with `since`, first what is remembered from then on.

        Without `until` the subscription never ends by itself; with it, it ends at that time (at once when it lies in
        the past). Raises InvalidInput for malformed times and filters.
        """
        wanted = Filters.parse(filters, _FILTERS)
        begin, end = times.parse_moment(since), times.parse_moment(until)
        end = max(end, 1) if until else 0  # 1970 lies in the past too
        if begin and end and end < begin:
            raise InvalidInput(f"`since` time ({since}) cannot be after `until` time ({until})")
        with self._lock:
            past = [] if not (begin or end) else [e for e in self._past if begin <= e["timeNano"]]
            subscription = Subscription(self, wanted, end, past)
            self._subscribers.add(subscription)
        return subscription

    @property
    def listeners(self) -> int:
        """How many subscriptions are open."""
        return len(self._subscribers)

    def forget(self, subscription: Subscription) -> None:
        """Stop delivering to it."""
        with self._lock:
            self._subscribers.discard(subscription)


class Subscription:
    """An async iterator of events; close it (or use it with `async with`) when done."""

    def __init__(self, bus: Events, filters: Filters, until: int, past: list[Event]) -> None:
        self._bus, self._filters, self._until = bus, filters, until
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        for event in past:
            self.offer(event)

    def offer(self, event: Event) -> None:
        """Queue the event when it is wanted; from any thread."""
        if (self._until and event["timeNano"] > self._until) or not matches(self._filters, event):
            return
        if threading.get_ident() == self._thread:
            self._queue.put_nowait(event)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        if self._queue.empty() and self._until:
            try:
                left = (self._until - times.now()) / times.SECOND
                event = await asyncio.wait_for(self._queue.get(), left) if left > 0 else None
            except TimeoutError:
                event = None
        else:
            event = await self._queue.get()
        if event is None:
            self.close()
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """Stop listening; an iteration that waits ends."""
        self._bus.forget(self)
        self._queue.put_nowait(None)

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()


def matches(filters: Filters, event: Event) -> bool:
    """Whether the filters let the event pass, by Docker's rules."""
    if not filters:
        return True
    type, action, identity = event["Type"], event["Action"], event["Actor"]["ID"]
    attributes = event["Actor"]["Attributes"]
    name = attributes.get("name", "")
    actions = filters.get("event")
    if actions:
        loose = any(wanted in _PREFIXED_ACTIONS for wanted in actions)
        if not (any(action.startswith(wanted) for wanted in actions) if loose else action in actions):
            return False
    if (
        not filters.exact("type", type)
        or not filters.exact("scope", event["scope"])
        or not filters.labels(attributes)
    ):
        return False
    if "image" in filters:
        image = name if type == "image" else attributes.get("image", "")
        repository = image.partition("@")[0].rpartition(":")[0] if ":" in image.rpartition("/")[2] else image
        if not any(wanted in (identity, image, repository) for wanted in filters.get("image")):
            return False
    for kind in ("container", "volume", "network", "daemon", "plugin"):
        if kind in filters and not any(
            text.startswith(wanted) for text in (identity, name) if text for wanted in filters.get(kind)
        ):
            return False
    return True
