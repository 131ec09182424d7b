"""`up -d` of a stack that is up already, without loading it.

Most calls of `up` find nothing to do. When the last one has left a memory of the stack that still holds, the plan is
made from that; only if it is empty the call is over, otherwise all goes the usual way.
"""

from __future__ import annotations

import os

from buildtool.cli.stack_run import close_report, make_report, open_engine
from buildtool.errors import BuildtoolError
from buildtool.stacks.caching import cache_folder
from buildtool.stacks.memory import Memory
from buildtool.stacks.observed import Known, check_external, observe
from buildtool.stacks.plan import Options, make_plan
from buildtool.stacks.reading import STDIN, FileSystem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call
    from buildtool.stacks.model import Project

_ELSEWHERE = ("oci:", "git@", "github.com/")
# Flags that decide what is loaded, and those that make no difference to whether there is anything to do.
_LOADING = ("file", "project-directory", "project-name", "profile", "env-file", "all-resources")
_INDIFFERENT = (
    "ansi",
    "compatibility",
    "detach",
    "no-build",
    "parallel",
    "progress",
    "quiet-build",
    "quiet-pull",
    "remove-orphans",
    "timeout",
    "yes",
)


def settled(call: Call) -> bool:
    """Whether everything is as it should be; then that has been told."""
    given = [flag.name for flag in call.command.flags if call.given(flag.name)]
    if call.arguments or not call.switch("detach") or not all(name in _LOADING + _INDIFFERENT for name in given):
        return False
    memory = _memory(call)
    project = memory.recall(FileSystem()) if memory else None
    if memory is None or project is None:
        return False
    engine = open_engine(call)
    try:
        state = observe(engine, project, project.order, project.known)
        check_external(engine, project, state)
    except BuildtoolError:
        return False
    plan = make_plan(project, state, Options(), project.order)
    known = len(state.images) == len({item.get("image", name) for name, item in project.services.items()})
    if plan.changes or plan.orphans or not known or any(action.why for action in plan.volumes):
        return False
    from buildtool.cli.stack_project import warn

    warn(project.warnings)
    report = make_report(call)
    for name in project.order:
        for action in plan.services[name]:
            assert action.container is not None
            report.state("Container", action.container.name, "Running" if action.container.running else "Exited")
    close_report(report)
    ids = {name: item["Id"] for name, item in state.networks.items()}
    memory.learn(Known([item.id for item in state.containers], ids))
    return True


def remember(
    call: Call,
    project: Project,
    order: list[str],
    reader: FileSystem,
    containers: list[tuple[str, str, str]],
    builds: list[list[Any]],
) -> None:
    """Let the next call know what this one has found out. `containers` are services, ids and names."""
    memory = _memory(call)
    if memory is not None:
        first = {service: identifier for service, identifier, _ in reversed(containers)}
        memory.remember(project, order, reader, first, builds)


def _memory(call: Call) -> Memory | None:
    """The memory of this call's stack; None for a stack from standard input or from elsewhere."""
    if any(name == STDIN or name.startswith(_ELSEWHERE) or "://" in name for name in call.texts("file")):
        return None
    settings = sorted((name, value) for name, value in os.environ.items() if name.startswith("COMPOSE_"))
    if any("://" in value or value.startswith(_ELSEWHERE) for _, value in settings):
        return None
    flags = [call.texts(name) if name in ("file", "profile", "env-file") else call.text(name) for name in _LOADING]
    folder = cache_folder("stacks")
    return Memory([os.getcwd(), os.environ.get("HOME", ""), settings, flags], folder) if folder else None
