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
    rows: Iterable[Row],
    form: str,
    default: Sequence[str],
    headers: Mapping[str, str],
    *,
    quiet: str = "",
    kind: str | Callable[[Row], str] = "formatter.rowContext",
    problems: tuple[str, str] = ("template parsing error", "template parsing error"),
    raw: Sequence[tuple[str, str]] = (),
) -> None:
    """Print rows of fields by `--format`, or as a table of the `default` fields.

    A field that is a function is a method for templates (`.Label "x"`). `quiet` names the only field to print. `kind`
    is the Go type of a row, `problems` what is said before a mistake of syntax and before one of execution, `raw` the
    titles and fields that `--format raw` prints. A template that fails raises TemplateError, and nothing is printed.
    """
    if quiet and not form:
        for row in rows:
            sys.stdout.write(f"{row[quiet]}\n")
        return
    is_table = form.startswith("table")
    form = (form.removeprefix("table") if is_table else form).strip(" ")
    if is_table or not form:
        if not form:
            cells = ([str(row[name]) for name in default] for row in rows)
            print_table([[headers[name] for name in default], *cells])
            return
    elif form in ("json", "{{json .}}"):
        for row in rows:
            sys.stdout.write(f"{row_json(row)}\n")
        return
    elif form == "raw" and raw:
        for row in rows:
            lines = (f"{title}:{' ' * bool(row[name])}{row[name]}\n" for title, name in raw)
            sys.stdout.write("".join([*lines, "\n"]))
        return
    from buildtool.cli.gotemplate import Template, TemplateError

    try:
        template = Template(form.replace("\\t", "\t").replace("\\n", "\n"))
    except TemplateError as error:
        raise error.told(problems[0]) from None
    try:
        texts = [template.render_row(dict(row), kind if isinstance(kind, str) else kind(row)) for row in rows]
    except TemplateError as error:
        raise error.told(problems[1]) from None
    if not is_table:
        sys.stdout.write("".join(f"{text}\n" for text in texts))
        return
    try:
        title = template.render_row({**headers, "Label": _header_of}, "", headers=True)
    except TemplateError:
        title = ""
    print_table([line.split("\t") for text in (title, *texts) for line in text.split("\n")])


def row_json(row: Row) -> str:
    """A row as a JSON object: keys in order, no methods, and the escapes that Go's encoder makes."""
    import json

    plain = {key: value for key, value in row.items() if not callable(value)}
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _header_of(argument: str) -> str:
    """What stands over a column like `{{.Label "com.example.role"}}`: `role`, as Docker has it."""
    return argument.rpartition(".")[2].replace("-", " ").replace("_", " ")


def print_table(lines: Sequence[Sequence[str]], minimum: int = _MIN_WIDTH) -> None:
    """Columns as Go's tabwriter makes them for Docker: at least ten wide, three spaces between, the last one open.

    A column ends at a line that does not have it; below it another begins, of a width of its own.
    """
    widths: list[list[int]] = [[] for _ in lines]
    for index, line in enumerate(lines):
        for column in range(len(line) - 1):
            if column < len(widths[index]):
                continue
            block = index
            while block < len(lines) and len(lines[block]) - 1 > column:
                block += 1
            width = max(minimum, *(len(lines[row][column]) + _PADDING for row in range(index, block)))
            for row in range(index, block):
                widths[row].append(width)
    for index, line in enumerate(lines):
        cells = [cell.ljust(widths[index][column]) for column, cell in enumerate(line[:-1])]
        sys.stdout.write("".join([*cells, *line[-1:]]) + "\n")


def labels_text(labels: Mapping[str, str] | None) -> str:
    """`a=1,b=2`."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))
