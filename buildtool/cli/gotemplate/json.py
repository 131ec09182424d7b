"""Values as Go's encoding/json writes them: a struct's fields in Go's order, `omitempty` left out, maps sorted."""

from __future__ import annotations

import json
from typing import Any

from buildtool.cli.gotemplate.values import Missing, Value, elements, field_values, pairs, typed


def to_json(value: Any) -> str:
    """Compact JSON, text as it is (without HTML escapes)."""
    return _text(value)


def _string(text: str) -> str:
    out = json.dumps(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), ensure_ascii=False)
    return out.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x7f", "\x7f")


def _text(value: Any) -> str:
    if value is None or isinstance(value, Missing):
        return "null"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if not isinstance(value, Value):
        return ""
    kind, raw = value.type.kind, value.raw
    if value.type.name == "time.Time":
        from buildtool.cli.gotemplate.times import json_text

        return _string(json_text(raw))
    if value.type.name == "json.Number":
        return str(raw)
    if kind == "string":
        return _string(str(raw))
    if kind in ("int", "uint"):
        return str(int(raw))
    if kind == "bool":
        return "true" if raw else "false"
    if kind == "ptr":
        assert value.type.elem is not None
        return "null" if raw is None else _text(typed(value.type.elem, raw))
    if kind == "struct":
        if callable(raw):
            return str(raw())
        return "{" + ",".join(_members(value)) + "}"
    if raw is None and kind in ("map", "slice"):
        return "null"
    if kind == "map":
        return "{" + ",".join(f"{_string(_key(key))}:{_text(item)}" for key, item in pairs(value)) + "}"
    if kind in ("slice", "array"):
        return "[" + ",".join(_text(item) for item in elements(value)) + "]"
    return "null"


def _key(key: Any) -> str:
    return str(key.raw if isinstance(key, Value) else key)


def _members(value: Value) -> list[str]:
    made: list[str] = []
    for field, item in field_values(value):
        if field.embedded:
            inner = item
            if isinstance(inner, Value) and inner.type.kind == "ptr":
                if inner.raw is None or inner.type.elem is None:
                    continue
                inner = typed(inner.type.elem, inner.raw)
            made += _members(inner)
        elif field.key and not (field.omit_empty and _is_empty(item)):
            made.append(f"{_string(field.key)}:{_text(item)}")
    return made


def _is_empty(item: Any) -> bool:
    """What `omitempty` leaves out: never a struct."""
    return not item


def _float(number: float) -> str:
    if number.is_integer() and abs(number) < 1e21:
        return str(int(number))
    return repr(number)
