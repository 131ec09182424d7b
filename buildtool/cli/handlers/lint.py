"""`lint`: the build checks, without a daemon."""

from __future__ import annotations

import os
import sys

from buildtool.cli.buildfiles import STDIN, complain, find_files, read_file, shown, write_file
from buildtool.errors import BuildtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from buildtool.buildfile import IgnoreRules
    from buildtool.buildfile.reports import Report
    from buildtool.cli.call import Call

WARNED, FAILED = 1, 2


def lint(call: Call) -> int:
    """Check the files and print what is found.

    Ends with 0 when nothing is, with 1 when checks fired (and --fix did not mend all of it), with 2 when a file
    could not be read, does not parse or could not be built.
    """
    style = call.choice("format")
    from buildtool.cli.preprocessing import template_variables

    variables = template_variables(call, {})
    reports: list[Report] = []
    unread = False
    for path in find_files(call.arguments):
        try:
            text = read_file(path)
            if call.switch("fix"):
                text = _fix(path, text)
            reports.append(_report(path, text, variables))
        except BuildtoolError as error:
            complain(error)
            unread = True
    _print(reports, style)
    if unread or any(report.error is not None for report in reports):
        return FAILED
    return WARNED if any(report.warnings for report in reports) else 0


def _report(path: str, text: str, variables: Mapping[str, object]) -> Report:
    from buildtool.buildfile import parse
    from buildtool.buildfile.analysis import check, first_error
    from buildtool.buildfile.reports import Report
    from buildtool.cli.preprocessing import plain_text

    try:
        text = plain_text(text, shown(path), "" if path == STDIN else path, variables)
        buildfile = parse(text, shown(path))
    except BuildtoolError as error:
        return Report(shown(path), text, (), error)
    return Report(shown(path), text, check(buildfile, ignore=_ignore_rules(path)), first_error(buildfile))


def _ignore_rules(path: str) -> IgnoreRules | None:
    """The ignore file that a build in the file's directory would take."""
    from buildtool.buildfile import IgnoreRules

    if path == STDIN:
        return None
    for candidate in (f"{path}.dockerignore", os.path.join(os.path.dirname(path), ".dockerignore")):
        if os.path.isfile(candidate):
            return IgnoreRules.parse(read_file(candidate), candidate)
    return None


def _fix(path: str, text: str) -> str:
    """Mend the file in place and return its new text; STDIN is mended to STDOUT."""
    from buildtool.buildfile.fixes import fix_text

    try:
        fixed = fix_text(text, shown(path))
    except BuildtoolError:
        return text  # it does not parse: the report says so
    if path == STDIN:
        sys.stdout.flush()
        sys.stdout.buffer.write(fixed.text.encode())
        sys.stdout.buffer.flush()
    elif fixed.text != text:
        write_file(path, fixed.text)
    if fixed.warnings:
        rules = ", ".join(sorted({warning.rule for warning in fixed.warnings}))
        print(f"{shown(path)}: {len(fixed.warnings)} fixed ({rules})", file=sys.stderr)
    return fixed.text


def _print(reports: list[Report], style: str) -> None:
    import json

    if style == "text":
        _print_text(reports)
    elif style == "json":
        print(json.dumps([_document(report) for report in reports], indent=2, ensure_ascii=False))
    else:
        from buildtool import __version__
        from buildtool.buildfile.sarif import sarif_document

        print(json.dumps(sarif_document(reports, __version__), indent=2, ensure_ascii=False))


def _print_text(reports: list[Report]) -> None:
    from buildtool.buildfile.fixes import FIXABLE

    count = fixable = 0
    for report in reports:
        for warning in report.warnings:
            print(f"{warning.span}: {warning.rule}: {warning.message}\n{warning.span.excerpt()}")
            count += 1
            fixable += warning.rule in FIXABLE
        if report.error is not None:
            complain(report.error)
    sys.stdout.flush()
    if count:
        more = f"; {fixable} of rules that --fix can mend" if fixable else ""
        print(f"{count} warning{'s' if count > 1 else ''}{more}", file=sys.stderr)


def _document(report: Report) -> dict[str, Any]:
    from buildtool.buildfile.fixes import FIXABLE
    from buildtool.buildfile.rules import RULES

    error = report.error
    return {
        "file": report.file,
        "warnings": [
            {
                "rule": warning.rule,
                "message": warning.message,
                "line": warning.span.line,
                "column": warning.span.column,
                "length": warning.span.length,
                "fixable": warning.rule in FIXABLE,
                "url": RULES[warning.rule].url,
            }
            for warning in report.warnings
        ],
        "error": None
        if error is None
        else {
            "message": error.message,
            "hint": error.hint,
            "line": error.where.line if error.where is not None else None,
            "column": error.where.column if error.where is not None else None,
        },
    }
