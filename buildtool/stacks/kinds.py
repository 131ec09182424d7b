"""Kinds of values: each checks what stands in a file and returns its canonical form.

The schema (`buildtool.stacks.schema`) is made of them. The canonical form is what `config` prints: long forms, sizes
and ports as text, durations in Go's spelling, `key=value` lists as mappings. Checking it again changes nothing.
`arrange` puts a canonical value in the order that `config` prints and leaves out what says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from buildtool.buildfile.durations import parse_duration
from buildtool.buildfile.suggest import did_you_mean
from buildtool.stacks.scalars import to_text
from buildtool.stacks.tree import Map, Mark, Override, Path, Reset, Seq, StackError

_BYTES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")
_DAYS = re.compile(r"(\d+(?:\.\d+)?)([wd])")
_TRUE = frozenset(("true", "y", "yes", "on"))
_FALSE = frozenset(("false", "n", "no", "off"))


# How the user's own names are sorted: as YAML's printer does it, or by their characters.
Order = Callable[[str], Any] | None


class At:
    """Where a value stands: its path, its place in the file, and whether variables were left in it."""

    __slots__ = ("_key", "_parent", "lenient", "mark")

    def __init__(
        self, mark: Mark | None, *, lenient: bool = False, parent: At | None = None, key: str | int = ""
    ) -> None:
        self.mark = mark
        self.lenient = lenient
        self._parent = parent
        self._key = key

    def into(self, key: str | int, mark: Mark | None) -> At:
        """The place of a part."""
        return At(mark or self.mark, lenient=self.lenient, parent=self, key=key)

    @property
    def path(self) -> Path:
        """The keys that lead here."""
        return (*self._parent.path, self._key) if self._parent is not None else ()

    def refuse(self, problem: str, hint: str = "") -> StackError:
        """The error that says what is wrong here."""
        return StackError(self.path, problem, self.mark, hint=hint)

    def leave(self, value: Any) -> bool:
        """Whether the value is to stay as it is: a variable that nobody has replaced yet."""
        return self.lenient and isinstance(value, str) and "$" in value


class Kind:
    """What may stand in one place."""

    def check(self, value: Any, at: At) -> Any:
        """The canonical form. Raises StackError."""
        if value.__class__ is Reset:
            return value
        if value.__class__ is Override:
            return Override(self.canonical(value.value, at))
        return self.canonical(value, at)

    def canonical(self, value: Any, at: At) -> Any:
        """The canonical form of a value without a tag."""
        raise at.refuse("is not known")

    def arrange(self, value: Any, order: Order = None) -> Any:
        """The canonical value as it is printed."""
        return value


class Anything(Kind):
    """Whatever YAML can say (`x-…`)."""

    def canonical(self, value: Any, at: At) -> Any:
        return value

    def arrange(self, value: Any, order: Order = None) -> Any:
        if isinstance(value, dict):
            return {key: self.arrange(value[key], order) for key in sorted(value, key=order)}
        if isinstance(value, list):
            return [self.arrange(item, order) for item in value]
        return value


ANYTHING = Anything()


class Text(Kind):
    """A string; with `numbers`, also a number that is taken as its digits. `choices` are the only ones allowed."""

    def __init__(self, *, numbers: bool = False, choices: Iterable[str] = (), pattern: str = "") -> None:
        self._numbers = numbers
        self._choices = tuple(choices)
        self._pattern = re.compile(pattern) if pattern else None

    def canonical(self, value: Any, at: At) -> Any:
        if self._numbers and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = to_text(value)
        if not isinstance(value, str):
            raise at.refuse("must be a string", hint="" if isinstance(value, (dict, list)) else "Quote it.")
        if self._choices and value not in self._choices and not at.leave(value):
            hint = did_you_mean(value, self._choices, otherwise=f"Choose from {', '.join(self._choices)}.")
            raise at.refuse(f"{value!r} is not a choice", hint)
        if self._pattern is not None and not self._pattern.fullmatch(value) and not at.leave(value):
            raise at.refuse(f"{value!r} does not match {self._pattern.pattern}")
        return value


class Integer(Kind):
    """A whole number, also as text."""

    def __init__(self, low: int | None = None, high: int | None = None) -> None:
        self._low, self._high = low, high

    def canonical(self, value: Any, at: At) -> Any:
        number = value
        if isinstance(value, str):
            if at.leave(value):
                return value
            try:
                number = int(value.strip(), 10)
            except ValueError:
                raise at.refuse(f"{value!r} is not a whole number") from None
        elif isinstance(value, float) and value.is_integer():
            number = int(value)
        if not isinstance(number, int) or isinstance(number, bool):
            raise at.refuse("must be a whole number")
        if (self._low is not None and number < self._low) or (self._high is not None and number > self._high):
            raise at.refuse(f"{number} is not between {self._low} and {self._high}")
        return number


class Decimal(Kind):
    """A number, also as text."""

    def canonical(self, value: Any, at: At) -> Any:
        if isinstance(value, str):
            if at.leave(value):
                return value
            try:
                value = float(value)
            except ValueError:
                raise at.refuse(f"{value!r} is not a number") from None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise at.refuse("must be a number")
        if value < 0:
            raise at.refuse("cannot be negative")
        return int(value) if float(value).is_integer() else float(value)


class Boolean(Kind):
    """True or false, also as text (a substituted variable)."""

    def canonical(self, value: Any, at: At) -> Any:
        if isinstance(value, bool) or at.leave(value):
            return value
        if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        raise at.refuse("must be true or false")


class Bytes(Kind):
    """A size: a number of bytes or text with a unit. Canonical: the number of bytes as text."""

    def canonical(self, value: Any, at: At) -> Any:
        if at.leave(value):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        if not isinstance(value, str):
            raise at.refuse("must be a size")
        if value.lstrip("-").isdecimal():
            return str(int(value))
        match = _SIZE.fullmatch(value.strip().lower())
        unit = match[2] if match else "?"
        unit = unit.removesuffix("ib") if len(unit) == 3 else unit.removesuffix("b") if len(unit) == 2 else unit
        if match is None or unit not in _BYTES:
            raise at.refuse(f"invalid size: {value!r}", "Write a number and b, k, kb, m, mb, g or gb.")
        return str(int(float(match[1]) * _BYTES[unit]))


class Duration(Kind):
    """A time span: `1m30s`, `1.5h`, `500ms`, also `2d` and `1w`. Canonical: as Go prints it."""

    def canonical(self, value: Any, at: At) -> Any:
        if not isinstance(value, str):
            raise at.refuse("must be a string", "Write a duration with its unit, 30s or 1m30s.")
        if at.leave(value):
            return value
        try:
            return duration_text(nanoseconds(value))
        except ValueError as error:
            raise at.refuse(str(error), "Write a duration with its unit: us, ms, s, m or h.") from None


class FileMode(Kind):
    """Permissions: an octal number, as a number or text. Canonical: `0444`."""

    def canonical(self, value: Any, at: At) -> Any:
        if at.leave(value):
            return value
        if isinstance(value, str):
            try:
                value = int(value.removeprefix("0o"), 8)
            except ValueError:
                raise at.refuse(f"{value!r} is not an octal number") from None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0o7777:
            raise at.refuse("must be a file mode", "Write it in octal, 0444 or '0444'.")
        return f"0{value:o}"


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


# Empty, and it still means something: a volume without options, the image's command taken away.
_EMPTY_SPEAKS = frozenset(("volume", "bind", "command", "deploy", "entrypoint", "tmpfs"))


def nanoseconds(text: str) -> int:
    """A duration in Go's format, also with days and weeks. Raises ValueError with the reason."""
    total = 0.0
    rest = text

    def add(match: re.Match[str]) -> str:
        nonlocal total
        total += float(match[1]) * (7 if match[2] == "w" else 1) * 86_400_000_000_000
        return ""

    if "d" in text or "w" in text:
        rest = _DAYS.sub(add, text)
        if not rest:
            return int(total)
    return int(total) + parse_duration(rest)


def duration_text(amount: int) -> str:
    """Nanoseconds as Go prints them: `1m30s`, `1h0m0s`, `500ms`, `0s`."""
    if amount == 0:
        return "0s"
    sign, amount = ("-", -amount) if amount < 0 else ("", amount)
    for unit, size in (("ns", 1), ("µs", 1000), ("ms", 1_000_000)):
        if amount < size * 1000 and not (unit == "ns" and amount >= 1000):
            return sign + _fraction(amount, size) + unit
    seconds, rest = divmod(amount, 1_000_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = _fraction(seconds * 1_000_000_000 + rest, 1_000_000_000) + "s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return sign + (f"{hours}h{text}" if hours else text)


def _fraction(amount: int, size: int) -> str:
    whole, rest = divmod(amount, size)
    if not rest:
        return str(whole)
    digits = str(rest).rjust(len(str(size)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
