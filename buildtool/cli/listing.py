"""Lists of things as Docker prints them: tables with aligned columns, templates, JSON lines, ids only."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    Row = Mapping[str, Any]

_MIN_WIDTH = 10
_PADDING = 3


def print_rows(
    rows: Iterable[Row], form: str, default: Sequence[str], headers: Mapping[str, str], *, quiet: str = ""
) -> None:
    """Print rows of fields by `--format`, or as a table of the `default` fields.

    A field that is a function is a method for templates (`.Label "x"`). `quiet` names the only field to print. A
    template that fails raises TemplateError.
    """
    if quiet and not form:
        for row in rows:
            sys.stdout.write(f"{row[quiet]}\n")
        return
    if not form or form == "table":
        print_table([[headers[name] for name in default], *([str(row[name]) for name in default] for row in rows)])
        return
    if form == "json":
        form = "{{json .}}"
    from buildtool.cli.gotemplate import Template

    form = form.replace("\\t", "\t").replace("\\n", "\n")
    if not form.startswith("table"):
        template = Template(form)
        for row in rows:
            sys.stdout.write(template.render(dict(sorted(row.items()))) + "\n")
        return
    template = Template(form.removeprefix("table").strip())
    titles: dict[str, object] = dict(headers)
    rows = list(rows)
    titles |= {name: _header_of(name) for name in _methods(rows)}
    lines = [template.render(titles), *(template.render(row) for row in rows)]
    print_table([line.split("\t") for line in lines])


def _methods(rows: list[Row]) -> list[str]:
    return [name for name, value in rows[0].items() if callable(value)] if rows else ["Label"]


def _header_of(name: str) -> Callable[[str], str]:
    """What stands over a column like `{{.Label "com.example.role"}}`: `com.example.role`, as Docker has it."""

    def header(argument: str = "") -> str:
        return argument.replace("-", " ").replace("_", " ") or name.upper()

    return header


def print_table(lines: Sequence[Sequence[str]], minimum: int = _MIN_WIDTH) -> None:
    """Columns as Go's tabwriter makes them for Docker: at least ten wide, three spaces between, the last one open."""
    columns = max((len(line) for line in lines), default=0)
    widths = [
        max([minimum, *(len(line[index]) + _PADDING for line in lines if index < len(line) - 1)])
        for index in range(columns)
    ]
    for line in lines:
        cells = [cell.ljust(widths[index]) for index, cell in enumerate(line[:-1])]
        sys.stdout.write("".join([*cells, *line[-1:]]) + "\n")


def labels_text(labels: Mapping[str, str] | None) -> str:
    """`a=1,b=2`."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))
