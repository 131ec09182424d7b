"""Kinds of values that have parts: lists, mappings, and mappings with known keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from buildtool.buildfile.suggest import did_you_mean
from buildtool.stacks.kinds import ANYTHING, At, Kind, Order
from buildtool.stacks.scalars import to_text
from buildtool.stacks.tree import Map, Mark, Override, Reset, Seq, StackError

# Empty, and it still means something: a volume without options, the image's command taken away.
_EMPTY_SPEAKS = frozenset(("volume", "bind", "command", "deploy", "entrypoint", "tmpfs"))


class ListOf(Kind):
    """A sequence of one kind.

    `expand` turns a short form into one or more long ones before the items are checked; `single` lets one item stand
    for a list of it; `unique` refuses the same item twice.
    """

    def __init__(
        self,
        item: Kind,
        *,
        expand: Callable[[Any, At], list[Any]] | None = None,
        single: bool = False,
        unique: bool = False,
    ) -> None:
        self.item = item
        self._expand = expand
        self._single = single
        self._unique = unique

    def canonical(self, value: Any, at: At) -> Any:
        if self._single and isinstance(value, (str, int, float)) and not isinstance(value, bool):
            one = Seq(at.mark)
            one.add(value, at.mark)
            value = one
        if not isinstance(value, Seq):
            raise at.refuse("must be a list")
        out = Seq(value.mark)
        seen: list[Any] = []
        for index, raw in enumerate(value):
            inner = at.into(index, value.place(index))
            if self._unique:
                if raw in seen:
                    raise at.refuse(
                        f"items[{seen.index(raw)},{index}] must be unique: {to_text(raw)!r} is there twice"
                    )
                seen.append(raw)
            for entry in self._expand(raw, inner) if self._expand is not None else [raw]:
                out.add(self.item.check(entry, inner), inner.mark)
        return out

    def arrange(self, value: Any, order: Order = None) -> Any:
        return [self.item.arrange(item, order) for item in value] if isinstance(value, list) else value


class DictOf(Kind):
    """A mapping from names of the user's choice to one kind; printed in the order of its names."""

    def __init__(self, item: Kind, *, names: str = "", convert: Callable[[Any, At], Any] | None = None) -> None:
        self.item = item
        self._names = re.compile(names) if names else None
        self._convert = convert

    def canonical(self, value: Any, at: At) -> Any:
        if self._convert is not None:
            value = self._convert(value, at)
        if not isinstance(value, Map):
            raise at.refuse("must be a mapping")
        out = Map(value.mark)
        for key, item in value.items():
            inner = at.into(key, value.place(key))
            if self._names is not None and not self._names.fullmatch(key):
                if key.startswith("x-"):
                    out.put(key, item, inner.mark)
                    continue
                raise inner.refuse(
                    f"{key!r} is not a valid name", "Names are made of letters, digits, dots, dashes and underscores."
                )
            out.put(key, self.item.check(item, inner), inner.mark)
        return out

    def arrange(self, value: Any, order: Order = None) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: self.item.arrange(value[key], order) for key in sorted(value, key=order)}


class Pairs(Kind):
    """`key: value` as a mapping or a list of `key=value`. Canonical: a mapping to text.

    A key without a value is null (`environment`), or "" with `filled` (`labels`).
    """

    def __init__(self, *, filled: bool = False) -> None:
        self._filled = filled

    def canonical(self, value: Any, at: At) -> Any:
        out = Map(getattr(value, "mark", None) or at.mark)
        if isinstance(value, Seq):
            for index, item in enumerate(value):
                mark = value.place(index)
                if not isinstance(item, str):
                    raise at.into(index, mark).refuse("must be a string", "Write KEY=VALUE, or a mapping KEY: VALUE.")
                key, separator, text = item.partition("=")
                out.put(key, text if separator else self._empty(), mark)
        elif isinstance(value, Map):
            for key, item in value.items():
                mark = value.place(key)
                if item.__class__ in (Reset, Override):
                    out.put(key, item, mark)
                elif isinstance(item, (dict, list)):
                    raise at.into(key, mark).refuse("must be a string, number, boolean or null")
                else:
                    out.put(key, self._empty() if item is None else to_text(item), mark)
        elif at.leave(value):
            return value
        else:
            raise at.refuse("must be a mapping or a list of KEY=VALUE")
        return out

    def _empty(self) -> str | None:
        return "" if self._filled else None

    def arrange(self, value: Any, order: Order = None) -> Any:
        return {key: value[key] for key in sorted(value, key=order)} if isinstance(value, dict) else value


class Struct(Kind):
    """A mapping with known keys, printed in the order in which they are given here.

    `convert` makes a mapping of a short form. `needed` are the keys that must be there, `kept` those printed even
    when they are false, 0 or empty. `nullable` lets the whole be null; `defaults` are put in when a key is missing.
    Keys that begin with `x-` are anybody's.
    """

    def __init__(
        self,
        fields: dict[str, Kind],
        *,
        convert: Callable[[Any, At], Any] | None = None,
        needed: tuple[str, ...] = (),
        kept: tuple[str, ...] = (),
        nullable: bool = False,
        defaults: dict[str, Any] | None = None,
        extensible: bool = True,
    ) -> None:
        self.fields = fields
        self._convert = convert
        self._needed = needed
        self._kept = frozenset(kept)
        self._nullable = nullable
        self._defaults = defaults or {}
        self._extensible = extensible

    def canonical(self, value: Any, at: At) -> Any:
        if self._convert is not None:
            value = self._convert(value, at)
        if value is None and self._nullable:
            return None
        if not isinstance(value, Map):
            if at.leave(value):
                return value
            raise at.refuse("must be a mapping")
        out = Map(value.mark)
        for key, item in value.items():
            kind = self.fields.get(key)
            mark = value.place(key)
            if kind is None:
                if self._extensible and key.startswith("x-"):
                    out.put(key, item, mark)
                    continue
                raise self._unknown(key, at, mark)
            if item is None:
                out.put(key, None, mark)
            else:
                out.put(key, kind.check(item, at.into(key, mark)), mark)
        for key in self._needed:
            if out.get(key) is None:
                raise at.refuse(f"{key} is missing")
        for key, default in self._defaults.items():
            if out.get(key) is None:
                out.put(key, default, value.mark)
        return out

    def _unknown(self, key: str, at: At, mark: Mark | None) -> StackError:
        named = f"additional properties '{key}' not allowed"
        hint = did_you_mean(key, self.fields, otherwise=f"Known are {', '.join(sorted(self.fields))}.")
        error = StackError(at.path, named, mark, hint=hint)
        if mark is not None:
            error.where = mark.span(len(key))
        return error

    def arrange(self, value: Any, order: Order = None) -> Any:
        if not isinstance(value, dict):
            return value
        out = {}
        for key, kind in self.fields.items():
            if key in value:
                item = kind.arrange(value[key], order)
                if key in self._kept:
                    if item is not None:
                        out[key] = item
                elif item if not isinstance(item, (dict, list)) else item or key in _EMPTY_SPEAKS:
                    out[key] = item
        out.update((key, ANYTHING.arrange(value[key], order)) for key in sorted(value) if key.startswith("x-"))
        return out
