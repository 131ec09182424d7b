"""The stack's graph as a drawing: Mermaid text, SVG, or JSON."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_SHAPES = {
    "service": ('["', '"]'),
    "network": ('(["', '"])'),
    "volume": ('[("', '")]'),
    "secret": ('{{"', '"}}'),
    "config": ('{{"', '"}}'),
    "image": ('>"', '"]'),
}
_COLOURS = {
    "service": "#dbeafe",
    "network": "#dcfce7",
    "volume": "#fef9c3",
    "secret": "#fee2e2",
    "config": "#ffedd5",
    "image": "#f3f4f6",
}
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 190, 44, 70, 22, 20


def to_mermaid(graph: Any) -> str:
    """A flowchart that Markdown viewers draw."""
    names = {node: f"n{index}" for index, node in enumerate(sorted(graph.nodes))}
    lines = ["flowchart LR"]
    for kind, key in sorted(graph.nodes):
        opening, closing = _SHAPES[kind]
        label = key.replace('"', "#quot;")
        lines.append(f"  {names[kind, key]}{opening}{label}{closing}:::{kind}")
    for source, target, label in sorted(graph.edges(data="label")):
        shown = f"|{label}|" if source[0] == "service" else ""
        lines.append(f"  {names[source]} -->{shown} {names[target]}")
    lines += [f"  classDef {kind} fill:{colour},stroke:#64748b" for kind, colour in _COLOURS.items()]
    return "\n".join(lines) + "\n"


def to_json(graph: Any) -> str:
    """Nodes and edges."""
    document = {
        "nodes": [{"kind": kind, "key": key} for kind, key in sorted(graph.nodes)],
        "edges": [
            {"from": list(source), "to": list(target), "label": label}
            for source, target, label in sorted(graph.edges(data="label"))
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def to_svg(graph: Any) -> str:
    """Layers from left to right: what a node needs stands left of it."""
    import networkx as nx

    places: dict[Any, tuple[int, int]] = {}
    tallest = 0
    layers = list(nx.topological_generations(graph))
    for column, layer in enumerate(layers):
        for row, node in enumerate(sorted(layer)):
            places[node] = (_MARGIN + column * (_WIDTH + _GAP_X), _MARGIN + row * (_HEIGHT + _GAP_Y))
        tallest = max(tallest, len(layer))
    width = 2 * _MARGIN + len(layers) * (_WIDTH + _GAP_X) - (_GAP_X if layers else 0)
    height = 2 * _MARGIN + tallest * (_HEIGHT + _GAP_Y) - (_GAP_Y if tallest else 0)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#64748b"/></marker></defs>',
    ]
    for source, target, label in sorted(graph.edges(data="label")):
        out.append(_edge(places[source], places[target], label))
    for node in sorted(graph.nodes):
        out.append(_box(node, places[node]))
    return "\n".join([*out, "</svg>"]) + "\n"


def _edge(source: tuple[int, int], target: tuple[int, int], label: str) -> str:
    x1, y1 = source[0] + _WIDTH, source[1] + _HEIGHT // 2
    x2, y2 = target[0], target[1] + _HEIGHT // 2
    middle = (x1 + x2) // 2
    return (
        f'<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}" fill="none" stroke="#64748b" '
        f'marker-end="url(#end)"><title>{escape(label)}</title></path>'
    )


def _box(node: tuple[str, str], place: tuple[int, int]) -> str:
    kind, key = node
    x, y = place
    shown = key if len(key) <= 26 else f"{key[:25]}…"
    return (
        f'<g><title>{escape(kind)} {escape(key)}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'rx="6" fill="{_COLOURS[kind]}" stroke="#64748b"/>'
        f'<text x="{x + 10}" y="{y + 17}" fill="#64748b">{escape(kind)}</text>'
        f'<text x="{x + 10}" y="{y + 34}">{escape(shown)}</text></g>'
    )
