"""Kinds of values, and those of scalars: each checks what stands in a file and returns its canonical form.

The schema (`buildtool.stacks.schema`) is made of them. The canonical form is what `config` prints: long forms, sizes
and ports as text, durations in Go's spelling, `key=value` lists as mappings. Checking it again changes nothing.
`arrange` puts a canonical value in the order that `config` prints and leaves out what says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from buildtool.buildfile.suggest import did_you_mean
from buildtool.stacks.durations import duration_text, nanoseconds
from buildtool.stacks.scalars import to_text
from buildtool.stacks.tree import Mark, Override, Path, Reset, StackError

_BYTES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")
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
