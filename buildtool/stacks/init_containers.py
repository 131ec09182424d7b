"""`pre_start`: containers that run to their end before a service's own container starts for the first time.

They share the service's networks and mounts, run in order and must end with 0. Those without `per_replica` run once
for all containers of the service.
Source: reference/stacks.md 1.4, `pre_start`.
"""

from __future__ import annotations

from typing import Any

from buildtool.errors import BuildtoolError
from buildtool.stacks import labels
from buildtool.stacks.body import References, create_body
from buildtool.stacks.engine import Engine
from buildtool.stacks.files import written_files
from buildtool.stacks.logs import read_lines
from buildtool.stacks.model import Project
from buildtool.stacks.report import Report
from buildtool.stacks.tree import Map
from buildtool.stacks.up_container import make_container

_OWN_LIFE = ("ports", "healthcheck", "restart", "container_name", "deploy", "post_start", "pre_stop", "pre_start")


class InitFailed(BuildtoolError):
    """An init container ended with another exit code than 0."""


def run_init_containers(
    engine: Engine, project: Project, name: str, references: References, report: Report, *, number: int, first: bool
) -> None:
    """Run those that are due for this container: all, or only those of each replica when it is not the `first`.

    Raises InitFailed with the last lines of the one that failed.
    """
    service = project.services[name]
    for index, entry in enumerate(service.get("pre_start") or [], 1):
        if not first and not entry.get("per_replica"):
            continue
        called = f"{project.name}-{name}-init-{number}-{index}"
        _run(engine, project, name, _as_service(service, entry), references, report, called, number)


def _as_service(service: dict[str, Any], entry: dict[str, Any]) -> Map:
    """The service with what the entry says instead, without what only a lasting container has."""
    out = Map()
    for key, value in service.items():
        if key not in _OWN_LIFE:
            out.put(key, value)
    if entry.get("image") and entry["image"] != service.get("image"):
        for key in ("build", "entrypoint", "command"):
            out.pop(key, None)
    for key in ("image", "command", "user", "privileged", "working_dir"):
        if entry.get(key) is not None:
            out.put(key, entry[key])
    out.put("environment", {**(service.get("environment") or {}), **(entry.get("environment") or {})})
    return out


def _run(
    engine: Engine,
    project: Project,
    name: str,
    service: Map,
    references: References,
    report: Report,
    called: str,
    number: int,
) -> None:
    lines: list[str] = []
    marks = labels.container_labels(project, name, service, number, "") | {labels.ONEOFF: "True"}
    other = Project(project.name, Map(), project.request)
    other.model = Map()
    for kind, part in project.model.items():
        other.model.put(kind, part)
    services = Map()
    services.put(name, service)
    other.model.put("services", services)
    body = create_body(other, name, service, marks, references, number=number, aliased=False)
    engine.act("DELETE", f"/containers/{called}", {"force": True, "v": True}, missing=True)
    files = written_files(other, service)
    report.state("Container", called, "Creating")
    identifier = make_container(engine, other, name, body, called, references, number, files, aliased=False)
    try:
        report.state("Container", called, "Starting")
        engine.act("POST", f"/containers/{identifier}/start")
        answer = engine.post(f"/containers/{identifier}/wait") or {}
        query = {"stdout": True, "stderr": True, "tail": "20"}
        tty = bool(service.get("tty"))
        read_lines(engine, identifier, called, query, lambda _name, line, _stream: lines.append(line), tty=tty)
    finally:
        engine.act("DELETE", f"/containers/{identifier}", {"force": True, "v": True}, missing=True)
    code = int(answer.get("StatusCode") or 0)
    if code:
        raise InitFailed(f"pre_start container {called} exited with status code {code}", hint="\n".join(lines[-20:]))
    report.state("Container", called, "Exited")
