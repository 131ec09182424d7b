"""`image diff`: what differs between two images, down to the bytes."""

from __future__ import annotations

import sys

from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from buildtool.cli.call import Call
    from buildtool.client import Client

_RANGES = 3


def diff(call: Call) -> int:
    """Print the differences; the exit code is 1 when there are any, as that of diff."""
    form = call.text("format") or "text"
    if form not in ("text", "json"):
        raise InvalidInput(f"unknown format {form!r}", hint="There are text and json.")
    found = differences(call.client, *call.arguments)
    if form == "json":
        import json

        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print_differences(found, sys.stdout)
    return 1 if found["differences"] else 0


def differences(client: Client, before: str, now: str) -> dict[str, Any]:
    """The daemon's answer: `before` and `now` (ids), `differences`. Raises EngineError."""
    answer: dict[str, Any] = client.get("/buildtool/v1/images/diff", {"before": before, "now": now})
    return answer


def print_differences(found: dict[str, Any], out: TextIO) -> None:
    """A line for each, those of a layer below its number."""
    if not found["differences"]:
        print(f"both are {found['now']}" if found["before"] == found["now"] else "no difference", file=out)
        return
    layer = 0
    for each in found["differences"]:
        if each.get("layer", 0) != layer:
            layer = each["layer"]
            print(_heading(found, layer), file=out)
        indent = "  " if layer else ""
        for line in _lines(each):
            print(f"{indent}{line}", file=out)


def _heading(found: dict[str, Any], layer: int) -> str:
    """The layer's number, and what made it."""
    titles = [names[layer - 1] for names in reversed(found["layers"]) if layer <= len(names)]
    return f"layer {layer}: {titles[0] if titles else ''}".rstrip()


def _lines(each: dict[str, Any]) -> list[str]:
    kind, name = each["kind"], each.get("name", "")
    before, now = each.get("before"), each.get("now")
    if kind == "more":
        return [f"and {name} more"]
    if kind == "order":
        return ["the same files in another order"]
    if kind == "layer":
        return [f"only in the first: {before}" if now is None else f"only in the second: {now}"]
    if kind == "archive":
        return ["the same files, written otherwise:", *_ranges(each)]
    what = each.get("field", "")
    label = f"{name} {what}" if kind == "file" and what != "file" else f"{kind} {name}" if kind != "file" else name
    if kind == "file" and what == "file":
        return [f"{label}: only in the first ({before})" if now is None else f"{label}: only in the second ({now})"]
    if what == "content":
        cause = [f"  {each['cause']}"] if each.get("cause") else []
        return [f"{label}: {_short(before)} -> {_short(now)}", *_ranges(each), *cause]
    return [f"{label}: {_value(before)} -> {_value(now)}"]


def _ranges(each: dict[str, Any]) -> list[str]:
    ranges = each.get("ranges", ())
    lines = [
        f"  bytes {part['start']}-{part['end'] - 1}: {part['before'] or '(none)'} -> {part['now'] or '(none)'}"
        for part in ranges[:_RANGES]
    ]
    return [*lines, *(["  and more"] if len(ranges) > _RANGES else [])]


def _short(digest: str | None) -> str:
    return (digest or "").removeprefix("sha256:")[:12]


def _value(value: str | None) -> str:
    return "(none)" if value is None else value if value.isprintable() and value else repr(value)
