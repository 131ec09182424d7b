"""One instruction laid out anew: its words with one blank between, its line breaks where they were.

What is no list of words (the command of a RUN, a path, an ONBUILD trigger) stays as it is to the last blank: it is
text that goes into the image and into the keys of the build cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from buildtool.buildfile.arguments import Arguments, Piece
from buildtool.buildfile.include import INCLUDE
from buildtool.buildfile.meaning import meaning
from buildtool.buildfile.parser import instruction_of
from buildtool.buildfile.scanner import SPACES, Break, Logical, scan
from buildtool.errors import InvalidInput

_STARTS = {
    INCLUDE: "atoms", "FROM": "atoms", "COPY": "atoms", "ADD": "atoms", "EXPOSE": "atoms", "VOLUME": "atoms",
    "ENV": "pairs", "LABEL": "pairs", "ARG": "args", "HEALTHCHECK": "check",
}  # fmt: skip
_JSON = frozenset({"RUN", "CMD", "ENTRYPOINT", "SHELL", "COPY", "ADD", "VOLUME", "HEALTHCHECK"})
_INDENT = "    "


class Token(NamedTuple):
    """A word of the instruction: `text` is what to write for `line.text[start:end]`.

    `tight` words stand right behind the one before; `raw` ones keep the lines they run over as they are.
    """

    text: str
    start: int
    end: int
    tight: bool = False
    raw: bool = False


def lay_out(line: Logical) -> list[str]:
    """The physical lines of an instruction, without its heredoc bodies, in the standard form.

    They mean exactly what the line meant; where that cannot be had, the lines are returned as they were.
    """
    rows = _Writer(line, list(_tokens(line))).rows()
    if _means_the_same(line, rows):
        return rows
    return [text.rstrip("\r") for text in line.source.lines[line.first_line - 1 : line.end_line]]


def _means_the_same(line: Logical, rows: list[str]) -> bool:
    bodies = line.source.lines[line.end_line : line.last_line]
    try:
        lines = scan("\n".join([*rows, *bodies, ""]), line.source.file, directives=False, escape=line.escape).lines
        if len(lines) != 1 or lines[0].comments or lines[0].end_line > len(rows):
            return False
        lines[0].comments = line.comments
        return _meaning(lines[0]) == _meaning(line)
    except InvalidInput:
        return False


def _meaning(line: Logical) -> object:
    if line.keyword.upper() == INCLUDE:
        return [piece.text for _, piece in Arguments(line, INCLUDE, line.arguments).words("atoms")]
    return meaning(instruction_of(line))


def _tokens(line: Logical) -> Iterator[Token]:
    keyword = line.keyword.upper()
    begin = line.text.index(line.keyword)
    yield Token(keyword, begin, begin + len(line.keyword))
    if keyword == "ONBUILD":
        yield Token(line.text[line.arguments :], line.arguments, len(line.text), raw=True)
        return
    arguments = Arguments(line, keyword, line.arguments)
    words = arguments.words(_STARTS.get(keyword, "text"))
    for index, (kind, piece) in enumerate(words):
        if keyword in _JSON and kind in ("ATOM", "TEXT"):
            items = arguments.json_array(arguments.rest(piece))
            if items is not None:
                yield from _array(line, piece.start, items)
                return
        text = piece.text
        if (keyword == "FROM" and kind == "ATOM" and index == len(words) - 2) or kind == "WORD":
            text = text.upper()
        yield Token(text, piece.start, piece.end, raw=kind == "TEXT")


def _array(line: Logical, start: int, items: list[Piece]) -> Iterator[Token]:
    """The tokens of a JSON array: `["a", "b"]`."""
    yield Token("[", start, start + 1)
    for index, item in enumerate(items):
        text = line.text[item.start : item.end] + ("," if index + 1 < len(items) else "")
        yield Token(text, item.start, item.end, tight=index == 0)
    end = line.text.rindex("]")
    yield Token("]", end, end + 1, tight=True)


class _Writer:
    """Writes tokens in rows: a row ends where the instruction was continued, comments stay between the same words."""

    def __init__(self, line: Logical, tokens: list[Token]) -> None:
        self.line = line
        self.tokens = tokens
        self.breaks = line.breaks
        self.done: list[str] = []
        self.row = ""
        self.next = 0
        self.indent = self._indent()

    def rows(self) -> list[str]:
        for number, token in enumerate(self.tokens):
            before = self._take(token.start)
            if number and before:
                self._end_row(" ", [self.indent + text for text in self._comments(before)])
                self.row = "" if token.tight and token.text == "]" else self.indent
            elif number:
                self.row += "" if token.tight else " "
            self._write(token)
        self.done.append(self.row)
        last = max([self.line.first_line, *(each.line for each in self.line.breaks)])
        return self.done + self._between(last, self.line.end_line + 1)

    def _write(self, token: Token) -> None:
        written = 0
        for each in self._take(token.end - 1):
            cut = each.offset - token.start
            self.row += token.text[written:cut]
            self._end_row("", self._comments([each], raw=token.raw))
            self.row, written = "", cut
        self.row += token.text[written:]

    def _take(self, offset: int) -> list[Break]:
        """The breaks up to an offset that have not been written yet."""
        first = self.next
        while self.next < len(self.breaks) and self.breaks[self.next].offset <= offset:
            self.next += 1
        return self.breaks[first : self.next]

    def _end_row(self, blank: str, comments: list[str]) -> None:
        self.done.append(self.row + blank + self.line.escape)
        self.done += comments

    def _comments(self, breaks: list[Break], *, raw: bool = False) -> list[str]:
        """The comment lines that stand before these continuations."""
        before = dict.fromkeys(self.breaks[:1], self.line.first_line)
        before |= {each: last.line for last, each in zip(self.breaks, self.breaks[1:], strict=False)}
        return [text for each in breaks for text in self._between(before[each], each.line, raw=raw)]

    def _between(self, first: int, last: int, *, raw: bool = False) -> list[str]:
        texts = (text.rstrip() for text in self.line.source.lines[first : last - 1])
        return [text if raw else text.lstrip(SPACES) for text in texts if text.lstrip(SPACES).startswith("#")]

    def _indent(self) -> str:
        """Four blanks; but what stands around a command of several lines is indented as the command is."""
        token = self.tokens[-1]
        if not token.raw or not any(token.start < each.offset < token.end for each in self.breaks):
            return _INDENT
        before = max((each.offset for each in self.breaks if each.offset <= token.start), default=0)
        starts_row = before and not self.line.text[before : token.start].strip(SPACES)
        inside = (each for each in self.breaks if each.offset > token.start)
        number = self.line.place(token.start)[0] if starts_row else next(inside).line
        match = re.match(r"[ \t]*", self.line.source.lines[number - 1])
        return match[0] if match else ""
