"""What a translated template calls: fields, functions, printing, ranging. Each knows its site for errors.

Source: Go, text/template, "Actions" and "Arguments" (what may follow a dot, and what is refused with which words).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from buildtool.cli.gotemplate.functions import ITSELF, Refused
from buildtool.cli.gotemplate.printing import printable, text_of
from buildtool.cli.gotemplate.values import (
    MISSING,
    Missing,
    Value,
    elements,
    field_values,
    pairs,
    parse,
    type_of,
    typed,
)


class Failure(Exception):
    """Execution ends here; `site` is the number of the site."""

    def __init__(self, message: str, site: int) -> None:
        super().__init__(message)
        self.site = site


def failed(message: str, site: int, *_evaluated: Any) -> Any:
    """Where a mistake was known before: raises it when execution comes here."""
    raise Failure(message, site)


def shown(value: Any, site: int) -> str:
    """A value as an action prints it."""
    value = printable(value)
    if isinstance(value, Value) and value.type.kind == "func":
        raise Failure(f"can't print {ITSELF} of type {value.type.name}", site)
    return text_of(value)


def ranged(value: Any, site: int, variables: int) -> Iterable[tuple[Any, Any]]:
    """What `range` goes through: index and element, or key and element; integers only for one variable at most."""
    if isinstance(value, Value) and value.type.kind == "ptr":
        value = _target(value)
    if value is None or isinstance(value, Missing):
        return ()
    kind = type_of(value).kind
    if kind in ("slice", "array"):
        return enumerate(elements(value))
    if kind == "map":
        return pairs(value)
    if kind in ("int", "uint") and variables > 1:
        raise Failure(f"can't use {text_of(value)} to iterate over more than one variable", site)
    if isinstance(value, int) and not isinstance(value, bool):
        return _count(value)
    if kind in ("int", "uint"):
        return [(typed(value.type, number), typed(value.type, number)) for number in range(value.raw)]
    raise Failure(f"range can't iterate over {text_of(value)}", site)


def _count(number: int) -> Iterator[tuple[int, int]]:
    for position in range(number):
        yield position, position


def _target(value: Any) -> Any:
    while isinstance(value, Value) and value.type.kind == "ptr":
        if value.raw is None:
            return value
        assert value.type.elem is not None
        value = typed(value.type.elem, value.raw)
    return value


class Evaluation:
    """The functions of one template. `strict` refuses what a map does not have; `titles` renders those of a table."""

    def __init__(self, functions: dict[str, Any]) -> None:
        self.functions = functions
        self.strict = False
        self.titles = False

    def argument(self, value: Any, type_name: str, site: int) -> Any:
        """A value for a parameter of a type. A title may go where its column's value does."""
        return value if self.titles and isinstance(value, str) else _argument(value, type_name, site)

    def invoke(self, name: str, site: int, *arguments: Any) -> Any:
        """Call a function."""
        try:
            return self.functions[name](*arguments)
        except Refused as refused:
            raise Failure(f"error calling {name}: {refused}", site) from None

    def fields(self, value: Any, names: tuple[str, ...], site: int, *arguments: Any) -> Any:
        """`value.A.B`, the last called with the arguments."""
        shown_type = ""
        for index, name in enumerate(names):
            given = arguments if index == len(names) - 1 else ()
            value, shown_type = self._field(value, name, given, site, shown_type)
        return value

    def _field(self, value: Any, name: str, given: tuple[Any, ...], site: int, shown_type: str) -> tuple[Any, str]:
        if isinstance(value, Missing):
            if self.strict:
                raise Failure(f'nil data; no entry for key "{name}"', site)
            return MISSING, ""
        if value is None:
            if shown_type or self.strict:
                raise Failure(f"nil pointer evaluating interface {{}}.{name}", site)
            return MISSING, ""
        type_name = shown_type or type_of(value).name
        target = _target(value)
        type_ = type_of(target)
        owner = type_.elem if type_.kind == "ptr" and type_.elem is not None else type_
        if name in owner.methods:
            method = owner.methods[name]
            return _called(method, name, target, given, site), ""
        if type_.kind == "struct":
            if isinstance(target.raw, Row):
                return target.raw.field(name, given, site, type_name), ""
            found = _member(target, name)
            if found is not None:
                if given:
                    raise Failure(f"{name} has arguments but cannot be invoked as function", site)
                return found[1], "interface {}" if found[0].kind == "interface" else ""
        elif type_.kind == "map" and type_.key is parse("string"):
            if given and callable((target.raw or {}).get(name)):
                return target.raw[name](*given), ""
            if given:
                raise Failure(f"{name} is not a method but has arguments", site)
            raw = target.raw or {}
            assert type_.elem is not None
            if name in raw:
                return typed(type_.elem, raw[name]), "interface {}" if type_.elem.kind == "interface" else ""
            if self.strict:
                raise Failure(f'map has no entry for key "{name}"', site)
            return MISSING, ""
        elif type_.kind == "ptr" and owner.kind == "struct" and _has(owner, name):
            raise Failure(f"nil pointer evaluating {type_name}.{name}", site)
        raise Failure(f"can't evaluate field {name} in type {type_name}", site)


def _member(value: Value, name: str) -> tuple[Any, Any] | None:
    """A field of a struct, its own before those of what is embedded."""
    inner: list[Value] = []
    for field, item in field_values(value):
        if field.name == name or (field.embedded and field.type.name.rpartition(".")[2] == name):
            return field.type, item
        if field.embedded:
            inner.append(_target(item))
    for item in inner:
        if item.type.kind == "struct":
            found = _member(item, name)
            if found is not None:
                return found
    return None


def _has(type_: Any, name: str) -> bool:
    return any(
        field.name == name or (field.embedded and _has(field.type.elem or field.type, name)) for field in type_.fields
    )


def _called(method: Any, name: str, target: Any, given: tuple[Any, ...], site: int) -> Any:
    wanted = method.__code__.co_argcount - 1
    if len(given) != wanted:
        raise Failure(f"wrong number of args for {name}: want {wanted} got {len(given)}", site)
    return method(target, *given)


class Row:
    """A line of a list as its templates see it: a struct whose fields are methods of Docker's formatter."""

    __slots__ = ("values",)

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __call__(self) -> str:
        """Its JSON."""
        from buildtool.cli.listing import row_json

        return row_json(self.values)

    def field(self, name: str, given: tuple[Any, ...], site: int, type_name: str) -> Any:
        """The value of a method called with the arguments."""
        if name not in self.values:
            raise Failure(f"can't evaluate field {name} in type {type_name}", site)
        value = self.values[name]
        wanted = 1 if callable(value) else 0
        if len(given) != wanted:
            raise Failure(f"wrong number of args for {name}: want {wanted} got {len(given)}", site)
        return value(_argument(given[0], "string", site)) if wanted else value


def _argument(value: Any, type_name: str, site: int) -> Any:
    """A value for a parameter of a type. Raises Failure when Go would not pass it."""
    if type_name == "any":
        return value
    wanted = parse(type_name)
    if isinstance(value, Missing) or value is None:
        if wanted.kind in ("slice", "map"):
            return typed(wanted, None)
        raise Failure(f"invalid value; expected {wanted.name}", site)
    found = type_of(value)
    if not found.assignable_to(wanted):
        if found.kind == "ptr" and found.elem is not None and found.elem.assignable_to(wanted):
            if value.raw is None:
                raise Failure(f"dereference of nil pointer of type {wanted.name}", site)
            return typed(found.elem, value.raw)
        raise Failure(f"wrong type for value; expected {wanted.name}; got {found.name}", site)
    return value
