"""The lines of a Buildfile that an instruction stands on."""

from __future__ import annotations

import re

from buildtool.errors import Span

_HEREDOC = re.compile(r"<<(-?)([\"']?)([A-Za-z_][A-Za-z0-9_.]*)\2")
_MOST = 40


def source_lines(text: str, span: Span) -> list[str]:
    """The instruction's lines, from the one of `span` on: with continuations and heredocs.

    Only the span's own line when it stands in another file than `text`.
    """
    lines = text.splitlines()
    at = span.line - 1
    if not 0 <= at < len(lines) or lines[at] != span.line_text:
        return [span.line_text]
    end = at + 1
    joined = lines[at]
    while end < len(lines) and (_goes_on(lines[end - 1]) or _is_between(lines, at, end)):
        joined += "\n" + lines[end]
        end += 1
    for dash, _, word in _HEREDOC.findall(joined):
        while end < len(lines):
            line = lines[end]
            end += 1
            if (line.lstrip("\t") if dash else line) == word:
                break
    return lines[at:end]


def whole_span(text: str, span: Span) -> Span:
    """The span with all lines of its instruction, cut in the middle when they are too many."""
    lines = source_lines(text, span)
    if len(lines) == 1:
        return span
    if len(lines) > _MOST:
        lines = [*lines[:_MOST], "…"]
    return Span(span.file, span.line, span.column, span.length, "\n".join(lines))


def _goes_on(line: str) -> bool:
    return line.rstrip().endswith(("\\", "`"))


def _is_between(lines: list[str], at: int, end: int) -> bool:
    """Whether the line before is a comment or an empty one within a continuation."""
    before = end - 1
    while before > at and (not lines[before].strip() or lines[before].lstrip().startswith("#")):
        before -= 1
    return before != end - 1 and _goes_on(lines[before])
