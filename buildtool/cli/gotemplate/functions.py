"""The functions that templates may call: Go's own and Docker's.

Source: Go, text/template, "Functions"; docker CLI, "Format command and log output".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from buildtool.cli.gotemplate.json import to_json
from buildtool.cli.gotemplate.printing import printable, sprint, sprintf, sprintln, text_of
from buildtool.cli.gotemplate.values import FUNC, Missing, Value, elements, parse, pointed, type_of, typed

ITSELF = "\0"  # stands in messages for what is called or printed, as the template has it


class Refused(Exception):
    """A function cannot do what it was asked; what comes after `error calling NAME: `."""


def _index(item: Any, *keys: Any) -> Any:
    for number, key in enumerate(keys):
        item = pointed(item)
        if item is None or isinstance(item, Missing):
            raise Refused("index of nil pointer" if number else "index of untyped nil")
        type_ = type_of(item)
        if type_.kind == "ptr":
            raise Refused("index of nil pointer")
        if type_.kind in ("slice", "array", "string"):
            items = _bytes(item) if type_.kind == "string" else list(elements(item))
            item = items[_position(key, len(items) - 1)]
        elif type_.kind == "map":
            assert type_.elem is not None and type_.key is not None
            if key is None:
                raise Refused(f"value is nil; should be of type {type_.key.name}")
            if type_of(key).name != type_.key.name:
                raise Refused(f"value has type {type_of(key).name}; should be {type_.key.name}")
            raw = item.raw or {}
            item = typed(type_.elem, raw.get(_plain(key)))
        else:
            raise Refused(f"can't index item of type {type_.name}")
    return item


def _plain(value: Any) -> Any:
    return value.raw if isinstance(value, Value) else value


def _bytes(text: Any) -> list[Value]:
    return [Value(parse("uint8"), byte) for byte in str(_plain(text)).encode("utf-8", "surrogateescape")]


def _position(key: Any, most: int) -> int:
    if key is None or isinstance(key, Missing):
        raise Refused("cannot index slice/array with nil")
    if type_of(key).kind not in ("int", "uint"):
        raise Refused(f"cannot index slice/array with type {type_of(key).name}")
    number = int(_plain(key))
    if not 0 <= number <= most:
        raise Refused(f"index out of range: {number}")
    return number


def _slice(item: Any, *bounds: Any) -> Any:
    item = pointed(item)
    if item is None or isinstance(item, Missing):
        raise Refused("slice of untyped nil")
    if len(bounds) > 3:
        raise Refused(f"too many slice indexes: {len(bounds)}")
    kind = type_of(item).kind
    if kind == "string" and len(bounds) == 3:
        raise Refused("cannot 3-index slice a string")
    if kind not in ("string", "slice", "array"):
        raise Refused(f"can't slice item of type {type_of(item).name}")
    data = str(_plain(item)).encode("utf-8", "surrogateescape") if kind == "string" else list(item.raw or ())
    numbers = [_position(bound, len(data)) for bound in bounds]
    start, end = [*numbers, *([0, len(data)][len(numbers) :])][:2]
    if start > end:
        raise Refused(f"invalid slice index: {start} > {end}")
    if isinstance(data, bytes):
        return data[start:end].decode("utf-8", "surrogateescape")
    return Value(item.type, data[start:end])


def _length(item: Any) -> int:
    item = pointed(item)
    if item is None or isinstance(item, Missing):
        raise Refused("reflect: call of reflect.Value.Type on zero Value")
    type_ = type_of(item)
    if type_.kind == "string":
        return len(str(_plain(item)).encode("utf-8", "surrogateescape"))
    if type_.kind == "array":
        return type_.length
    if type_.kind not in ("map", "slice"):
        raise Refused("len of nil pointer" if type_.kind == "ptr" else f"len of type {type_.name}")
    return len(item.raw or ())


def _kind(value: Any) -> str:
    if value is None or isinstance(value, Missing):
        return ""
    kind = type_of(value).kind
    return kind if kind in ("bool", "int", "uint", "float64", "complex128", "string") else ""


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise Refused("missing argument for comparison")
    first = None if isinstance(first, Missing) else first
    for other in others:
        other = None if isinstance(other, Missing) else other
        if _same(first, other):
            return True
    return False


def _same(first: Any, other: Any) -> bool:
    one, two = _kind(first), _kind(other)
    if one != two:
        if {one, two} != {"int", "uint"} and first is not None and other is not None:
            raise Refused("incompatible types for comparison")
        return {one, two} == {"int", "uint"} and bool(_plain(first) == _plain(other))
    if one:
        return bool(_plain(first) == _plain(other))
    if first is None or other is None or _is_nil(first) or _is_nil(other):
        return _is_nil(first) == _is_nil(other)
    kinds = type_of(first).kind, type_of(other).kind
    if kinds[0] != kinds[1]:
        texts = [f"{text_of(value)}: {type_of(value).name}" for value in (first, other)]
        raise Refused(f"non-comparable types {', '.join(texts)}")
    if kinds[1] in ("map", "slice", "func"):
        raise Refused(f"non-comparable type {text_of(other)}: {type_of(other).name}")
    if kinds[0] == "ptr":
        return _plain(first) is _plain(other)
    return type_of(first) is type_of(other) and bool(_plain(first) == _plain(other))


def _is_nil(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, Value) and value.type.kind in ("ptr", "map", "slice", "func") and value.raw is None


def _less(first: Any, second: Any) -> bool:
    one, two = _kind(first), _kind(second)
    if not one or not two:
        raise Refused("invalid type for comparison")
    if one != two and {one, two} != {"int", "uint"}:
        raise Refused("incompatible types for comparison")
    if one in ("bool", "complex128"):
        raise Refused("invalid type for comparison")
    return bool(_plain(first) < _plain(second))


def _html(*values: Any) -> str:
    text = sprint(tuple(printable(value) for value in values))
    for char, escaped in (
        ("&", "&amp;"),
        ('"', "&#34;"),
        ("'", "&#39;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("\0", "\ufffd"),
    ):
        text = text.replace(char, escaped)
    return text


_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _js(*values: Any) -> str:
    text = sprint(tuple(printable(value) for value in values))
    return "".join(
        _JS[char] if char in _JS else char if char.isprintable() else f"\\u{ord(char):04X}" for char in text
    )


def _urlquery(*values: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(sprint(tuple(printable(value) for value in values)), safe="-_.~")


def _call(function: Any, *arguments: Any) -> Any:
    if function is None or isinstance(function, Missing):
        raise Refused("call of nil")
    if not isinstance(function, Value) or function.type is not FUNC:
        raise Refused(f"non-function {ITSELF} of type {type_of(function).name}")
    return function.raw(*arguments)


def _split(text: str, separator: str) -> Value:
    return Value(parse("[]string"), text.split(separator) if separator else list(text))


def _join(items: Any, separator: str) -> str:
    return separator.join(items.raw or ()) if isinstance(items, Value) else ""


def _title(text: str) -> str:
    out, begins = [], True
    for char in text:
        out.append(char.upper() if begins else char)
        begins = not (char.isalnum() or char == "_" or (ord(char) > 127 and not char.isspace()))
    return "".join(out)


def _truncate(text: str, length: int) -> str:
    if length < 0:
        raise Refused(f"runtime error: slice bounds out of range [:{length}]")
    return text.encode("utf-8", "surrogateescape")[:length].decode("utf-8", "surrogateescape")


def _pad(text: str, before: int, after: int) -> str:
    if text and min(before, after) < 0:
        raise Refused("strings: negative Repeat count")
    return f"{' ' * before}{text}{' ' * after}" if text else text


def _first(text: Any, *_others: Any) -> Any:
    return text


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "call": _call,
    "eq": _equal,
    "ge": lambda first, second: not _less(first, second),
    "gt": lambda first, second: not (_less(first, second) or _same(first, second)),
    "html": _html,
    "index": _index,
    "join": _join,
    "js": _js,
    "json": to_json,
    "le": lambda first, second: _less(first, second) or _same(first, second),
    "len": _length,
    "lower": str.lower,
    "lt": _less,
    "ne": lambda first, second: not _equal(first, second),
    "not": lambda value: not value,
    "pad": _pad,
    "print": lambda *values: sprint(values),
    "printf": lambda form, *values: sprintf(form, values),
    "println": lambda *values: sprintln(values),
    "slice": _slice,
    "split": _split,
    "title": _title,
    "truncate": _truncate,
    "upper": str.upper,
    "urlquery": _urlquery,
}
# The types of the parameters, and the type of those that may follow ("" for none); "any" is `interface {}`.
SIGNATURES: dict[str, tuple[tuple[str, ...], str]] = {
    "and": (("any",), "any"),
    "call": (("any",), "any"),
    "eq": (("any",), "any"),
    "ge": (("any", "any"), ""),
    "gt": (("any", "any"), ""),
    "html": ((), "any"),
    "index": (("any",), "any"),
    "join": (("[]string", "string"), ""),
    "js": ((), "any"),
    "json": (("any",), ""),
    "le": (("any", "any"), ""),
    "len": (("any",), ""),
    "lower": (("string",), ""),
    "lt": (("any", "any"), ""),
    "ne": (("any", "any"), ""),
    "not": (("any",), ""),
    "or": (("any",), "any"),
    "pad": (("string", "int", "int"), ""),
    "print": ((), "any"),
    "printf": (("string",), "any"),
    "println": ((), "any"),
    "slice": (("any",), "any"),
    "split": (("string", "string"), ""),
    "title": (("string",), ""),
    "truncate": (("string", "int"), ""),
    "upper": (("string",), ""),
    "urlquery": ((), "any"),
}
# What stands over a table's column passes through these as it is.
HEADER_FUNCTIONS = FUNCTIONS | dict.fromkeys(("json", "split", "join", "title", "lower", "upper", "truncate"), _first)
