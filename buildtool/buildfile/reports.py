"""The findings of the build checks as text and as JSON, the way BuildKit's subrequest frontend.lint has them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from buildtool.buildfile.instructions import Warning
from buildtool.buildfile.places import Places
from buildtool.buildfile.rules import RULES
from buildtool.buildfile.sourcemap import MappedSpan
from buildtool.errors import BuildtoolError


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in one file: warnings, in order, and the error that stops a build of it."""

    file: str
    text: str
    warnings: Sequence[Warning]
    error: BuildtoolError | None = None


def lint_document(report: Report) -> dict[str, Any]:
    """The document of `--call=check,format=json`."""
    places = Places(report.text, report.file)
    data = base64.b64encode(report.text.encode("utf-8", "surrogateescape")).decode("ascii")
    document: dict[str, Any] = {
        "warnings": [_warning(warning, places) for warning in report.warnings],
        "sources": [{"filename": report.file, "data": data, "language": "Dockerfile"}],
    }
    if report.error is not None:
        where = report.error.where
        location = places.location(where) if where is not None and where.file == report.file else {}
        document["buildError"] = {"message": _message(report.error), "location": location}
    return document


def print_lint(report: Report) -> str:
    """What `--check` prints."""
    places = Places(report.text, report.file)
    count = len(report.warnings)
    if count:
        told = "1 warning has been found!" if count == 1 else f"{count} warnings have been found!"
        head = f"Check complete, {told}\n"
    else:
        head = "" if report.error is not None else "Check complete, no warnings found.\n"
    return head + "".join(_shown(warning, places) for warning in report.warnings)


def _shown(warning: Warning, places: Places) -> str:
    url = RULES[warning.rule].url
    return f"\nWARNING: {warning.rule} - {url}\n{warning.message}\n{_excerpt(warning, places)}"


def _excerpt(warning: Warning, places: Places) -> str:
    span = warning.span
    if isinstance(span, MappedSpan):
        return f"{span.file}:{span.line}\n{span.excerpt()}\n"
    return places.excerpt(_location(warning, places))


def _warning(warning: Warning, places: Places) -> dict[str, Any]:
    rule = RULES[warning.rule]
    return {
        "ruleName": rule.name,
        "description": rule.description,
        "url": rule.url,
        "detail": warning.message,
        "location": _location(warning, places),
    }


def _location(warning: Warning, places: Places) -> dict[str, Any]:
    return places.location(warning.span, whole=warning.rule != "NoEmptyContinuation")


def _message(error: BuildtoolError) -> str:
    return error.message if not error.hint else f"{error.message}: {error.hint}"
