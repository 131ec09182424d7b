"""The functions that templates may call, and how Go prints and weighs values."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Missing:
    """What a field that does not exist evaluates to: false in conditions, null as JSON, an error when printed."""

    __slots__ = ("problem",)

    def __init__(self, problem: str) -> None:
        self.problem = problem


def is_true(value: Any) -> bool:
    """Go's truth: false, 0, nil and what is empty are false."""
    return not isinstance(value, Missing) and bool(value)


def show(value: Any) -> str:
    """A value as Go's fmt prints it."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, Missing):
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_nested(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(_nested(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e21 else repr(value)
    return str(value)


def _nested(value: Any) -> str:
    return "<nil>" if value is None else show(value)


def to_json(value: Any) -> str:
    """Compact JSON, text as it is (Go's encoder without HTML escapes)."""
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if not callable(item)}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_jsonable)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Missing):
        return None
    raise ValueError(f"cannot encode {type(value).__name__}")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None or isinstance(value, Missing):
            raise ValueError("index of untyped nil")
        if isinstance(value, dict):
            value = value.get(key, "" if all(isinstance(item, str) for item in value.values()) else None)
        elif not isinstance(key, int):
            raise ValueError("cannot index slice/array with type string")
        elif not 0 <= key < len(value):
            raise ValueError(f"reflect: slice index out of range: {key}")
        else:
            value = value[key]
    return value


def _slice(value: Any, *bounds: int) -> Any:
    return value[slice(*bounds)] if len(bounds) != 1 else value[bounds[0] :]


def _join(items: Any, separator: str = "") -> str:
    if items is None or isinstance(items, Missing):
        return ""
    if not isinstance(items, list):
        raise ValueError("wrong type for value; expected []string")
    return separator.join(show(item) for item in items)


def _truncate(text: str, length: int) -> str:
    return text[:length]


def _pad(text: str, before: int, after: int) -> str:
    return f"{' ' * before}{text}{' ' * after}" if text else text


def _title(text: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def _print(*values: Any) -> str:
    out = ""
    for position, value in enumerate(values):
        between = position and not isinstance(value, str) and not isinstance(values[position - 1], str)
        out += (" " if between else "") + show(value)
    return out


def _printf(form: str, *values: Any) -> str:
    from buildtool.cli.human import quoted

    out, rest, position = "", list(values), 0
    while position < len(form):
        if form[position] != "%":
            out += form[position]
            position += 1
            continue
        end = position + 1
        while end < len(form) and form[end] in "+-# 0123456789.":
            end += 1
        verb, options = form[end : end + 1], form[position + 1 : end]
        position = end + 1
        if verb == "%":
            out += "%"
        elif not rest:
            out += f"%!{verb}(MISSING)"
        else:
            value = rest.pop(0)
            text = value if verb in "dxXofeEgGc" and isinstance(value, (int, float)) else show(value)
            if verb == "q":
                text = quoted(show(value))
            out += f"%{options}{verb if not isinstance(text, str) else 's'}" % text
    return out


def _equal(first: Any, *others: Any) -> bool:
    return any(first == other for other in others)


def _and(*values: Any) -> Any:
    return next((value for value in values if not is_true(value)), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if is_true(value)), values[-1])


def _length(value: Any) -> int:
    return 0 if value is None or isinstance(value, Missing) else len(value)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _and,
    "eq": _equal,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "index": _index,
    "join": _join,
    "json": to_json,
    "le": lambda a, b: a <= b,
    "len": _length,
    "lower": str.lower,
    "lt": lambda a, b: a < b,
    "ne": lambda a, b: a != b,
    "not": lambda value: not is_true(value),
    "or": _or,
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(show(value) for value in values) + "\n",
    "slice": _slice,
    "split": lambda text, separator: text.split(separator) if separator else list(text),
    "title": _title,
    "truncate": _truncate,
    "upper": str.upper,
}
