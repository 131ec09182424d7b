"""What the build cache holds (results of steps, cache mounts), and which of it a policy removes. Pure values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from buildtool.buildfile.durations import parse_duration
from buildtool.errors import InvalidInput
from buildtool.solve.records import Origin

_FILTERS = ("description", "file", "id", "inuse", "line", "protected", "shared", "type", "unused-for", "until")
_LONG_UNITS = {"d": 86400.0, "w": 604800.0}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class CacheEntry(msgspec.Struct, kw_only=True):
    """One thing in the cache. `type` is `step` (the layer of a step) or `mount` (a RUN --mount=type=cache directory).

    `id` names it: the beginning of its newest key, or of the mount's directory. `in_use`: a running build or step has
    it. `shared`: an image or container needs the layer too, so that removing the record frees nothing.
    """

    id: str
    type: str
    description: str
    size: int
    created: float
    used: float
    hits: int = 0
    in_use: bool = False
    shared: bool = False
    protected: bool = False
    origin: Origin | None = None
    keys: list[str] = []
    snapshot: int = 0

    @property
    def reclaimable(self) -> int:
        """The bytes that its removal frees."""
        return 0 if self.shared else self.size


class Policy(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What goes: what is unused for so many seconds, and the longest unused ones until no limit is passed.
    With neither, everything that the filters let through.

    `max_used` and `reserved` are bytes of all reclaimable entries together: the former is gone down to, the latter
    never gone below. `min_free` are bytes of the file system. `keep` is how many entries stay at most. `all` includes
    layers that images need too (their records only). `mounts`: cache mounts as well; they are always last.
    """

    filters: dict[str, list[str]] = {}
    unused_for: float | None = None
    max_used: int | None = None
    reserved: int = 0
    min_free: int | None = None
    keep: int | None = None
    all: bool = False
    mounts: bool = False

    def check(self) -> None:
        """Raises InvalidInput for a limit below nothing."""
        for name in ("unused_for", "max_used", "min_free", "keep", "reserved"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InvalidInput(f"invalid limit {name.replace('_', '-')}: {value} is less than nothing")


def matcher(filters: Mapping[str, Sequence[str]], now: float) -> Callable[[CacheEntry], bool]:
    """Whether an entry fulfils all filters (one value of each). Raises InvalidInput for an unknown one."""
    tests: list[Callable[[CacheEntry], bool]] = []
    for name, values in filters.items():
        if name not in _FILTERS:
            raise InvalidInput(f"invalid filter '{name}'", hint=f"There are {', '.join(_FILTERS)}.")
        found = [_test(name, value, now) for value in values]
        tests.append(lambda entry, found=found: any(test(entry) for test in found))  # type: ignore[misc]
    return lambda entry: all(test(entry) for test in tests)


def _test(name: str, value: str, now: float) -> Callable[[CacheEntry], bool]:
    if name in ("until", "unused-for"):
        seconds = _seconds(name, value)
        return lambda entry: entry.used <= now - seconds
    if name in ("inuse", "shared", "protected"):
        if value.lower() not in _TRUTH:
            raise InvalidInput(f"invalid filter '{name}={value}': it takes true or false")
        wanted, field = _TRUTH[value.lower()], {"inuse": "in_use"}.get(name, name)
        return lambda entry: getattr(entry, field) is wanted
    if name == "type":
        if value not in ("step", "mount"):
            raise InvalidInput(f"invalid filter 'type={value}'", hint="There are step and mount.")
        return lambda entry: entry.type == value
    if name == "id":
        return lambda entry: matches_id(entry, value)
    if name == "file":
        return lambda entry: entry.origin is not None and value in entry.origin.file
    if name == "line":
        return lambda entry: entry.origin is not None and f"{entry.origin.file}:{entry.origin.line}".endswith(value)
    return lambda entry: value in entry.description


def _seconds(name: str, value: str) -> float:
    try:
        return parse_age(value)
    except ValueError:
        raise InvalidInput(f"invalid filter '{name}={value}': it takes a duration (90m, 36h, 7d, 2w)") from None


def parse_age(text: str) -> float:
    """Seconds of a Go duration, or of whole days or weeks (`7d`, `2w`). Raises ValueError."""
    if text[-1:] in _LONG_UNITS and text[:-1].isdecimal():
        return int(text[:-1]) * _LONG_UNITS[text[-1]]
    return parse_duration(text) / 1e9


def matches_id(entry: CacheEntry, name: str) -> bool:
    """Whether this is a beginning of the entry's id or of one of its keys, or its snapshot's number, or its name."""
    hexes = [entry.id, *(key.removeprefix("sha256:") for key in entry.keys)]
    if any(each.startswith(name.removeprefix("sha256:")) for each in hexes) and len(name) >= 3:
        return True
    return name == entry.description if entry.type == "mount" else name == str(entry.snapshot)


def choose(entries: Iterable[CacheEntry], policy: Policy, *, free: int, now: float) -> list[CacheEntry]:
    """The entries that a policy removes, in the order they go: layers before mounts, long unused before others.

    Never: what is in use or protected. `free` are the bytes free on the file system.
    """
    every = list(entries)
    wanted = matcher(policy.filters, now)
    total = sum(entry.reclaimable for entry in every)
    count = len(every)
    limited = policy.max_used is not None or policy.min_free is not None or policy.keep is not None
    gone: list[CacheEntry] = []
    # A chain of steps is used at one time: those that were made last stand on the others and go first.
    for entry in sorted(every, key=lambda each: (each.type == "mount", round(each.used), -each.created)):
        if entry.in_use or entry.protected or not wanted(entry):
            continue
        if (entry.type == "mount" and not policy.mounts) or (entry.shared and not policy.all):
            continue
        reason = not (limited or policy.unused_for is not None)
        reason |= policy.unused_for is not None and entry.used <= now - policy.unused_for
        reason |= policy.max_used is not None and total > policy.max_used
        reason |= policy.min_free is not None and free < policy.min_free
        reason |= policy.keep is not None and count > policy.keep
        if not reason:
            continue
        if policy.reserved and total - entry.reclaimable < policy.reserved:
            continue
        gone.append(entry)
        total -= entry.reclaimable
        free += entry.reclaimable
        count -= 1
    return gone
