"""Which builds a project has, and which of them need which others."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from buildtool.stacks.model import Project


def with_contexts(project: Project, names: Iterable[str]) -> list[str]:
    """The services that have something to build, and those whose images they take files from."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        service = service_of(project, name)
        if name not in found and service.get("build") is not None:
            found.append(name)
            waiting += context_services(service)
    return found


def context_services(service: Mapping[str, Any]) -> list[str]:
    """The services that a build takes files from (`additional_contexts: {NAME: "service:x"}`)."""
    contexts = ((service.get("build") or {}).get("additional_contexts") or {}).values()
    return [where.removeprefix("service:") for where in contexts if where.startswith("service:")]


def service_of(project: Project, name: str) -> dict[str, Any]:
    """A service, active or not: a build may need the image of one that is not to run."""
    found: dict[str, Any] = project.services[name] if name in project.services else project.disabled[name]
    return found
