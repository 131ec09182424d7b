"""Findings as SARIF 2.1.0, which code hosts and editors read."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from buildtool.buildfile.instructions import Warning
from buildtool.buildfile.reports import Report
from buildtool.buildfile.rules import RULES
from buildtool.errors import BuildtoolError, Span

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
INVALID = "InvalidBuildfile"
"""The rule of files that do not parse, and of builds that would stop before their first step."""


def sarif_document(reports: Sequence[Report], version: str) -> dict[str, Any]:
    """One run over some files. Columns count characters; a finding ends where its place does, on its line."""
    rules = [
        {
            "id": rule.name,
            "name": rule.name,
            "shortDescription": {"text": rule.description},
            "helpUri": rule.url,
            "defaultConfiguration": {"level": "warning", "enabled": not rule.experimental},
        }
        for rule in RULES.values()
    ]
    rules.append({
        "id": INVALID,
        "name": INVALID,
        "shortDescription": {"text": "The file is no valid Buildfile, or cannot be built"},
        "defaultConfiguration": {"level": "error", "enabled": True},
    })  # fmt: skip
    index = {rule["id"]: number for number, rule in enumerate(rules)}
    results: list[dict[str, Any]] = []
    for report in reports:
        results += [_warning(warning, index[warning.rule]) for warning in report.warnings]
        if report.error is not None:
            results.append(_error(report, report.error, index[INVALID]))
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "buildtool", "version": version, "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }


def _warning(warning: Warning, index: int) -> dict[str, Any]:
    return {
        "ruleId": warning.rule,
        "ruleIndex": index,
        "level": "warning",
        "message": {"text": warning.message},
        "locations": [_location(warning.span)],
    }


def _error(report: Report, error: BuildtoolError, index: int) -> dict[str, Any]:
    text = f"{error.message}; {error.hint}" if error.hint else error.message
    return {
        "ruleId": INVALID,
        "ruleIndex": index,
        "level": "error",
        "message": {"text": text},
        "locations": [_location(error.where or Span(report.file, 1))],
    }


def _location(span: Span) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": span.line, "startColumn": span.column}
    if span.line_text:
        region |= {"endColumn": span.column + span.length, "snippet": {"text": span.line_text}}
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(span.file)}, "region": region}}


def _uri(path: str) -> str:
    """A relative path as a relative reference, an absolute one as a file URI."""
    quoted = quote(posixpath.normpath(path))
    return f"file://{quoted}" if path.startswith("/") else quoted
