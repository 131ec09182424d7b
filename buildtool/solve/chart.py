"""The graph of a build's steps on paper: which are critical, and where each has its place. Pure.

The layout is layered: a row for each length of the longest way from the sources, a column for each stage (which is a
chain, so no two of its steps share a row). Stages that no row has in common share a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from buildtool.solve.request import StepRecord


@dataclass
class Chart:
    """Steps by index, the edges between them, `critical` the chain of steps that took longest, bottom first.

    `row` and `column` are the place of each step; `stages` the stages in order of appearance, each with its steps.
    """

    steps: dict[int, StepRecord]
    edges: list[tuple[int, int]]
    critical: list[int]
    row: dict[int, int] = field(default_factory=dict)
    column: dict[int, int] = field(default_factory=dict)
    stages: dict[str, list[int]] = field(default_factory=dict)

    @property
    def critical_edges(self) -> set[tuple[int, int]]:
        """The edges on the critical path."""
        return set(zip(self.critical, self.critical[1:], strict=False))

    @property
    def critical_seconds(self) -> float:
        """How long the critical path took."""
        return sum(self.steps[index].seconds for index in self.critical)


def chart(records: Sequence[StepRecord]) -> Chart:
    """Lay out the steps of a build."""
    import networkx as nx

    steps = {step.index: step for step in records if step.index}
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(steps)
    graph.add_edges_from(
        (needed, index) for index, step in steps.items() for needed in step.inputs if needed in steps
    )
    order = list(nx.lexicographical_topological_sort(graph))
    made = Chart(steps, sorted(graph.edges), _critical(graph, order, steps))
    for index in order:
        made.row[index] = 1 + max((made.row[needed] for needed in graph.predecessors(index)), default=-1)
        made.stages.setdefault(steps[index].stage, []).append(index)
    _place_columns(made, graph)
    return made


def _critical(graph: nx.DiGraph[int], order: list[int], steps: dict[int, StepRecord]) -> list[int]:  # type: ignore[name-defined] # noqa: F821
    """The longest chain by seconds; empty when nothing took any time."""
    longest: dict[int, float] = {}
    before: dict[int, int | None] = {}
    for index in order:
        best = max(graph.predecessors(index), key=lambda needed: longest[needed], default=None)
        before[index] = best
        longest[index] = steps[index].seconds + (longest[best] if best is not None else 0.0)
    last: int | None = max(longest, key=lambda index: longest[index], default=None)
    if last is None or longest[last] <= 0:
        return []
    path: list[int] = []
    while last is not None:
        path.append(last)
        last = before[last]
    return path[::-1]


def _place_columns(made: Chart, graph: nx.DiGraph[int]) -> None:  # type: ignore[name-defined] # noqa: F821
    """Give each stage the free column next to what it takes from."""
    taken: list[set[int]] = []
    for indexes in made.stages.values():
        span = set(
            range(min(made.row[index] for index in indexes) - 1, max(made.row[index] for index in indexes) + 1)
        )
        wanted = [
            made.column[needed] for index in indexes for needed in graph.predecessors(index) if needed in made.column
        ]
        middle = sum(wanted) / len(wanted) if wanted else len(taken)
        free = [number for number, rows in enumerate(taken) if not rows & span]
        column = min(free, key=lambda number: abs(number - middle)) if free else len(taken)
        if column == len(taken):
            taken.append(set())
        taken[column] |= span
        for index in indexes:
            made.column[index] = column
