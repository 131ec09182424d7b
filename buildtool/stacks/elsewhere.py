"""Services of other projects that a service needs: `x-project: {PROJECT: [SERVICE, …]}`.

Other tools leave the key alone, so the same file works with them. The long form says what is waited for, as
`depends_on` does: `x-project: {PROJECT: {SERVICE: {condition: service_healthy, required: false}}}`.
A container is labelled with what it needs, and `down` of the other project leaves that running.
"""

from __future__ import annotations

from buildtool.errors import BuildtoolError, NotFound
from buildtool.stacks import labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from buildtool.stacks.engine import Container, Engine
    from buildtool.stacks.model import Project
    from buildtool.stacks.report import Report

KEY = "x-project"
_STARTED = "service_started"
_CONDITIONS = (_STARTED, "service_healthy", "service_completed_successfully")


class Need:
    """A service of another project, and what is waited for."""

    __slots__ = ("condition", "project", "required", "service")

    def __init__(self, project: str, service: str, condition: str = _STARTED, required: bool = True) -> None:
        self.project = project
        self.service = service
        self.condition = condition
        self.required = required

    def __str__(self) -> str:
        return f"{self.project}/{self.service}"


def needs(service: Mapping[str, Any]) -> list[Need]:
    """What a service needs of other projects; its shape has been checked."""
    found = []
    for project, services in (service.get(KEY) or {}).items():
        for name in services:
            how = services[name] or {} if isinstance(services, dict) else {}
            found.append(Need(project, name, how.get("condition", _STARTED), how.get("required", True)))
    return found


def label(service: Mapping[str, Any]) -> str:
    """What the service's containers are labelled with; "" when they need nothing."""
    return ",".join(sorted(str(need) for need in needs(service)))


def fault(value: object) -> str:
    """What is wrong with the value of the key; "" when it is as it should be."""
    if not isinstance(value, dict):
        return "must be a mapping of projects to their services: {PROJECT: [SERVICE]}"
    for project, services in value.items():
        if isinstance(services, list):
            if not all(isinstance(name, str) for name in services):
                return f"{project} must list names of services"
        elif isinstance(services, dict):
            for name, how in services.items():
                if how is not None and (not isinstance(how, dict) or set(how) - {"condition", "required"}):
                    return f"{project}.{name} may have condition and required"
                condition = (how or {}).get("condition", _STARTED)
                if condition not in _CONDITIONS:
                    return f"{project}.{name}.condition: {condition!r} is not a choice: {', '.join(_CONDITIONS)}"
        else:
            return f"{project} must be a list or a mapping of services"
    return ""


def check(engine: Engine, project: Project, order: Iterable[str]) -> None:
    """Raise NotFound when something that is needed is not there at all."""
    for name in order:
        for need in needs(project.services[name]):
            if need.required and not find(engine, need):
                raise NotFound(
                    f"service {name!r} needs {need.service!r} of project {need.project!r}, which has no container",
                    hint=f"Bring it up first: buildtool compose -p {need.project} up -d {need.service}",
                )


def wait(engine: Engine, name: str, service: Mapping[str, Any], report: Report) -> None:
    """Return when what the service needs of others is as it wants it. Raises BuildtoolError."""
    from buildtool.stacks import conditions

    for need in needs(service):
        found = find(engine, need)
        try:
            if not found or (need.condition == _STARTED and not any(item.running for item in found)):
                raise conditions.DependencyFailed(
                    f"service {need.service!r} of project {need.project!r} does not run",
                    hint=f"Start it: buildtool compose -p {need.project} start {need.service}",
                )
            if need.condition != _STARTED:
                waited = [(item.id, item.name) for item in found]
                conditions.wait_for(engine, waited, conditions.CONDITIONS[need.condition], report)
        except BuildtoolError as error:
            if need.required:
                raise conditions.DependencyFailed(f"{name} cannot start: {error.message}", hint=error.hint) from None
            report.warn(f"optional dependency {need} of {name!r} is not there: {error.message}")


def find(engine: Engine, need: Need) -> list[Container]:
    """The containers of a needed service."""
    return [item for item in engine.containers(need.project) if item.service == need.service]


def users(engine: Engine, project: str) -> dict[str, list[str]]:
    """By service of this project: running containers of others that need it."""
    found: dict[str, list[str]] = {}
    query = {"filters": {"label": [labels.USES]}}
    for item in engine.get("/containers/json", query):
        marks = item.get("Labels") or {}
        if marks.get(labels.PROJECT) == project:
            continue
        for need in marks.get(labels.USES, "").split(","):
            owner, _, service = need.partition("/")
            if owner == project:
                found.setdefault(service, []).append(item["Names"][0].removeprefix("/"))
    return found
