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
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 190, 44, 110, 18, 20


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
    """Layers from left to right: what a node needs stands left of it, as near as can be."""
    places = _places(graph)
    right = max((x for x, _ in places.values()), default=0) + _WIDTH
    bottom = max((y for _, y in places.values()), default=0) + _HEIGHT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{right + _MARGIN}" height="{bottom + _MARGIN}" '
        'font-family="sans-serif" font-size="12">',
        '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#64748b"/></marker></defs>',
    ]
    for target in sorted(graph.nodes):
        sources = sorted(graph.predecessors(target), key=lambda node: (places[node][1], node))
        for index, source in enumerate(sources):
            # Each arrow has a place of its own at the box where it ends.
            end = places[target][1] + _HEIGHT * (index + 1) // (len(sources) + 1)
            label = graph.edges[source, target]["label"]
            out.append(_edge(places[source], (places[target][0], end), label, shown=source[0] == "service"))
    for node in sorted(graph.nodes):
        out.append(_box(node, places[node]))
    return "\n".join([*out, "</svg>"]) + "\n"


def _places(graph: Any) -> dict[Any, tuple[int, int]]:
    """The upper left corner of each node's box.

    Services stand in the order of their dependencies, all else right before the first service that needs it; within
    a column each stands as near as it can to the middle of what needs it.
    """
    import networkx as nx

    columns: dict[Any, int] = {}
    for column, layer in enumerate(nx.topological_generations(graph)):
        columns.update(dict.fromkeys(layer, column))
    for node in graph.nodes:
        if node[0] != "service" and graph.out_degree(node):
            columns[node] = min(columns[after] for after in graph.successors(node)) - 1
    middles: dict[Any, float] = {}
    for column in range(max(columns.values(), default=0), -1, -1):
        members = {node: _middle(graph, node, middles) for node in graph.nodes if columns[node] == column}
        low = 0.0
        for node, wanted in sorted(members.items(), key=lambda item: (item[1], item[0])):
            middles[node] = max(low, wanted)
            low = middles[node] + _HEIGHT + _GAP_Y
    top = min(middles.values(), default=0)
    return {
        node: (_MARGIN + columns[node] * (_WIDTH + _GAP_X), round(_MARGIN + middle - top))
        for node, middle in middles.items()
    }


def _middle(graph: Any, node: Any, middles: dict[Any, float]) -> float:
    after = [middles[other] for other in graph.successors(node) if other in middles]
    return sum(after) / len(after) if after else 0.0


def _edge(source: tuple[int, int], end: tuple[int, int], label: str, *, shown: bool) -> str:
    x1, y1 = source[0] + _WIDTH, source[1] + _HEIGHT // 2
    x2, y2 = end
    middle = (x1 + x2) // 2
    words = label.removeprefix("service_").replace("_", " ")
    text = (
        f'<text x="{middle}" y="{(y1 + y2) // 2 - 4}" font-size="9" text-anchor="middle" fill="#64748b">'
        f"{escape(words)}</text>"
    )
    return (
        f'<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}" fill="none" stroke="#64748b" '
        f'marker-end="url(#end)"><title>{escape(label)}</title></path>{text if shown else ""}'
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
