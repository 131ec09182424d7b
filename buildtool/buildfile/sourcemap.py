"""Where the lines of a composed Buildfile come from, told in the file itself.

A file put together from a template or from included files has a directive `# sourcemap=[["FILE",LINE,COUNT],…]`:
line by line, in order. With it every place in a message is that of the line somebody wrote. To other builders it is
a comment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from buildtool.errors import Span


class Line(NamedTuple):
    """A line of text, and the file and line it comes from."""

    text: str
    file: str
    number: int


class MappedSpan(Span):
    """A place where it was written; `raw_line` is the line in the composed text."""

    __slots__ = ("raw_line",)

    raw_line: int


def raw_line(span: Span) -> int:
    """The line of the text that was parsed."""
    return span.raw_line if isinstance(span, MappedSpan) else span.line


class SourceMap:
    """The origins of the lines of a text."""

    __slots__ = ("_ends", "_runs")

    def __init__(self, runs: Sequence[tuple[str, int, int]]) -> None:
        self._runs = runs
        self._ends = list(accumulate(count for _, _, count in runs))

    @classmethod
    def of(cls, lines: Iterable[Line]) -> SourceMap:
        runs: list[tuple[str, int, int]] = []
        for line in lines:
            if runs and runs[-1][0] == line.file and runs[-1][1] + runs[-1][2] == line.number:
                file, first, count = runs[-1]
                runs[-1] = (file, first, count + 1)
            else:
                runs.append((line.file, line.number, 1))
        return cls(runs)

    @classmethod
    def read(cls, text: str) -> SourceMap | None:
        """The value of a directive; None when it is none of ours."""
        try:
            runs = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(runs, list) or not all(
            isinstance(run, list)
            and [type(item) for item in run] == [str, int, int]
            and 0 < run[1] < 1 << 31
            and 0 < run[2] < 1 << 31
            for run in runs
        ):
            return None
        return cls([(file, first, count) for file, first, count in runs])

    def __str__(self) -> str:
        return json.dumps(self._runs, ensure_ascii=False, separators=(",", ":"))

    def origin(self, line: int) -> tuple[str, int] | None:
        """File and line that a line (1-based) comes from."""
        from bisect import bisect_left

        index = bisect_left(self._ends, line)
        if line < 1 or index == len(self._runs):
            return None
        file, first, count = self._runs[index]
        return file, first + line - (self._ends[index] - count) - 1
