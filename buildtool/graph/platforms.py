"""One graph for several platforms: what their plans share is there once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from buildtool.buildfile.instructions import Buildfile
from buildtool.graph.options import BaseImage, PlanOptions
from buildtool.graph.plan import ARROW, Plan, plan
from buildtool.graph.steps import Node, StepId
from buildtool.oci import Platform

if TYPE_CHECKING:
    import networkx as nx


def platform_options(options: PlanOptions, platforms: Sequence[Platform]) -> list[PlanOptions]:
    """The options of each platform's plan."""
    return [replace(options, platform=platform, several=len(platforms) > 1) for platform in platforms]


def plan_all(buildfile: Buildfile, options: Sequence[PlanOptions], bases: Mapping[str, BaseImage]) -> Plan:
    """The plans of all platforms as one: a step that several need (a stage `FROM --platform=$BUILDPLATFORM` that asks
    for nothing of the target) is one node. Raises what `plan` raises.
    """
    plans = [plan(buildfile, each, bases) for each in options]
    first, *others = plans
    if not others:
        return first
    graph = _united(plans)
    return Plan(
        graph,
        first.target,
        tuple(dict.fromkeys(step for each in plans for step in each.visible)),
        first.image,
        tuple(dict.fromkeys(warning for each in plans for warning in each.warnings)),
        frozenset().union(*(each.stages for each in plans)),
        frozenset().union(*(each.shells for each in plans)),
        first.scans,
        first.scan_context,
        tuple((each.target, each.image) for each in others),
    )


def of_platform(whole: Plan, number: int) -> Plan:
    """What one platform's image needs of a plan for several."""
    if not whole.others:
        return whole
    import networkx as nx

    target = whole.targets[number]
    needed = nx.ancestors(whole.graph, target) | {target}
    graph: nx.DiGraph[StepId] = nx.DiGraph()
    graph.add_nodes_from((step, whole.graph.nodes[step]) for step in whole.graph if step in needed)
    graph.add_edges_from((a, b) for a, b in whole.graph.edges if b in needed)
    return replace(
        whole,
        graph=graph,
        target=target,
        visible=tuple(step for step in whole.visible if step in needed),
        image=whole.images[number],
        others=(),
    )


def _united(plans: Sequence[Plan]) -> nx.DiGraph[StepId]:
    graph = plans[0].graph.copy()
    for each in plans[1:]:
        for step in each.graph:
            mine: Node = each.graph.nodes[step]["node"]
            if step in graph:
                known: Node = graph.nodes[step]["node"]
                # What is for several targets names none; and a step that is shown once is one to show.
                mine = replace(known, name=_without_target(known.name or mine.name))
            attributes: dict[str, Any] = {"node": mine}
            graph.add_node(step, **attributes)
        graph.add_edges_from(each.graph.edges)
    return graph


def _without_target(name: str) -> str:
    if not name.startswith("["):
        return name
    head, bracket, rest = name.partition("]")
    words = [word.partition(ARROW)[0] for word in head.split(" ")]
    return " ".join(words) + bracket + rest
