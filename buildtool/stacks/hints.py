"""What is allowed in a stack and hardly ever meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildtool.stacks.tree import Map, Seq

if TYPE_CHECKING:
    from buildtool.stacks.model import Project
    from buildtool.stacks.tree import Mark


def hints(project: Project) -> list[str]:
    """Warnings, in the order of the services."""
    return [text for name, service in project.services.items() for text in _published_twice(name, service)]


def _published_twice(name: str, service: Map) -> list[str]:
    """Ports that an override file publishes once more instead of elsewhere: lists of several files are joined."""
    found: list[str] = []
    first: dict[tuple[str, str], tuple[str, Mark]] = {}
    ports = service.get("ports")
    if not isinstance(ports, Seq):
        return found
    for index, port in enumerate(ports):
        mark, published = ports.place(index), str(port.get("published") or "")
        if mark is None or not published:
            continue
        key = (str(port.get("target")), str(port.get("protocol") or "tcp"))
        before = first.setdefault(key, (published, mark))
        if before[0] != published and before[1].source.name != mark.source.name:
            found.append(
                f"services.{name}.ports: {'/'.join(key)} is published as {before[0]} ({before[1].span()}) and as "
                f"{published} ({mark.span()}). Lists of several files are joined; `ports: !override` replaces them."
            )
    return found
