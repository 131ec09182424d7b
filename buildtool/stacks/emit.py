"""A model as YAML or JSON text, laid out as docker compose prints it.

YAML: two spaces a level, sequences indented below their key, strings quoted only where a reader would take them for
something else. Reading the text again gives the same values.
"""

from __future__ import annotations

import json
import re
from typing import Any

from buildtool.stacks.scalars import float_text, is_plain_text

_INDICATORS = frozenset("-?:,[]{}#&*!|>'\"%@`")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f-\x9f\ufeff\u2028\u2029\ud800-\udfff]*")
_SAFE = re.compile(r"[A-Za-z/_.$][A-Za-z0-9/_.$@+=-]*")
_ESCAPES = {
    "\0": "\\0", "\a": "\\a", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f", "\r": "\\r",
    "\x1b": "\\e", '"': '\\"', "\\": "\\\\", "\x85": "\\N", "\u2028": "\\L", "\u2029": "\\P", "\ufeff": "\\uFEFF",
}  # fmt: skip


def to_yaml(model: dict[str, Any]) -> str:
    """The model as YAML text."""
    out: list[str] = []
    _mapping(model, "", out)
    return "".join(out) or "{}\n"


def to_json(model: dict[str, Any]) -> str:
    """The model as JSON text, two spaces a level, with the escapes of Go's encoder."""
    return _go_escapes(json.dumps(model, indent=2, ensure_ascii=False)) + "\n"


def compact_json(value: Any) -> str:
    """The value as Go's json.Marshal writes it."""
    return _go_escapes(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def _go_escapes(text: str) -> str:
    for char, code in (("<", "003c"), (">", "003e"), ("&", "0026"), ("\u2028", "2028"), ("\u2029", "2029")):
        if char in text:
            text = text.replace(char, f"\\u{code}")
    return text


def _mapping(value: dict[str, Any], indent: str, out: list[str], first: str = "") -> None:
    for key, item in value.items():
        lead, first = first or indent, ""
        out.append(f"{lead}{_key(str(key))}:")
        _value(item, indent, out)


def _key(text: str) -> str:
    return _double(text) if "\n" in text or text == "<<" else _scalar(text, "")


def _value(item: Any, indent: str, out: list[str]) -> None:
    if isinstance(item, dict) and item:
        out.append("\n")
        _mapping(item, indent + "  ", out)
    elif isinstance(item, list) and item:
        out.append("\n")
        _sequence(item, indent + "  ", out)
    else:
        out.append(f" {_leaf(item, indent)}\n")


def _sequence(items: list[Any], indent: str, out: list[str], first: str = "") -> None:
    for item in items:
        lead, first = first or indent, ""
        if isinstance(item, dict) and item:
            _mapping(item, indent + "  ", out, f"{lead}- ")
        elif isinstance(item, list) and item:
            _sequence(item, indent + "  ", out, f"{lead}- ")
        else:
            out.append(f"{lead}- {_leaf(item, indent)}\n")


def _leaf(item: Any, indent: str) -> str:
    if isinstance(item, str):
        return _scalar(item, indent)
    if item is None:
        return "null"
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, float):
        return {"+Inf": ".inf", "-Inf": "-.inf", "NaN": ".nan"}.get(float_text(item), float_text(item))
    if isinstance(item, dict):
        return "{}"
    return "[]" if isinstance(item, list) else str(item)


def _scalar(text: str, indent: str) -> str:
    if not text:
        return '""'
    if not is_plain_text(text):
        return _double(text)
    if _SAFE.fullmatch(text) and text not in ("---", "..."):
        return text
    if "\n" in text:
        return _literal(text, indent) if _fits_literal(text) else _double(text)
    if not _PLAIN.fullmatch(text):
        return _double(text)
    if _may_be_plain(text):
        return text
    return "'" + text.replace("'", "''") + "'"


def _may_be_plain(text: str) -> bool:
    if text[0].isspace() or text[-1].isspace() or text.startswith(("---", "...")):
        return False
    if text[0] in _INDICATORS and not (text[0] in "-?:" and len(text) > 1 and not text[1].isspace()):
        return False
    return ": " not in text and " #" not in text and not text.endswith(":")


def _fits_literal(text: str) -> bool:
    lines = text.split("\n")
    first = next((line for line in lines if line), "")
    return bool(first) and not first[0].isspace() and all(_PLAIN.fullmatch(line) for line in lines)


def _literal(text: str, indent: str) -> str:
    body = text.rstrip("\n")
    trailing = len(text) - len(body)
    mark = "|-" if trailing == 0 else "|" if trailing == 1 else "|+"
    lines = body.split("\n") + [""] * (trailing - 1 if trailing > 1 else 0)
    return mark + "".join(f"\n{indent}  {line}" if line else "\n" for line in lines)


def _double(text: str) -> str:
    out = []
    for char in text:
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif _PLAIN.fullmatch(char):
            out.append(char)
        else:
            code = ord(char)
            out.append(f"\\x{code:02X}" if code < 256 else f"\\u{code:04X}")
    return '"' + "".join(out) + '"'
