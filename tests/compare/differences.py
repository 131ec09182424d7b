"""Comparing two JSON documents: which fields are there, of what types, and with what values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_NORMAL = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), "<time>"),
    (re.compile(r"(sha256:)?[0-9a-f]{64}"), "<id>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<short id>"),
    (re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b"), "<address>"),
    (re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}"), "<mac>"),
    (re.compile(r"/tmp/[\w./-]+"), "<path>"),
)


@dataclass(frozen=True)
class Difference:
    """At `path` of the answer to `step`; `ours` and `theirs` are what is there.

    `kind` is `value` (of the same type), `type`, `length` (of a list), `more` (only ours has it) or `less`.
    """

    step: str
    path: str
    kind: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.step}  {self.path}: ours {self.ours}, docker's {self.theirs}"


def differences(step: str, ours: Any, theirs: Any, path: str = "$") -> Iterator[Difference]:
    """All differences but those of values that are never the same (ids, times, addresses, paths)."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            place = f"{path}.{key}"
            if key not in theirs:
                yield Difference(step, place, "more", _shown(ours[key]), "absent")
            elif key not in ours:
                yield Difference(step, place, "less", "absent", _shown(theirs[key]))
            else:
                yield from differences(step, ours[key], theirs[key], place)
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            yield Difference(step, path, "length", _shown(ours), _shown(theirs))
            return
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(step, one, other, f"{path}[{number}]")
    elif type(ours) is not type(theirs) or normal(ours) != normal(theirs):
        kind = "value" if type(ours) is type(theirs) else "type"
        yield Difference(step, path, kind, _shown(ours), _shown(theirs))


def normal(value: Any) -> Any:
    """A text without what differs from run to run."""
    if isinstance(value, str):
        for pattern, placeholder in _NORMAL:
            value = pattern.sub(placeholder, value)
    return value


def _shown(value: Any) -> str:
    text = repr(normal(value))
    return text if len(text) <= 120 else f"{text[:117]}..."
