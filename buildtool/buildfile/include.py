"""INCLUDE: the instructions of other files, put where it stands.

`INCLUDE [--checksum=sha256:HEX] PATH|URL`. Paths are relative to the file that includes. A file that has stages is a
library of stages: what follows it begins a stage of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from buildtool.buildfile.arguments import Arguments
from buildtool.buildfile.scanner import Logical, Scanned, scan, without_continuation
from buildtool.buildfile.sourcemap import Line, SourceMap
from buildtool.errors import BuildtoolError, InvalidInput, Span

INCLUDE = "INCLUDE"
_MENTION = re.compile(r"^\s*INCLUDE(?:\s|$)", re.IGNORECASE | re.MULTILINE)
_CHECKSUM = re.compile(r"--checksum=(sha256:[0-9a-f]{64})")
_DEEPEST = 32


class Included(NamedTuple):
    """A file that was read: its name for messages, what makes it the same file, its lines, its bytes."""

    name: str
    identity: str
    lines: list[Line]
    data: bytes


Load = Callable[[str, str], Included]
"""Reads the file that a path or URL (first) means in a file (second, an identity). Raises BuildtoolError."""


def mentions_include(text: str) -> bool:
    """Whether a line looks like an INCLUDE (it may be part of a heredoc or a command)."""
    return _MENTION.search(text) is not None


def expand_includes(lines: Sequence[Line], name: str, identity: str, load: Load) -> list[Line]:
    """The lines with every INCLUDE replaced by what it includes.

    Raises InvalidInput, at the INCLUDE, for a file that cannot be had, for a circle of files and for a library of
    stages that instructions of no stage follow.
    """
    return _Expansion(load).expand(list(lines), name, [identity])


class _Expansion:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.escape: str | None = None

    def expand(self, lines: list[Line], name: str, stack: list[str]) -> list[Line]:
        text = "".join(f"{line.text}\n" for line in lines)
        scanned = scan(text, name, origins=SourceMap.of(lines))
        if self.escape is None:
            self.escape = scanned.escape
        result: list[Line] = []
        taken = 0
        library: Span | None = None
        for line in scanned.lines:
            keyword = line.keyword.upper()
            if library is not None and keyword not in ("FROM", INCLUDE):
                raise InvalidInput(
                    f"{keyword}: it would become part of the last stage of the file included above",
                    where=line.span(0, len(line.keyword)),
                    hint=f"{library} includes stages: begin a stage with FROM behind it",
                )
            library = None
            if keyword != INCLUDE:
                continue
            included, has_stages = self._include(line, stack)
            result += lines[taken : line.first_line - 1]
            result += included
            taken = line.last_line
            if has_stages:
                library = line.span(0, len(line.keyword))
        return result + lines[taken:]

    def _include(self, line: Logical, stack: list[str]) -> tuple[list[Line], bool]:
        path, checksum, where = _read(line)
        try:
            found = self.load(path, stack[-1])
        except BuildtoolError as error:
            if error.where is not None:
                raise
            raise InvalidInput(f"INCLUDE: {error.message}", where=where, hint=error.hint) from None
        if checksum and checksum != f"sha256:{hashlib.sha256(found.data).hexdigest()}":
            actual = hashlib.sha256(found.data).hexdigest()
            raise InvalidInput(f"INCLUDE: {found.name} has the checksum sha256:{actual}", where=where)
        if found.identity in stack:
            raise InvalidInput(
                f"INCLUDE: {found.name} includes itself", where=where, hint="it is being included here already"
            )
        if len(stack) >= _DEEPEST:
            raise InvalidInput("INCLUDE: files are included too deeply", where=where)
        lines = self._body(found, where)
        expanded = self.expand(lines, found.name, [*stack, found.identity])
        text = "".join(f"{each.text}\n" for each in expanded)
        scanned = scan(text, found.name, directives=False, escape=self.escape or "\\")
        return expanded, any(each.keyword.upper() == "FROM" for each in scanned.lines)

    def _body(self, found: Included, where: Span) -> list[Line]:
        """The lines behind the directives, checked to end with a whole instruction."""
        text = "".join(f"{line.text}\n" for line in found.lines)
        scanned = scan(text, found.name, origins=SourceMap.of(found.lines))
        if scanned.lines and scanned.escape != self.escape:
            raise InvalidInput(
                f"INCLUDE: {found.name} has another escape character ({scanned.escape})",
                where=where,
                hint=f"it has to be {self.escape} in all files of a build",
            )
        if _is_unfinished(scanned):
            raise InvalidInput(f"INCLUDE: {found.name} ends within a continued instruction", where=where)
        head = len(scanned.directives) + (bool(found.lines) and found.lines[0].text.startswith("#!"))
        return found.lines[head:]


def _is_unfinished(scanned: Scanned) -> bool:
    if not scanned.lines:
        return False
    line = scanned.lines[-1]
    last = scanned.source.lines[line.end_line - 1].rstrip("\r")
    ends_behind = line.last_line > line.end_line
    return not ends_behind and (
        without_continuation(last, scanned.escape)[1] or not last.strip() or last.lstrip().startswith("#")
    )


def _read(line: Logical) -> tuple[str, str, Span]:
    """Path, checksum ("" when none is given) and place of an INCLUDE."""
    words = [piece for _, piece in Arguments(line, INCLUDE, line.arguments).words("atoms")]
    checksum = ""
    if words and (match := _CHECKSUM.fullmatch(words[0].text)):
        checksum = match[1]
        del words[0]
    if len(words) != 1 or words[0].text.startswith("--"):
        raise InvalidInput(
            "INCLUDE: takes one path or URL",
            where=line.span(0),
            hint="write INCLUDE PATH, or INCLUDE --checksum=sha256:HEX URL",
        )
    return words[0].text, checksum, line.span(words[0].start, words[0].end)
