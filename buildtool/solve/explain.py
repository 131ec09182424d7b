"""Why the cache did not have a step: its key's ingredients against those of the last time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from buildtool.solve.keys import SCRATCH_KEY, Preimage

_SHOWN = 3
NO_RECORD = "it was not built before"
DROPPED = "its result was removed from the cache"
NO_CACHE = "the cache is not used (--no-cache)"

FilesOf = Callable[[], tuple[Sequence[str], Sequence[str]] | None]
"""The lines of the files before and now (Selection.lines), when they are known."""


def explain(before: Preimage | None, now: Preimage, parents: Sequence[str], files: FilesOf) -> str:
    """One line: what differs. `parents` are the names of the step's inputs, in order."""
    if before is None:
        return NO_RECORD
    now = msgspec.json.decode(msgspec.json.encode(now))  # as it is when it comes out of a record
    reasons = [*_step_changes(before["step"], now["step"])]
    if before.get("content") != now.get("content"):
        reasons.append(_file_changes(files()))
    reasons += _input_changes(before["inputs"], now["inputs"], parents)
    return "; ".join(reasons) if reasons else DROPPED


def _step_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    if before.get("op") != now.get("op"):
        return [f"the instruction was {before.get('op')}, now it is {now.get('op')}"]
    reasons = []
    for name in now:
        old, new = before.get(name), now[name]
        if old == new:
            continue
        if name == "env":
            reasons += _pairs(
                "ENV", dict(e.partition("=")[::2] for e in old or ()), dict(e.partition("=")[::2] for e in new)
            )
        elif name == "build_args":
            reasons += _pairs("ARG", dict(old or ()), dict(new))
        elif name == "args":
            reasons.append(f"the command changed: {_short(old)} → {_short(new)}")
        else:
            reasons.append(f"{name} changed: {_short(old)} → {_short(new)}")
    return reasons


def _pairs(kind: str, before: dict[str, str], now: dict[str, str]) -> list[str]:
    reasons = []
    for name in [*now, *(name for name in before if name not in now)]:
        if before.get(name) == now.get(name):
            continue
        if name not in before:
            reasons.append(f"{kind} {name} is new")
        elif name not in now:
            reasons.append(f"{kind} {name} is gone")
        else:
            reasons.append(f"{kind} {name} changed: {_short(before[name])} → {_short(now[name])}")
    return reasons


def _short(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = " ".join(text.split())
    return repr(text if len(text) <= 60 else text[:57] + "…")


def _input_changes(before: Sequence[str], now: Sequence[str], parents: Sequence[str]) -> list[str]:
    reasons = []
    for index, (name, new) in enumerate(zip(parents, now, strict=True)):
        old = before[index] if index < len(before) else ""
        if old == new:
            continue
        if name:
            reasons.append(f"an earlier step changed: {name}")
        else:
            reasons.append(f"the base image changed: {_digest(old)} → {_digest(new)}")
    return reasons


def _digest(key: str) -> str:
    return key if key in ("", SCRATCH_KEY) else key[7:19]


def _file_changes(files: tuple[Sequence[str], Sequence[str]] | None) -> str:
    if files is None:
        return "the files changed"
    before = dict(line.partition("\0")[::2] for line in files[0])
    now = dict(line.partition("\0")[::2] for line in files[1])
    changes = [("new", path) for path in now if path not in before]
    changes += [("removed", path) for path in before if path not in now]
    changes += [
        (_kind(before[path], now[path]), path) for path in now if path in before and before[path] != now[path]
    ]
    if not changes:
        return "the order of the files changed"
    shown = ", ".join(f"{path or '.'} ({kind})" for kind, path in sorted(changes, key=lambda c: c[1])[:_SHOWN])
    more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return f"{len(changes)} file{'s' if len(changes) > 1 else ''} changed: {shown}{more}"


def _kind(before: str, now: str) -> str:
    return "content" if before.rpartition(" ")[2] != now.rpartition(" ")[2] else "mode or owner"
