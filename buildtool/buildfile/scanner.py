"""Text to logical lines: directives, comments, continuations, heredoc bodies, and where every character came from.

A logical line is one instruction with its continuation lines joined. Its `text` is what the grammars parse; `span`
translates an offset in it back to file, line and column.
Source: ../shared/reference/build.md, table 1.1.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from buildtool.buildfile.heredocs import heredoc_marks
from buildtool.buildfile.instructions import Heredoc
from buildtool.buildfile.sourcemap import MappedSpan, SourceMap
from buildtool.errors import InvalidInput, Span

SPACES = " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(\S.*)")
_KEYWORD = re.compile(r"([^\t\v\f\r ]+)[\t\v\f\r ]*")
_OURS = {"template": "jinja2", "cache": "strict"}
_DIRECTIVES = ("syntax", "escape", "check", "sourcemap", "template", "cache")


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment line: its text without `#` and surrounding blanks."""

    text: str
    line: int


class Source:
    """The physical lines of one text, and spans into them: where `origins` says that its lines were written."""

    __slots__ = ("file", "lines", "origins")

    def __init__(self, text: str, file: str, origins: SourceMap | None = None) -> None:
        self.file = file
        self.origins = origins
        self.lines = text.removeprefix("\ufeff").split("\n")
        if self.lines[-1] == "":
            self.lines.pop()

    def span(self, line: int, column: int = 1, length: int | None = None) -> Span:
        """The place at `line` and `column` (1-based); without a length, to the end of the line."""
        text = self.lines[line - 1].rstrip("\r") if 0 < line <= len(self.lines) else ""
        if length is None:
            length = len(text.rstrip()) - column + 1
        return self.place(max(line, 1), column, max(1, min(length, len(text) - column + 1)), text)

    def place(self, line: int, column: int, length: int, text: str) -> Span:
        """The span of a stretch of `line`, whose text is given."""
        origin = self.origins.origin(line) if self.origins is not None else None
        if origin is None:
            return Span(self.file, line, column, length, text)
        span = MappedSpan(origin[0], origin[1], column, length, text)
        object.__setattr__(span, "raw_line", line)
        return span


class Break(NamedTuple):
    """Where a logical line goes on in the next physical one: at `offset` of its text, on `line`."""

    offset: int
    line: int


