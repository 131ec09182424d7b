"""`.env` and `env_file`: lines of `NAME=value`, quoted or not, with the variables of earlier lines.

Source: reference/stacks.md 1.10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from buildtool.errors import InvalidInput
from buildtool.stacks.interpolation import BadTemplate, MissingVariable, Warn, substitute
from buildtool.stacks.tree import Source

_NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z0-9_.\-\[\]]+)[ \t]*")
_ESCAPE = re.compile(r"\\(?:([abcfnrtv\\\"$])|0([0-7]{1,3}))")
_CONTROL = {"a": "\a", "b": "\b", "c": "\\c", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def parse_env_file(
    text: str, name: str, environment: Mapping[str, str], unset: Warn, *, raw: bool = False
) -> dict[str, str]:
    """The variables of one file, in order.

    `environment` gives the values of variables in values and of names without one. With `raw` nothing of a value is
    interpreted. Raises InvalidInput at the line.
    """
    return _Parser(text.removeprefix("\ufeff").replace("\r\n", "\n"), name, environment, unset, raw).parse()


class _Parser:
    def __init__(self, text: str, name: str, environment: Mapping[str, str], unset: Warn, raw: bool) -> None:
        self._text = text
        self._source = Source(name, text)
        self._environment = environment
        self._unset = unset
        self._raw = raw
        self._at = 0
        self._found: dict[str, str] = {}

    def parse(self) -> dict[str, str]:
        while self._skip_blank():
            self._entry()
        return self._found

    def _skip_blank(self) -> bool:
        """Go to the next line that says something; False at the end."""
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "#":
                self._at = self._line_end()
            elif char.isspace():
                self._at += 1
            else:
                return True
        return False

    def _line_end(self) -> int:
        end = self._text.find("\n", self._at)
        return len(self._text) if end < 0 else end

    def _entry(self) -> None:
        match = _NAME.match(self._text, self._at)
        end = self._line_end()
        if match is None:
            raise self._wrong(f"unexpected character {self._text[self._at]!r} in a variable name", self._at)
        name, at = match[1], match.end()
        if at >= end or self._text[at] == "#":
            self._at = end
            if name in self._environment:
                self._found[name] = self._environment[name]
            return
        if self._text[at] not in "=:":
            raise self._wrong(f"unexpected character {self._text[at]!r} in variable name {name!r}", at)
        self._at = at + 1
        if self._raw:
            self._found[name] = self._text[self._at : end]
            self._at = end
            return
        while self._at < end and self._text[self._at] in " \t":
            self._at += 1
        quote = self._text[self._at : self._at + 1]
        self._found[name] = self._quoted(quote) if quote in ('"', "'") and quote else self._unquoted(end)

    def _unquoted(self, end: int) -> str:
        begin, value = self._at, self._text[self._at : end]
        self._at = end
        if value.startswith("#"):
            return ""
        comment = re.search(r"\s#", value)
        return self._expanded((value[: comment.start()] if comment else value).strip(), begin)

    def _quoted(self, quote: str) -> str:
        begin = self._at
        at = begin + 1
        while at < len(self._text) and self._text[at] != quote:
            at += 2 if self._text[at] == "\\" else 1
        if at >= len(self._text):
            raise self._wrong("unterminated quoted value", begin)
        value = self._text[begin + 1 : at]
        self._at = at + 1
        rest = self._text[self._at : self._line_end()].strip()
        if rest and not rest.startswith("#"):
            raise self._wrong(f"unexpected {rest!r} after a quoted value", self._at)
        self._at = self._line_end()
        if quote == "'":
            return value.replace("\\'", "'")
        return self._expanded(_ESCAPE.sub(_unescape, value), begin)

    def _expanded(self, value: str, begin: int) -> str:
        try:
            return substitute(value, _Chain(self._environment, self._found), self._unset)
        except BadTemplate:
            raise self._wrong(f"invalid interpolation format: {value!r}", begin) from None
        except MissingVariable as error:
            raise self._wrong(str(error), begin) from None

    def _wrong(self, problem: str, at: int) -> InvalidInput:
        line = self._text.count("\n", 0, at)
        column = at - (self._text.rfind("\n", 0, at) + 1)
        return InvalidInput(problem, where=self._source.span(line, column))


def _unescape(match: re.Match[str]) -> str:
    if match[2]:
        return chr(int(match[2], 8))
    letter = match[1]
    return "$$" if letter == "$" else _CONTROL.get(letter, letter)


class _Chain(dict[str, str]):
    """The environment's values before the file's own."""

    def __init__(self, first: Mapping[str, str], second: Mapping[str, str]) -> None:
        super().__init__(second)
        self.update((key, first[key]) for key in second if key in first)
        self._first = first

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """The value, or the default."""
        return self._first[key] if key in self._first else super().get(key, default)
