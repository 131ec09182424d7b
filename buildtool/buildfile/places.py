"""Places in a Buildfile as other tools want them: whole instructions, and the lines around a place."""

from __future__ import annotations

from typing import Any

from buildtool.buildfile.scanner import Scanned, scan
from buildtool.buildfile.sourcemap import raw_line
from buildtool.errors import InvalidInput, Span


class Places:
    """Which lines the instructions of a text take. A text that cannot be scanned has single lines only."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.lines = text.split("\n")
        self._ranges: list[tuple[int, int]] = []
        try:
            scanned: Scanned = scan(text, file)
        except InvalidInput:
            return
        self._ranges = [(line.first_line, line.last_line) for line in scanned.lines]

    def instruction(self, line: int) -> tuple[int, int]:
        """First and last line of the instruction that `line` is part of (heredocs included), else the line."""
        return next(((first, last) for first, last in self._ranges if first <= line <= last), (line, line))

    def location(self, span: Span, *, whole: bool = True) -> dict[str, Any]:
        """BuildKit's location: a range for each line of the instruction, or for the span's line only."""
        line = raw_line(span)
        first, last = self.instruction(line) if whole else (line, line)
        return {"ranges": [{"start": {"line": n}, "end": {"line": n}} for n in range(first, last + 1)]}

    def excerpt(self, location: dict[str, Any], name: str = "") -> str:
        """The lines of a location, marked, between some lines around them, as BuildKit shows them."""
        marked = {each["start"]["line"] for each in location.get("ranges", ())}
        if not marked or not 1 <= min(marked) <= len(self.lines):
            return ""
        first, last = self._window(min(marked), min(max(marked), len(self.lines)))
        rows = [
            f" {n:>3} | {'>>>' if n in marked else '   '} {self.lines[n - 1].rstrip(chr(13))}\n"
            for n in range(first, last + 1)
        ]
        bar = "-" * 20 + "\n"
        return f"{name or self.file}:{min(marked)}\n{bar}{''.join(rows)}{bar}"

    def _window(self, first: int, last: int) -> tuple[int, int]:
        """Four lines around a single one, two around more; at an end of the file more of the other side."""
        wanted = 4 if first == last else 2
        taken = 0
        while taken < wanted:
            if first > 1:
                first, taken = first - 1, taken + 1
            if last < len(self.lines):
                last, taken = last + 1, taken + 1
            taken += 1
        return first, last
