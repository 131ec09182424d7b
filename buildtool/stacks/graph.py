"""The stack as a graph: networks, volumes, secrets, configs, images and services, an edge from each to what needs it.

`networkx` is imported inside the functions: it costs more than a whole `up` that has nothing to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from buildtool.stacks.model import Project
from buildtool.stacks.names import image_name

Node = tuple[str, str]
"""Kind (`network`, `volume`, `secret`, `config`, `image`, `service`) and key."""


def build_graph(project: Project, services: Iterable[str] | None = None) -> Any:
    """The networkx.DiGraph of the services (all of them) and what they use; edges carry `label`."""
    import networkx as nx

    graph: Any = nx.DiGraph()
    names = list(project.services) if services is None else list(services)
    for name in names:
        service = project.services[name]
        node: Node = ("service", name)
        graph.add_node(node)
        if not service.get("provider"):
            graph.add_edge(("image", image_name(project, name, service)), node, label="image")
        for key in service.get("networks") or {}:
            graph.add_edge(("network", key), node, label="network")
        for item in service.get("volumes") or []:
            if item.get("type") == "volume" and item.get("source"):
                graph.add_edge(("volume", item["source"]), node, label=item["target"])
        for kind in ("secret", "config"):
            for item in service.get(f"{kind}s") or []:
                graph.add_edge((kind, item["source"]), node, label=kind)
        for other, how in (service.get("depends_on") or {}).items():
            if other in project.services and other in names:
                graph.add_edge(("service", other), node, label=how["condition"])
        for where in ((service.get("build") or {}).get("additional_contexts") or {}).values():
            other = where.removeprefix("service:")
            if where.startswith("service:") and other in project.services:
                source = ("image", image_name(project, other, project.services[other]))
                graph.add_edge(source, ("image", image_name(project, name, service)), label="context")
    return graph


def dependency_order(project: Project, services: Iterable[str]) -> list[str]:
    """The services, each after those that it depends on."""
    names = set(services)
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or name not in names:
            return
        for other in sorted(project.services[name].get("depends_on") or {}):
            visit(other)
        order.append(name)

    for name in sorted(names):
        visit(name)
    return order


def with_dependencies(project: Project, services: Sequence[str]) -> list[str]:
    """The services and all that they depend on, dependencies first."""
    found: set[str] = set()
    waiting = list(services)
    while waiting:
        name = waiting.pop()
        if name in found or name not in project.services:
            continue
        found.add(name)
        waiting += project.services[name].get("depends_on") or {}
    return dependency_order(project, found)


class Walk:
    """Executes tasks that wait for each other, as many at once as may be.

    The first failure stops what has not begun; it is raised when all that has begun is over.
    """

    def __init__(self, parallel: int = 0) -> None:
        self._slots = threading.Semaphore(parallel) if parallel > 0 else None
        self._work: dict[Node, Callable[[], None]] = {}
        self._needs: dict[Node, set[Node]] = {}
        self._problem: BaseException | None = None

    def add(self, node: Node, work: Callable[[], None], needs: Iterable[Node] = ()) -> None:
        """A task, and the tasks that must be over before it begins (those that are not added are over)."""
        self._work[node] = work
        self._needs[node] = set(needs)

    def run(self) -> None:
        """Do it all. Raises what the first failing task raised."""
        done = threading.Condition()
        waiting = {node: needs & self._work.keys() for node, needs in self._needs.items()}
        running: set[Node] = set()
        if len(waiting) == 1 and self._slots is None:
            next(iter(self._work.values()))()
            return

        def perform(node: Node) -> None:
            try:
                if self._slots is not None:
                    with self._slots:
                        self._work[node]()
                else:
                    self._work[node]()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                with done:
                    self._problem = self._problem or error
            with done:
                running.discard(node)
                for needs in waiting.values():
                    needs.discard(node)
                done.notify()

        with done:
            while waiting or running:
                ready = [] if self._problem else [node for node, needs in waiting.items() if not needs]
                if self._problem or (not ready and not running):
                    waiting.clear()
                for node in ready:
                    del waiting[node]
                    running.add(node)
                    threading.Thread(target=perform, args=(node,), daemon=True).start()
                if running:
                    done.wait()
        if self._problem is not None:
            raise self._problem
