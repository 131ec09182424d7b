"""Pictures of a build's graph: SVG, HTML, Graphviz DOT, Mermaid. Pure text, no program needed."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from buildtool.errors import InvalidInput
from buildtool.solve.chart import Chart, chart
from buildtool.solve.history import BuildRecord
from buildtool.solve.request import StepRecord

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN, _HEAD = 260, 44, 44, 34, 24, 64
_FILL = {"cached": "#dbeafe", "done": "#dcfce7", "failed": "#fecaca", "canceled": "#f3f4f6", "pending": "#ffffff"}
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#111827}.small{font-size:11px;fill:#4b5563}"
    ".head{font-size:15px;font-weight:600}.stage{font-size:11px;font-weight:600;fill:#6b7280}"
)


def draw(record: BuildRecord, form: str) -> str:
    """The graph of a build as `svg`, `html`, `dot` or `mmd`. Raises InvalidInput for another form."""
    forms: dict[str, Callable[[BuildRecord, Chart], str]] = {
        "svg": _svg,
        "html": _html,
        "dot": _dot,
        "gv": _dot,
        "mmd": _mermaid,
    }
    if form not in forms:
        raise InvalidInput(f"unknown form of a graph: {form!r}", hint="Choose from svg, html, dot and mmd.")
    return forms[form](record, chart(record.steps))


def state_of(step: StepRecord) -> str:
    """What became of a step, in a few words."""
    if step.status == "cached":
        return {"base": "base image", "unneeded": "not needed", "definition": "cached"}.get(
            step.hit, f"cached (by {step.hit})"
        )
    if step.status == "done":
        return f"{step.seconds:.2f} s" + (" (shared)" if step.hit == "shared" else "")
    if step.status == "failed":
        return f"failed after {step.seconds:.2f} s"
    return step.status


def headline(record: BuildRecord, made: Chart) -> str:
    """One line about the build."""
    cached = f"{record.cached} of {len(record.steps)} steps cached"
    critical = f"critical path {made.critical_seconds:.2f} s"
    return f"{record.file}: {record.status} in {record.seconds:.2f} s, {cached}, {critical}"


def _details(step: StepRecord) -> str:
    lines = [step.name, f"{step.place}  {state_of(step)}".strip()]
    if step.miss_reason:
        lines.append(f"why: {step.miss_reason}")
    if step.waited >= 0.01:
        lines.append(f"waited {step.waited:.2f} s for a free place")
    return "\n".join([*lines, step.key])


def _shorten(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


# SVG


def _svg(record: BuildRecord, made: Chart) -> str:
    columns = max(made.column.values(), default=0) + 1
    rows = max(made.row.values(), default=0) + 1
    width = 2 * _MARGIN + columns * (_WIDTH + _GAP_X) - _GAP_X
    height = _HEAD + _MARGIN + rows * (_HEIGHT + _GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(width, 640)}" height="{height}" '
        f'viewBox="0 0 {max(width, 640)} {height}" role="img">',
        f"<title>{escape(headline(record, made))}</title><style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text class="head" x="{_MARGIN}" y="28">{escape(headline(record, made))}</text>',
    ]
    critical = made.critical_edges
    parts += [_edge(made, source, target, (source, target) in critical) for source, target in made.edges]
    for stage, indexes in made.stages.items():
        if stage:
            x, y = _corner(made, indexes[0])
            parts.append(f'<text class="stage" x="{x}" y="{y - 6}">{escape(_shorten(stage, 40))}</text>')
    parts += [_box(made, step) for step in made.steps.values()]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _corner(made: Chart, index: int) -> tuple[int, int]:
    return _MARGIN + made.column[index] * (_WIDTH + _GAP_X), _HEAD + made.row[index] * (_HEIGHT + _GAP_Y)


def _box(made: Chart, step: StepRecord) -> str:
    x, y = _corner(made, step.index)
    critical = step.index in made.critical
    border = 'stroke="#b91c1c" stroke-width="2.5"' if critical else 'stroke="#9ca3af"'
    dashes = ' stroke-dasharray="4 3"' if step.status in ("pending", "canceled") else ""
    label = f"#{step.index} {step.name}"
    return (
        f'<g><title>{escape(_details(step))}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" '
        f'fill="{_FILL[step.status]}" {border}{dashes}/>'
        f'<text x="{x + 10}" y="{y + 18}">{escape(_shorten(label, 40))}</text>'
        f'<text class="small" x="{x + 10}" y="{y + 35}">{escape(state_of(step))}</text></g>'
    )


def _edge(made: Chart, source: int, target: int, critical: bool) -> str:
    x, y = _corner(made, source)
    to_x, to_y = _corner(made, target)
    x, y, to_x = x + _WIDTH // 2, y + _HEIGHT, to_x + _WIDTH // 2
    bend = max((to_y - y) // 2, 16)
    color, width = ("#b91c1c", 2.5) if critical else ("#9ca3af", 1.2)
    return (
        f'<path d="M{x},{y} C{x},{y + bend} {to_x},{to_y - bend} {to_x},{to_y}" fill="none" stroke="{color}" '
        f'stroke-width="{width}"/><path d="M{to_x - 4},{to_y - 7} L{to_x},{to_y} L{to_x + 4},{to_y - 7} Z" '
        f'fill="{color}"/>'
    )


# HTML


def _html(record: BuildRecord, made: Chart) -> str:
    whole = max([record.seconds, *(step.started + step.seconds for step in record.steps)], default=0.0) or 1.0
    rows = "\n".join(_html_row(made, step, whole) for step in record.steps)
    title = escape(headline(record, made))
    error = f"<pre class=error>{escape(record.error)}</pre>" if record.error else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body{{font:14px system-ui,sans-serif;margin:24px;color:#111827}} table{{border-collapse:collapse;width:100%}}
td,th{{text-align:left;padding:4px 8px;border-bottom:1px solid #e5e7eb;vertical-align:top}} .graph{{overflow:auto;
border:1px solid #e5e7eb;border-radius:8px}} .time{{width:30%;min-width:160px}} .bar{{height:12px;border-radius:3px;
min-width:2px}} .critical td:first-child{{border-left:3px solid #b91c1c}} .why{{color:#6b7280}}
pre.error{{background:#fef2f2;padding:12px;border-radius:8px;overflow:auto}}
</style></head><body>
<h1>Build {escape(record.id)}</h1><p>{title}</p>{error}
<div class="graph">{_svg(record, made)}</div>
<h2>Steps</h2>
<table><thead><tr><th>#</th><th>Step</th><th>Result</th><th class="time">When</th></tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""


def _html_row(made: Chart, step: StepRecord, whole: float) -> str:
    left, length = 100 * step.started / whole, 100 * step.seconds / whole
    color = "#b91c1c" if step.index in made.critical else "#16a34a"
    bar = (
        f'<div class="bar" style="margin-left:{left:.2f}%;width:{length:.2f}%;background:{color}"></div>'
        if step.seconds
        else ""
    )
    why = f'<div class="why">{escape(step.miss_reason)}</div>' if step.miss_reason else ""
    mark = ' class="critical"' if step.index in made.critical else ""
    return (
        f"<tr{mark}><td>{step.index}</td><td><code>{escape(step.name)}</code>"
        f'<div class="why">{escape(step.place)}</div></td><td>{escape(state_of(step))}{why}</td>'
        f'<td class="time">{bar}</td></tr>'
    )


# Text forms of other programs


def _dot(record: BuildRecord, made: Chart) -> str:
    lines = [
        "digraph build {",
        '  graph [rankdir=TB, fontname="sans-serif", labelloc=t, label=' + _quoted(headline(record, made)) + "];",
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=10];',
    ]
    for number, (stage, indexes) in enumerate(made.stages.items()):
        lines.append(f"  subgraph cluster_{number} {{")
        lines.append(f"    label={_quoted(stage)};")
        for index in indexes:
            step = made.steps[index]
            label = _quoted(f"#{index} {_shorten(step.name, 60)}\n{state_of(step)}")
            border = ', color="#b91c1c", penwidth=2' if index in made.critical else ""
            lines.append(
                f'    s{index} [label={label}, fillcolor="{_FILL[step.status]}"{border}, '
                f"tooltip={_quoted(_details(step))}];"
            )
        lines.append("  }")
    critical = made.critical_edges
    lines += [
        f"  s{source} -> s{target}" + (' [color="#b91c1c", penwidth=2]' if (source, target) in critical else "") + ";"
        for source, target in made.edges
    ]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _mermaid(record: BuildRecord, made: Chart) -> str:
    lines = ["---", f'title: "{_mermaid_text(headline(record, made))}"', "---", "flowchart TB"]
    for number, (stage, indexes) in enumerate(made.stages.items()):
        indent = "  "
        if stage:
            lines.append(f'  subgraph g{number}["{_mermaid_text(stage)}"]')
            indent = "    "
        for index in indexes:
            step = made.steps[index]
            label = f"#35;{index} {_mermaid_text(_shorten(step.name, 60))}<br/>{_mermaid_text(state_of(step))}"
            lines.append(f'{indent}s{index}["{label}"]:::{step.status}')
        if stage:
            lines.append("  end")
    lines += [f"  s{source} --> s{target}" for source, target in made.edges]
    lines += [f"  classDef {status} fill:{color},stroke:#9ca3af" for status, color in _FILL.items()]
    if made.critical:
        steps = ",".join(f"s{index}" for index in made.critical)
        lines += [f"  class {steps} critical", "  classDef critical stroke:#b91c1c,stroke-width:3px"]
    critical = made.critical_edges
    lines += [
        f"  linkStyle {number} stroke:#b91c1c,stroke-width:3px"
        for number, edge in enumerate(made.edges)
        if edge in critical
    ]
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    """Text inside a label: what Mermaid would read as its own stands as entities."""
    special = {"&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;", "`": "#96;"}
    return "".join(special.get(character, character) for character in text)
