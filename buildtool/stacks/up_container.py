"""One container made: created, connected to its further networks, its files written."""

from __future__ import annotations

from typing import Any

from buildtool.client import EngineError
from buildtool.errors import BuildtoolError
from buildtool.stacks.body import References, endpoint_settings, service_networks
from buildtool.stacks.engine import Engine
from buildtool.stacks.files import archive
from buildtool.stacks.model import Project


def make_container(
    engine: Engine,
    project: Project,
    name: str,
    body: dict[str, Any],
    called: str,
    references: References,
    number: int,
    files: list[tuple[str, bytes, int, int, int]],
    *,
    aliased: bool = True,
) -> str:
    """Create a container, connect it to its further networks and write its files; none is left when that fails."""
    service = project.services[name]
    query = {"name": called, "platform": service.get("platform")}
    try:
        answer = engine.post("/containers/create", query, body)
    except EngineError as error:
        if error.status == 409 and called in error.message:
            error.hint = f"Remove it (buildtool rm {called}), or give this project another name with -p."
        elif called not in error.message:
            error.hint = "\n".join(
                part for part in (error.hint, f"It was to be {called} of service {name!r}.") if part
            )
        raise
    identifier: str = answer["Id"]
    try:
        for key in service_networks(service)[1:] if not service.get("network_mode") else ():
            settings = endpoint_settings(project, name, service, key, references, number=number, aliased=aliased)
            network = project.part("networks")[key]["name"]
            document = {"Container": identifier, "EndpointConfig": settings}
            engine.post(f"/networks/{network}/connect", None, document)
        if files:
            _write(engine, identifier, archive(files))
    except BuildtoolError:
        engine.act("DELETE", f"/containers/{identifier}", {"force": True, "v": True}, missing=True)
        raise
    return identifier


def _write(engine: Engine, identifier: str, data: bytes) -> None:
    query = {"path": "/", "beforeFirstStart": True}
    headers = {"Content-Type": "application/x-tar"}
    try:
        engine.client.call("PUT", f"/containers/{identifier}/archive", query, body=data, headers=headers).read()
    except EngineError as error:
        if "read-only" in error.message:
            error.hint = (
                "This engine writes no secrets and configs into a container with `read_only: true`. Give them as "
                "`file:` without uid, gid and mode, or run the stack on buildtool's daemon."
            )
        raise
