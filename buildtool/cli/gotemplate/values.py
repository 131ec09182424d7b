"""Go's values: what JSON tells, seen through the types of Docker's documents.

A `string`, `int`, `float64` or `bool` is Python's own; nil without a type is None, and what a map does not have is
MISSING. Everything else is a Value: a type and its JSON, looked into only where a template goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple


class Field(NamedTuple):
    """A field of a struct; `key` is its name in JSON, "" for one that JSON leaves out."""

    name: str
    type: Type
    key: str
    omit_empty: bool
    embedded: bool


class Type:
    """A Go type. `kind` is one of bool, int, uint, float64, complex128, string, struct, map, slice, array, ptr,
    interface, func; `name` how %T prints it."""

    __slots__ = ("_fields", "elem", "key", "kind", "length", "methods", "name", "text_fields")

    def __init__(self, kind: str, name: str, elem: Type | None = None, key: Type | None = None) -> None:
        self.kind = kind
        self.name = name
        self.elem = elem
        self.key = key
        self.length = 0
        self.text_fields = ""
        self._fields: list[Field] | None = None
        self.methods: dict[str, Callable[..., Any]] = {}

    @property
    def fields(self) -> list[Field]:
        """A struct's, in Go's order."""
        if self._fields is None:
            self._fields = [_field(line) for line in self.text_fields.split("\n") if line.strip()]
        return self._fields

    def assignable_to(self, other: Type) -> bool:
        """Whether Go assigns a value of this type without a conversion (for the types that functions take)."""
        if self.name == other.name or other.kind == "interface":
            return True
        unnamed = {"slice", "map", "array"}
        return self.kind == other.kind and self.kind in unnamed and "[" in other.name and self.elem is other.elem


def _field(line: str) -> Field:
    name, _, rest = line.strip().partition(" ")
    embedded = name.startswith("+")
    type_text, _, tag = rest.partition(" ")
    key, _, option = tag.partition(",")
    name = name.removeprefix("+")
    return Field(name, parse(type_text), "" if key == "-" else key or name, option == "omitempty", embedded)


class Value:
    """What is not one of Python's own: `raw` is its JSON, None for nil and for what JSON left out."""

    __slots__ = ("raw", "type")

    def __init__(self, type_: Type, raw: Any) -> None:
        self.type = type_
        self.raw = raw

    def __bool__(self) -> bool:
        """Go's truth: a struct is true, a pointer unless nil, all others unless empty or zero."""
        if self.type.kind in ("struct", "func"):
            return True
        if self.type.kind == "array":
            return self.type.length > 0
        if self.type.kind in ("ptr", "interface"):
            return self.raw is not None
        return bool(self.raw)


class Missing:
    """What a map does not have: false, printed as `<no value>`."""

    def __bool__(self) -> bool:
        return False


MISSING = Missing()
STRING, BOOL, FLOAT = Type("string", "string"), Type("bool", "bool"), Type("float64", "float64")
INT, COMPLEX, ANY = Type("int", "int"), Type("complex128", "complex128"), Type("interface", "interface {}")
NUMBER = Type("string", "json.Number")
FUNC = Type("func", "func(...interface {}) interface {}")
_BASIC = {kind.name: kind for kind in (STRING, BOOL, FLOAT, INT, COMPLEX)} | {"any": ANY}
for _size in ("int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64"):
    _BASIC[_size] = Type("uint" if _size[0] == "u" else "int", _size)


@cache
def parse(text: str) -> Type:
    """The type that a text names: `map[string]*network.EndpointSettings`, `[]any`, `container.State`."""
    from buildtool.cli.gotemplate import documents

    if text in _BASIC:
        return _BASIC[text]
    if text.startswith("*"):
        elem = parse(text[1:])
        return Type("ptr", f"*{elem.name}", elem)
    if text.startswith("[]"):
        elem = parse(text[2:])
        return Type("slice", f"[]{elem.name}", elem)
    if text.startswith("[2]"):
        elem = parse(text[3:])
        array = Type("array", f"[2]{elem.name}", elem)
        array.length = 2
        return array
    if text.startswith("map["):
        key, _, rest = text[4:].partition("]")
        elem = parse(rest)
        return Type("map", f"map[{parse(key).name}]{elem.name}", elem, parse(key))
    named = documents.NAMED.get(text)
    if named is not None:
        under = parse(named)
        made = Type(under.kind, text, under.elem, under.key)
    elif text in documents.STRUCTS:
        made = Type("struct", documents.NAMES.get(text, text))
        made.text_fields = documents.STRUCTS[text]
    else:
        raise LookupError(text)
    made.methods = documents.METHODS.get(text, {})
    return made


@cache
def interface_types() -> tuple[Type, Type]:
    """The types of a JSON object and of an array whose content has no type."""
    return parse("map[string]any"), parse("[]any")


def typed(type_: Type, raw: Any) -> Any:
    """A value of this type from its JSON; what JSON does not have is the type's zero."""
    if type_.kind == "interface":
        return untyped(raw)
    if type_ is STRING:
        return raw if isinstance(raw, str) else ""
    if type_ is INT:
        return int(raw or 0) if isinstance(raw, (int, float)) else 0
    if type_ is BOOL:
        return bool(raw)
    if type_ is FLOAT:
        return float(raw or 0)
    if raw is None:
        raw = {"string": "", "int": 0, "uint": 0, "bool": False, "float64": 0.0}.get(type_.kind)
    return Value(type_, raw)


def untyped(raw: Any) -> Any:
    """A value of JSON as an `interface {}` holds it, numbers as `json.Number`."""
    if isinstance(raw, bool) or raw is None or isinstance(raw, (str, Value, Missing)):
        return raw
    if isinstance(raw, (int, float)):
        return Value(NUMBER, str(raw))
    if isinstance(raw, dict):
        return Value(interface_types()[0], raw)
    if isinstance(raw, list):
        return Value(interface_types()[1], raw)
    return Value(FUNC, raw)


def type_of(value: Any) -> Type:
    """The type of anything but None and MISSING."""
    if isinstance(value, Value):
        return value.type
    if isinstance(value, bool):
        return BOOL
    return {str: STRING, int: INT, float: FLOAT, complex: COMPLEX}[type(value)]


def pointed(value: Any) -> Any:
    """What a pointer points to, through all pointers; a nil pointer is itself."""
    while isinstance(value, Value) and value.type.kind == "ptr" and value.raw is not None:
        assert value.type.elem is not None
        value = typed(value.type.elem, value.raw)
    return value


def pairs(value: Value) -> list[tuple[Any, Any]]:
    """A map's keys and elements, sorted by key."""
    type_ = value.type
    assert type_.key is not None and type_.elem is not None
    return [(typed(type_.key, key), typed(type_.elem, item)) for key, item in sorted((value.raw or {}).items())]


def elements(value: Value) -> Iterator[Any]:
    """A slice's or an array's."""
    assert value.type.elem is not None
    raw = value.raw if value.raw is not None else [None] * value.type.length
    for item in raw:
        yield typed(value.type.elem, item)


def field_values(value: Value) -> list[tuple[Field, Any]]:
    """A struct's fields. An embedded struct reads from the same JSON object."""
    raw = value.raw if isinstance(value.raw, dict) else {}
    return [
        (field, typed(field.type, raw if field.embedded else raw.get(field.key) if field.key else None))
        for field in value.type.fields
    ]
