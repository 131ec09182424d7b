"""What a job shows: grouped logs, annotations at lines of Buildfiles, and a summary.

Source: GitHub, "Workflow commands"; GitLab, "Custom collapsible sections" and "Code Quality report format".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from buildtool.cli.build_progress import PlainDisplay
from buildtool.cli.human import decimal_size

_PLACE = re.compile(r"(?P<file>[^:\n]+):(?P<line>\d+)(?::(?P<column>\d+))?: (?P<message>.*)", re.DOTALL)


class Finding:
    """Something said about a line of a file; `level` is `warning` or `error`."""

    __slots__ = ("column", "file", "level", "line", "message")

    def __init__(self, level: str, message: str, file: str = "", line: int = 0, column: int = 0) -> None:
        self.level = level
        self.message = message
        self.file = file
        self.line = line
        self.column = column

    @classmethod
    def of_failure(cls, message: str) -> Finding:
        """A build's failure, whose message may begin with its place."""
        match = _PLACE.match(message)
        if match is None:
            return cls("error", message)
        return cls("error", match["message"], match["file"], int(match["line"]), int(match["column"] or 0))


class Page:
    """The job's page of one CI (`github`, `gitlab`), whose files it names relative to the repository's `root`."""

    def __init__(self, system: str, root: str = "") -> None:
        self._system = system
        self._root = root
        self.findings: list[Finding] = []

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Log lines that fold away under a title."""
        name = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
        if self._system == "github":
            _say(f"::group::{title}")
        else:
            _say(f"\x1b[0Ksection_start:{int(time.time())}:{name}\r\x1b[0K{title}")
        try:
            yield
        finally:
            _say(
                "::endgroup::"
                if self._system == "github"
                else f"\x1b[0Ksection_end:{int(time.time())}:{name}\r\x1b[0K"
            )

    def annotate(self, finding: Finding) -> None:
        """Show it at its line; GitLab shows those of the report."""
        path = os.path.abspath(finding.file) if finding.file and self._root else ""
        if path.startswith(f"{self._root.rstrip('/')}/"):
            finding.file = os.path.relpath(path, self._root)
        self.findings.append(finding)
        if self._system == "github":
            _say(workflow_command(finding))

    def mask(self, secret: str) -> None:
        """Never show this text."""
        if self._system == "github":
            _say(f"::add-mask::{secret}")


class CiDisplay(PlainDisplay):
    """The plain log; warnings become annotations as well."""

    def __init__(self, page: Page) -> None:
        super().__init__(sys.stderr)
        self._page = page

    def show(self, event: Mapping[str, Any]) -> None:
        """One event."""
        super().show(event)
        span = event.get("span")
        if event["event"] == "warning" and span:
            self._page.annotate(Finding("warning", event["message"], span["file"], span["line"], span["column"]))


def workflow_command(finding: Finding) -> str:
    """`::error file=…,line=…::…`."""
    fields = [("file", finding.file), ("line", finding.line), ("col", finding.column)]
    shown = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in fields if value)
    return f"::{finding.level}{' ' if shown else ''}{shown}::{_escaped(finding.message)}"


def _escaped(text: str, more: str = "") -> str:
    for char in "%\r\n" + more:
        text = text.replace(char, f"%{ord(char):02X}")
    return text


def code_quality(findings: Sequence[Finding]) -> str:
    """GitLab's report: a JSON list."""
    severity = {"warning": "minor", "error": "blocker"}
    return json.dumps(
        [
            {
                "description": each.message,
                "check_name": "buildfile",
                "fingerprint": hashlib.sha256(f"{each.file}\0{each.message}".encode()).hexdigest(),
                "severity": severity[each.level],
                "location": {"path": each.file, "lines": {"begin": each.line}},
            }
            for each in findings
            if each.file
        ],
        indent=2,
    )


def summary(
    title: str,
    names: Sequence[str],
    digest: str,
    size: int,
    steps: Sequence[Mapping[str, Any]],
    failure: str = "",
    layers: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Markdown: what was made, of each step whether the cache had it, why not, and how long it took, and the sizes of
    the `layers` (as the image's history has them, the newest first).
    """
    ran = [step for step in steps if step.get("status") in ("done", "failed")]
    cached = sum(step.get("status") == "cached" for step in steps)
    lines = [f"## {title}", ""]
    if failure:
        lines += ["**Failed:**", "```", failure, "```"]
    if names:
        lines += ["| | |", "| --- | --- |", f"| Image | {'<br>'.join(f'`{name}`' for name in names)} |"]
        lines += [f"| Digest | `{digest}` |"] if digest else []
        lines += [f"| Size | {decimal_size(size)} |"] if size else []
        lines.append("")
    lines += [f"{cached} of {len(steps)} steps from the cache, {len(ran)} executed.", ""]
    if steps:
        lines += ["| Step | | Time | Why |", "| --- | --- | ---: | --- |"]
        lines += [_row(step) for step in steps]
    large = [layer for layer in reversed(layers) if layer.get("Size")]
    if large:
        lines += ["", "| Layer | Size |", "| --- | ---: |"]
        lines += [f"| `{_cell(str(each.get('CreatedBy', '')))}` | {decimal_size(each['Size'])} |" for each in large]
    return "\n".join(lines) + "\n"


def _row(step: Mapping[str, Any]) -> str:
    marks = {"cached": "cached", "done": "executed", "failed": "**failed**"}
    status = step.get("status", "")
    name = _cell(str(step.get("name", "")))
    why = "" if status == "cached" else str(step.get("miss_reason") or "").replace("|", "\\|").replace("\n", " ")
    seconds = "" if status == "cached" else f"{float(step.get('seconds') or 0):.1f} s"
    return f"| `{name}` | {marks.get(status, status)} | {seconds} | {why} |"


def _cell(text: str) -> str:
    """A text as code in a table's cell."""
    plain = text.replace("\n", " ").replace("|", "\\|").replace("`", "'") or "?"
    return plain if len(plain) <= 100 else f"{plain[:99]}…"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
