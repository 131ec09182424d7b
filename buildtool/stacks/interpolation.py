"""Variables in string values: `$NAME`, `${NAME}` and the operators `-`, `:-`, `+`, `:+`, `?`, `:?`.

Operands are evaluated only when they are used, so an unused default neither warns nor fails.
Source: Compose specification, "Interpolation"; grammar/interpolation.lark.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from buildtool.stacks.tree import Map, Mark, Override, Path, Seq, StackError

Warn = Callable[[str], None]
# The uses that nearly every file is content with: no operand has a variable or a brace in it. For these neither Lark
# nor the grammar is loaded, which takes as long as reading a file of a hundred services.
_SIMPLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<bare>[_a-zA-Z][_a-zA-Z0-9]*)"
    r"|\{(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)(?:(?P<operator>:?[-+?])(?P<operand>[^${}]*))?\})"
)

# Shells have these and do not pass them on: docker compose takes `user: ${UID}:${GID}` for root's.
_CALLERS = {"UID": os.getuid, "GID": os.getgid}


class BadTemplate(Exception):
    """The text is no template."""


class MissingVariable(Exception):
    """`${NAME?message}` and there is none."""


class Variable:
    """A use of a variable: its name and what stands in for it or is demanded of it (`config --variables`)."""

    __slots__ = ("alternate", "default", "name", "required")

    def __init__(self, name: str, operator: str = "", operand: str = "") -> None:
        self.name = name
        self.default = operand if operator.endswith("-") else ""
        self.alternate = operand if operator.endswith("+") else ""
        self.required = operator.endswith("?")


def substitute(text: str, environment: Mapping[str, str], unset: Warn) -> str:
    """The text with its variables replaced; `unset` hears the names of those that have no value.

    Raises BadTemplate and MissingVariable.
    """
    if "$" not in text:
        return text
    if text.count("$") != sum(2 if match["escaped"] else 1 for match in _SIMPLE.finditer(text)):
        return by_grammar(text, environment, unset)
    return _SIMPLE.sub(lambda match: _simple(match, environment, unset), text)


def by_grammar(text: str, environment: Mapping[str, str], unset: Warn) -> str:
    """The same for any text, as `grammar/interpolation.lark` reads it."""
    return _text(_parse(text), environment, unset)


def _simple(match: re.Match[str], environment: Mapping[str, str], unset: Warn) -> str:
    if match["escaped"]:
        return "$"
    name = match["bare"] or match["name"]
    return _value_of(name, match["operator"] or "", lambda: match["operand"], environment, unset)


def variables(text: str) -> list[Variable]:
    """All uses of variables in the text, those in operands too."""
    if "$" not in text:
        return []
    found: list[Variable] = []
    for node in _parse(text).iter_subtrees_topdown():
        if node.data == "variable":
            parts = node.children
            if len(parts) == 1:
                found.append(Variable(str(parts[0])[1:]))
            elif len(parts) == 3:
                found.append(Variable(str(parts[1])))
            else:
                found.append(Variable(str(parts[1]), str(parts[2]), _source(parts[3])))
    return found


def interpolate(node: Any, environment: Mapping[str, str], unset: Warn, path: Path = ()) -> Any:
    """The tree with every string value interpolated, in place. Raises StackError at the value."""
    if isinstance(node, Map):
        for key, value in node.items():
            if value.__class__ is str:
                if "$" in value:
                    node[key] = _value(value, environment, unset, (*path, key), node.place(key))
            elif value.__class__ in (Map, Seq, Override):
                interpolate(value, environment, unset, (*path, key))
    elif isinstance(node, Seq):
        for index, value in enumerate(node):
            if value.__class__ is str:
                if "$" in value:
                    node[index] = _value(value, environment, unset, (*path, index), node.place(index))
            elif value.__class__ in (Map, Seq, Override):
                interpolate(value, environment, unset, (*path, index))
    elif isinstance(node, Override):
        if isinstance(node.value, str):
            node.value = _value(node.value, environment, unset, path, None)
        else:
            interpolate(node.value, environment, unset, path)
    return node


def _value(text: str, environment: Mapping[str, str], unset: Warn, path: Path, mark: Mark | None) -> str:
    try:
        return substitute(text, environment, unset)
    except BadTemplate:
        raise StackError(
            path, f"invalid interpolation format: {text!r}", mark, hint="Write a dollar sign that is meant so as $$."
        ) from None
    except MissingVariable as error:
        raise StackError(path, str(error), mark) from None


@lru_cache(maxsize=4096)
def _parse(text: str) -> Any:
    from lark.exceptions import UnexpectedInput

    from buildtool.grammar import load

    try:
        return load("interpolation").parse(text, start="text")
    except UnexpectedInput:
        raise BadTemplate(text) from None


def _text(tree: Any, environment: Mapping[str, str], unset: Warn) -> str:
    out: list[str] = []
    for part in tree.children:
        kind = getattr(part, "type", None)
        if kind == "ESCAPED":
            out.append("$")
        elif kind is not None:
            out.append(str(part))
        elif part.data == "braces":
            out.append(_text(part, environment, unset))
        else:
            out.append(_variable(part.children, environment, unset))
    return "".join(out)


def _variable(parts: list[Any], environment: Mapping[str, str], unset: Warn) -> str:
    if len(parts) == 1:
        return _value_of(str(parts[0])[1:], "", str, environment, unset)
    operator, operand = (str(parts[2]), parts[3]) if len(parts) > 3 else ("", None)
    return _value_of(str(parts[1]), operator, lambda: _text(operand, environment, unset), environment, unset)


def _value_of(
    name: str, operator: str, operand: Callable[[], str], environment: Mapping[str, str], unset: Warn
) -> str:
    """A variable's value, or what its operator makes of its operand."""
    value = environment.get(name)
    if not operator:
        if value is None and name in _CALLERS:
            return str(_CALLERS[name]())
        if value is None:
            unset(name)
        return value or ""
    there = bool(value) if operator[0] == ":" else value is not None
    if operator[-1] == "-":
        return value or "" if there else operand()
    if operator[-1] == "+":
        return operand() if there else value or ""
    if not there:
        message = operand()
        raise MissingVariable(f"required variable {name} is missing a value" + (f": {message}" if message else ""))
    return value or ""


def _source(tree: Any) -> str:
    """An operand as it was written."""
    return "".join(str(token) for token in tree.scan_values(lambda _: True))