class Logical:
    """One logical line. `arguments` is where its arguments start in `text`.

    It takes the physical lines `first_line` to `last_line`; behind `end_line` there are only heredoc bodies.
    """

    __slots__ = (
        "_columns",
        "_lines",
        "_offsets",
        "arguments",
        "comments",
        "empty_lines",
        "end_line",
        "escape",
        "first_line",
        "heredocs",
        "keyword",
        "last_line",
        "source",
        "text",
    )  # fmt: skip

    def __init__(self, source: Source, first_line: int, comments: tuple[Comment, ...], escape: str) -> None:
        self.source = source
        self.escape = escape
        self.first_line = self.last_line = self.end_line = first_line
        self.comments = comments
        self.empty_lines: list[int] = []
        self.heredocs: list[Heredoc] = []
        self.text = ""
        self.keyword = ""
        self.arguments = 0
        self._offsets: list[int] = []
        self._lines: list[int] = []
        self._columns: list[int] = []

    def join(self, pieces: Sequence[tuple[str, int, int]]) -> None:
        """Make the text of pieces (text, line, column), then cut trailing blanks and find the keyword."""
        offset = 0
        for text, line, column in pieces:
            self._offsets.append(offset)
            self._lines.append(line)
            self._columns.append(column)
            offset += len(text)
        self.text = "".join(piece[0] for piece in pieces).rstrip(SPACES)
        match = _KEYWORD.match(self.text)
        self.keyword = match[1] if match else ""
        self.arguments = match.end() if match else 0

    @property
    def breaks(self) -> list[Break]:
        """Where the line was continued, in order."""
        return [Break(offset, line) for offset, line in zip(self._offsets[1:], self._lines[1:], strict=True)]

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column (1-based) of the character at `offset`."""
        piece = bisect_right(self._offsets, offset) - 1
        return self._lines[piece], self._columns[piece] + offset - self._offsets[piece]

    def span(self, start: int, end: int | None = None) -> Span:
        """The place of `text[start:end]`. Underlines only what stands on the line it starts on."""
        if end is None:
            end = len(self.text)
        piece = bisect_right(self._offsets, start) - 1
        if piece + 1 < len(self._offsets):
            end = min(end, self._offsets[piece + 1])
        column = self._columns[piece] + start - self._offsets[piece]
        line = self._lines[piece]
        return self.source.place(line, column, max(1, end - start), self.source.lines[line - 1].rstrip("\r"))


@dataclass(slots=True)
class Scanned:
    source: Source
    lines: list[Logical] = field(default_factory=list)
    directives: dict[str, str] = field(default_factory=dict)
    directive_lines: dict[str, int] = field(default_factory=dict)
    escape: str = "\\"


def scan(
    text: str, file: str, *, directives: bool = True, escape: str = "\\", origins: SourceMap | None = None
) -> Scanned:
    """Split a Buildfile into logical lines. Raises InvalidInput with a place.

    Heredoc bodies are taken out of the text and hang on the line that opens them, in order. Comments directly above
    an instruction hang on it; a blank line or an empty comment separates them from it.
    """
    source = Source(text, file, origins)
    scanned = Scanned(source, escape=escape)
    number = _read_directives(scanned) if directives else 0
    total = len(source.lines)
    comments: list[Comment] = []
    while number < total:
        raw = source.lines[number].rstrip("\r")
        stripped = raw.lstrip(SPACES)
        number += 1
        if not stripped:
            comments.clear()
            continue
        if stripped[0] == "#":
            comment = stripped[1:].strip()
            if comment:
                comments.append(Comment(comment, number))
            else:
                comments.clear()
            continue
        line = Logical(source, number, tuple(comments), scanned.escape)
        comments.clear()
        number = _join(line, stripped, len(raw) - len(stripped) + 1, number)
        if not line.text:
            continue
        line.end_line = number
        if "<<" in line.text:
            number = _read_heredocs(line, number)
        line.last_line = number
        scanned.lines.append(line)
    return scanned


def _join(line: Logical, text: str, column: int, number: int) -> int:
    """Collect continuation lines after physical line `number`; returns the number of the last line taken."""
    source = line.source.lines
    pieces: list[tuple[str, int, int]] = []
    body, more = without_continuation(text, line.escape)
    pieces.append((body, number, column))
    while more and number < len(source):
        raw = source[number].rstrip("\r")
        number += 1
        stripped = raw.lstrip(SPACES)
        if not stripped:
            line.empty_lines.append(number)
        elif stripped[0] != "#":
            body, more = without_continuation(raw, line.escape)
            pieces.append((body, number, 1))
    line.join(pieces)
    return number


def without_continuation(text: str, escape: str) -> tuple[str, bool]:
    """Cut `\\` and blanks after it off the end of a line, unless another `\\` stands before it."""
    end = text.rstrip(" \t")
    if not end.endswith(escape) or end.endswith(escape * 2):
        return text, False
    return end[:-1], True


def _read_heredocs(line: Logical, number: int) -> int:
    source = line.source.lines
    for mark in heredoc_marks(line.text, line.keyword, line.arguments):
        body: list[str] = []
        while True:
            if number >= len(source):
                raise InvalidInput(
                    f"{line.keyword.upper()}: unterminated heredoc: no line {mark.name!r} ends it",
                    where=line.span(mark.start, mark.end),
                    hint=f"end the heredoc with a line that is exactly {mark.name}"
                    + (" (leading tabs are allowed)" if mark.chomp else ", without blanks before or after it"),
                )
            raw = source[number]
            number += 1
            end = raw.rstrip("\r")
            if mark.chomp:
                raw, end = raw.lstrip("\t"), end.lstrip("\t")
            if end == mark.name:
                break
            body.append(raw + "\n")
        span = line.span(mark.start, mark.end)
        line.heredocs.append(Heredoc(mark.name, "".join(body), mark.expand, span, mark.fd))
    return number


def _read_directives(scanned: Scanned) -> int:
    """Read `# name=value` lines at the top. Returns how many physical lines they (and a `#!` line) take."""
    source = scanned.source
    number = 1 if source.lines and source.lines[0].startswith("#!") else 0
    while number < len(source.lines):
        raw = source.lines[number].rstrip("\r")
        stripped = raw.lstrip(SPACES)
        match = DIRECTIVE.match(stripped.rstrip())
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            return number
        if name in ("sourcemap", "template", "cache") and not _is_ours(name, match[2], source):
            return number
        number += 1
        if name in scanned.directives:
            raise InvalidInput(
                f"only one {name} parser directive can be used",
                where=source.span(number),
                hint=f"the first one stands on line {scanned.directive_lines[name]}; remove one of them",
            )
        value = match[2]
        if name == "escape":
            if value not in ("\\", "`"):
                column = len(raw) - len(stripped) + match.start(2) + 1
                raise InvalidInput(
                    f"invalid escape directive {value!r}: the escape character can only be \\ or `",
                    where=source.span(number, column, len(value)),
                    hint="write `# escape=\\` (the default) or `# escape=``",
                )
            scanned.escape = value
        scanned.directives[name] = value
        scanned.directive_lines[name] = number
    return number


def _is_ours(name: str, value: str, source: Source) -> bool:
    """Whether a directive that only we have is meant for us; another value makes it a comment, as everywhere."""
    if name in _OURS:
        return value.lower() == _OURS[name]
    source.origins = source.origins or SourceMap.read(value)
    return source.origins is not None
