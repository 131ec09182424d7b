"""Why the cache did not have a step: its key's ingredients against those of the nearest earlier record. Pure.

What differs is a list of `Difference`s, all of it; `summary` puts them into one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from buildtool.buildfile.checks import HIDDEN, is_secret_name
from buildtool.solve.keys import SCRATCH_KEY, Preimage

_FILES_AND_INPUTS = ("file", "files", "step", "base")
_SHOWN = 3
_FILES_AT_MOST = 5000
"""More differences are only counted: records of builds are kept."""
REMOTE_KEYS = ("http:", "git:")
"""How the keys of fetched sources begin."""
NO_RECORD = "it was not built before"
DROPPED = "its result was removed from the cache"
NO_CACHE = "the cache is not used (--no-cache)"
NEVER_CACHED = "it is never cached (RUN --no-cache)"

FilesOf = Callable[[], tuple[Sequence[str], Sequence[str]] | None]
"""The lines of the files before and now (Selection.lines), when they are known."""


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is not as it was.

    `kind` is `file` (`change` says how: content, new, removed, mode or owner), `files` (which of them is not known),
    `env`, `arg`, `command`, `field` (another property of the instruction), `step` (an earlier step changed), `base`
    (the base image's layers), `remote` (what a URL gives),
    or, alone, `none` (never built), `dropped`, `no-cache`, `never-cached` (RUN says
    so), `expired` (`before` is the result's age, `now` what --cache-ttl allows). `name` is the path, variable or
    step; `before` and `now` are digests, values or texts, None for what was or is not there, `***` for the value of a
    variable that is called like a secret.
    """

    kind: str
    name: str = ""
    before: str | None = None
    now: str | None = None
    change: str = ""


def differences(
    before: Preimage | None, now: Preimage, parents: Sequence[str | None], files: FilesOf
) -> list[Difference]:
    """All that differs. `parents` name the inputs of the step, "" for a base image; None is left out."""
    if before is None:
        return [Difference("none")]
    now = msgspec.json.decode(msgspec.json.encode(now))  # as it is when it comes out of a record
    found = [*_step_changes(before["step"], now["step"])]
    if before.get("content") != now.get("content"):
        found += _file_changes(files())
    found += _input_changes(before["inputs"], now["inputs"], parents)
    return found if found or before["inputs"] != now["inputs"] else [Difference("dropped")]


def summary(found: Sequence[Difference]) -> str:
    """One line: the first few files, everything else."""
    reasons = [_in_words(each) for each in found if each.kind not in _FILES_AND_INPUTS]
    changed = [each for each in found if each.kind == "file"]
    if changed:
        shown = ", ".join(f"{each.name or '.'} ({each.change})" for each in changed[:_SHOWN])
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        reasons.append(f"{len(changed)} file{'s' if len(changed) > 1 else ''} changed: {shown}{more}")
    reasons += [_in_words(each) for kind in _FILES_AND_INPUTS[1:] for each in found if each.kind == kind]
    return "; ".join(reasons)


def _in_words(each: Difference) -> str:
    alone = {"none": NO_RECORD, "dropped": DROPPED, "no-cache": NO_CACHE, "never-cached": NEVER_CACHED}.get(each.kind)
    if alone is not None or each.kind == "files":
        return alone or each.name
    if each.kind == "expired":
        age = f"it was made {each.before} ago" if each.before else "nobody knows when it was made"
        return f"its result is older than --cache-ttl={each.now}: {age}"
    if each.kind == "step":
        return f"an earlier step changed: {each.name}"
    if each.kind == "base":
        return f"the base image changed: {_digest(each.before or '')} → {_digest(each.now or '')}"
    if each.kind == "remote":
        return _remote_in_words(each)
    what = {"env": f"ENV {each.name}", "arg": f"ARG {each.name}", "command": "the command"}.get(each.kind, each.name)
    if each.before is None:
        return f"{what} is new"
    if each.now is None:
        return f"{what} is gone"
    return f"{what} changed: {_short(each.before)} → {_short(each.now)}"


def _remote_in_words(each: Difference) -> str:
    kind, new, *_ = str(each.now).split(":")
    was, old, *_ = [*str(each.before).split(":"), ""]
    what = "commit" if kind == "git" else "content"
    if was != kind:
        return f"{each.name} was not fetched before"
    if old == new:
        return f"another part of {each.name} is used"
    return f"{each.name} changed: {what} {old[:12]} → {new[:12]}"


def _step_changes(before: dict[str, Any], now: dict[str, Any]) -> Iterable[Difference]:
    if before.get("op") != now.get("op"):
        yield Difference("field", "the instruction", str(before.get("op")), str(now.get("op")))
        return
    for name in now:
        old, new = before.get(name), now[name]
        if old == new:
            continue
        if name == "env":
            yield from _pairs(
                "env", dict(e.partition("=")[::2] for e in old or ()), dict(e.partition("=")[::2] for e in new)
            )
        elif name == "build_args":
            yield from _pairs("arg", dict(old or ()), dict(new))
        elif name == "args":
            yield Difference("command", "", _text(old), _text(new))
        else:
            yield Difference("field", name, _text(old), _text(new))


def _pairs(kind: str, before: dict[str, str], now: dict[str, str]) -> Iterable[Difference]:
    for name in [*now, *(name for name in before if name not in now)]:
        if before.get(name) != now.get(name):
            yield Difference(kind, name, _shown(name, before.get(name)), _shown(name, now.get(name)))


def _shown(name: str, value: str | None) -> str | None:
    return HIDDEN if value and is_secret_name(name) else value


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _short(value: str) -> str:
    text = " ".join(value.split())
    return repr(text if len(text) <= 60 else text[:57] + "…")


def _input_changes(before: Sequence[str], now: Sequence[str], parents: Sequence[str | None]) -> Iterable[Difference]:
    for index, (name, new) in enumerate(zip(parents, now, strict=True)):
        old = before[index] if index < len(before) else ""
        if old != new and name is not None:
            kind = "remote" if new.startswith(REMOTE_KEYS) else "step" if name else "base"
            yield Difference(kind, name, old, new)


def _digest(key: str) -> str:
    return key if key in ("", SCRATCH_KEY) else key[7:19]


def _file_changes(files: tuple[Sequence[str], Sequence[str]] | None) -> list[Difference]:
    if files is None:
        return [Difference("files", "the files changed")]
    before = dict(line.partition("\0")[::2] for line in files[0])
    now = dict(line.partition("\0")[::2] for line in files[1])
    found = [
        Difference("file", path, before.get(path), now.get(path), _change(before.get(path), now.get(path)))
        for path in sorted({*before, *now})
        if before.get(path) != now.get(path)
    ]
    if len(found) > _FILES_AT_MOST:
        more = len(found) - _FILES_AT_MOST
        found[_FILES_AT_MOST:] = [Difference("files", f"{more} more files changed")]
    return found or [Difference("files", "the order of the files changed")]


def _change(before: str | None, now: str | None) -> str:
    """`before` and `now` are a mode (and owner) and a digest."""
    if before is None or now is None:
        return "new" if before is None else "removed"
    return "content" if before.rpartition(" ")[2] != now.rpartition(" ")[2] else "mode or owner"
