"""Hit or miss of each step of a build, by which key, and what differs from the nearest earlier record."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TextIO

    Step = Mapping[str, Any]

_HITS = {
    "definition": "cached, by its definition",
    "content": "cached, by the content of its files",
    "tree": "cached, by equal trees (early cutoff)",
    "base": "base image",
    "unneeded": "not needed: a later step is cached",
}
_ALONE = {
    "none": "it was not built before",
    "dropped": "its result was removed from the cache",
    "no-cache": "the cache is not used (--no-cache)",
    "never-cached": "it is never cached (RUN --no-cache)",
}
_KEY = 12


def print_explanation(steps: Iterable[Step], out: TextIO) -> None:
    """A line a step, and below a miss a line for each difference."""
    for step in steps:
        out.write(f"  #{step['index']} {step['name']}: {_verdict(step)}\n")
        for difference in step.get("differences") or ():
            if difference["kind"] not in _ALONE:
                out.write(f"       {_line(difference)}\n")


def _verdict(step: Step) -> str:
    if step["status"] == "cached":
        key = step["key"].removeprefix("sha256:")[:_KEY]
        words = _HITS.get(step.get("hit", ""), "cached")
        return f"{words} [{key}]" if step.get("hit") in ("definition", "content", "tree") else words
    if step["status"] in ("pending", "canceled"):
        return "not executed: the build ended before" if step["status"] == "pending" else "canceled"
    reasons = step.get("differences") or ()
    alone = next((_ALONE[each["kind"]] for each in reasons if each["kind"] in _ALONE), "")
    if step["status"] == "failed":
        return f"failed; {alone}" if alone else "failed"
    shared = " by another build at the same time" if step.get("hit") == "shared" else ""
    return f"executed{shared}: {alone or step.get('miss_reason') or 'no reason known'}"


def _line(difference: Mapping[str, Any]) -> str:
    kind, name = difference["kind"], difference.get("name", "")
    before, now = difference.get("before"), difference.get("now")
    if kind == "file":
        return f"file {name or '.'} ({difference.get('change')}): {_file(before)} → {_file(now)}"
    if kind == "step":
        return f"step {name}: {_short(before)} → {_short(now)}"
    if kind == "base":
        return f"base image: {_short(before)} → {_short(now)}"
    if kind == "files":
        return str(name)
    if kind == "expired":
        return f"age of its result: {before or 'not known'}, --cache-ttl allows {now}"
    what = {"env": f"ENV {name}", "arg": f"ARG {name}", "command": "command"}.get(kind, name)
    return f"{what}: {_value(before)} → {_value(now)}"


def _short(key: str | None) -> str:
    return key.removeprefix("sha256:")[:_KEY] if key else "(none)"


def _file(text: str | None) -> str:
    """A mode, an owner where it counts, and a digest."""
    if text is None:
        return "(none)"
    *attributes, digest = text.split(" ")
    return " ".join([f"0{attributes[0][-4:]}", *attributes[1:], digest[:_KEY]]).strip() if attributes else text


def _value(text: str | None) -> str:
    return "(not set)" if text is None else repr(text)
