"""Which containers a list or prune call means, and in which order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from buildtool.containers import ports, times
from buildtool.containers.container import Container
from buildtool.containers.filters import Filters
from buildtool.containers.registry import Registry
from buildtool.errors import InvalidInput, NotFound
from buildtool.networks.predefined import predefined_id

LIST_FILTERS = frozenset(
    {
        *(
            "ancestor",
            "before",
            "exited",
            "expose",
            "health",
            "id",
            "is-task",
            "isolation",
            "label",
            "name",
            "network",
        ),
        *("publish", "since", "status", "volume"),
    }
)
PRUNE_FILTERS = frozenset({"label", "label!", "until"})
_STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTH = ("none", "starting", "healthy", "unhealthy")

Test = Callable[[str], bool]
Ancestry = Callable[[str], Test]
"""From an image's name or id to a test whether an image id is it or descends from it."""


def select(registry: Registry, *, all: bool, limit: int | None, filters: Any, ancestry: Ancestry) -> list[Container]:
    """Newest first. Without `all`, a limit, or a filter on the state only running containers are meant."""
    wanted = Filters.parse(filters, LIST_FILTERS)
    test = _tests(registry, wanted, ancestry)
    everything = all or bool(limit and limit > 0) or any(n in wanted for n in ("status", "exited", "before", "since"))
    found = sorted(registry, key=lambda c: (-c.record.created, c.id))
    chosen = [c for c in found if (everything or c.state.running) and test(c)]
    return chosen[:limit] if limit and limit > 0 else chosen


def _tests(registry: Registry, wanted: Filters, ancestry: Ancestry) -> Callable[[Container], bool]:
    for status in wanted.get("status"):
        if status not in _STATES:
            raise InvalidInput(f"invalid filter 'status={status}'")
    for health in wanted.get("health"):
        if health not in _HEALTH:
            raise InvalidInput(f"invalid filter 'health={health}'")
    codes = {_number(text) for text in wanted.get("exited")}
    before = [_created(registry, name) for name in wanted.get("before")]
    since = [_created(registry, name) for name in wanted.get("since")]
    ancestors = [ancestry(name) for name in wanted.get("ancestor")]
    exposed = {port for text in wanted.get("expose") for port in _range(text)}
    published = {port for text in wanted.get("publish") for port in _range(text)}
    if wanted.boolean("is-task"):
        return lambda container: False

    def test(container: Container) -> bool:
        record, state = container.record, container.state
        health = state.health.status if state.health is not None else "none"
        return (
            wanted.prefix("id", container.id)
            and (wanted.match("name", container.name) or wanted.match("name", "/" + container.name))
            and wanted.exact("status", state.status)
            and wanted.exact("health", health)
            and wanted.labels(record.config.labels or {})
            and (not codes or (state.status == "exited" and state.exit_code in codes))
            and all_of(record.created < limit for limit in before)
            and all_of(record.created > limit for limit in since)
            and (not ancestors or any(is_it(record.image_id) for is_it in ancestors))
            and _volumes_match(container, wanted.get("volume"))
            and _network_matches(container, wanted.get("network"))
            and (not exposed or not exposed.isdisjoint(record.config.exposed_ports or {}))
            and (not published or not published.isdisjoint(record.host.port_bindings))
        )

    return test


all_of = all


def to_prune(registry: Registry, filters: Any) -> list[Container]:
    """The containers that do not run and pass the filters."""
    wanted = Filters.parse(filters, PRUNE_FILTERS)
    limits = [times.parse_moment(text) for text in wanted.get("until")]
    return [
        container
        for container in registry
        if not container.state.running
        and not container.state.removing
        and wanted.labels(container.config.labels or {})
        and not ("label!" in wanted and wanted.labels(container.config.labels or {}, "label!"))
        and all(container.record.created <= limit for limit in limits)
    ]


def _number(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,6}", text):
        raise InvalidInput(f"invalid filter 'exited={text}'")
    return int(text)


def _created(registry: Registry, name: str) -> int:
    try:
        return registry.get(name).record.created
    except NotFound:
        raise InvalidInput(f"No such container: {name}") from None


def _range(text: str) -> Sequence[str]:
    port, _, protocol = ports.canonical(text).partition("/")
    first, _, last = port.partition("-")
    return [f"{number}/{protocol}" for number in range(int(first), int(last or first) + 1)]


def _volumes_match(container: Container, wanted: list[str]) -> bool:
    if not wanted:
        return True
    known = {text for p in container.record.mounts for text in (p.name, p.source, p.destination) if text}
    return not known.isdisjoint(wanted)


def _network_matches(container: Container, wanted: list[str]) -> bool:
    names = {container.host.network_mode, *container.record.networks}
    sandbox = container.record.sandbox
    ids = [predefined_id(name) for name in names] + [e.network_id for e in (sandbox.endpoints if sandbox else ())]
    return not wanted or not names.isdisjoint(wanted) or any(id.startswith(each) for id in ids for each in wanted)
