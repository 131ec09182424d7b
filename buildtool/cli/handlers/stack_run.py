"""`compose run`: a one-off command in a new container of a service."""

from __future__ import annotations

import os

from buildtool.cli.parse import UsageError
from buildtool.cli.stack_project import load_project
from buildtool.cli.stack_run import close_report
from buildtool.cli.terminal import is_terminal
from buildtool.cli.values import environment, key_value_map
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call
    from buildtool.cli.stack_session import Session
    from buildtool.stacks.model import Project


def run(call: Call) -> int:
    """Start what the service depends on, then the command; end with its exit code."""
    from buildtool.cli.stack_session import Session
    from buildtool.stacks.profiles import enable_services

    service, *command = call.arguments
    if call.texts("publish") and call.switch("service-ports"):
        raise UsageError("--service-ports and --publish are incompatible")
    project = load_project(call)
    enable_services(project, [service])
    session = Session(call, project, services=[service], scale={service: 0})
    session.no_deps = call.switch("no-deps")
    if call.switch("dry-run"):
        session.bring_up(remove_orphans=False)
        print(f"DRY-RUN MODE - Container {_name(call, project, service)}: create")
        return 0
    try:
        identifier = _create(call, session, project, service, command)
    finally:
        close_report(session.report)
    return _run(call, session, project, service, identifier)


def _name(call: Call, project: Project, service: str) -> str:
    return call.text("name") or f"{project.name}-{service}-run-{os.urandom(6).hex()}"


def _create(call: Call, session: Session, project: Project, service: str, command: list[str]) -> str:
    """Bring up the dependencies and make the container."""
    from buildtool.stacks.body import References, create_body
    from buildtool.stacks.files import written_files
    from buildtool.stacks.up_container import make_container

    original = dict(project.services[service])
    state = session.observe()
    references = References()
    dependencies = [name for name in session.order if name != service]
    if dependencies or not call.switch("no-deps"):
        references = session.bring_up_for_run(state, service)
    changed = _changed(call, original, command)
    project.services[service] = _as_map(changed)
    number = 1
    name = _name(call, project, service)
    body = create_body(
        project,
        service,
        project.services[service],
        _labels(call, project, service, name),
        references,
        number=number,
        aliased=call.switch("use-aliases"),
    )
    tty = _tty(call)
    body |= {"Tty": tty, "OpenStdin": _interactive(call), "StdinOnce": _interactive(call)}
    body |= {"AttachStdin": _interactive(call)}
    body["HostConfig"]["RestartPolicy"] = {"Name": "no", "MaximumRetryCount": 0}
    body["HostConfig"]["AutoRemove"] = call.switch("rm")
    files = written_files(project, project.services[service])
    return make_container(
        session.engine,
        project,
        service,
        body,
        name,
        references,
        number,
        files,
        aliased=call.switch("use-aliases"),
    )


def _as_map(service: dict[str, Any]) -> Any:
    from buildtool.stacks.tree import Map

    out = Map()
    for key, value in service.items():
        out.put(key, value)
    return out


def _labels(call: Call, project: Project, service: str, name: str) -> dict[str, str]:
    from buildtool.stacks import labels
    from buildtool.stacks.hashing import service_hash

    marks = labels.container_labels(project, service, project.services[service], 1, "")
    marks[labels.HASH] = service_hash(project.services[service])
    marks[labels.ONEOFF] = "True"
    marks[labels.SLUG] = name.rpartition("-")[2]
    del marks[labels.NUMBER]
    return {**key_value_map(call.texts("label")), **marks}


def _changed(call: Call, service: dict[str, Any], command: list[str]) -> dict[str, Any]:
    """The service as the flags change it."""
    from buildtool.stacks import schema
    from buildtool.stacks.kinds import At
    from buildtool.stacks.tree import Seq

    changed = dict(service)
    changed.pop("container_name", None)
    if command:
        changed["command"] = command
    if call.given("entrypoint"):
        import shlex

        changed["entrypoint"] = shlex.split(call.text("entrypoint"))
        if not command:
            changed.pop("command", None)
    given = environment(call.texts("env-from-file"), call.texts("env"))
    if given:
        pairs = dict(item.partition("=")[::2] for item in given)
        changed["environment"] = {**(service.get("environment") or {}), **pairs}
    for key, flag in (("user", "user"), ("working_dir", "workdir")):
        if call.text(flag):
            changed[key] = call.text(flag)
    for key, flag in (("cap_add", "cap-add"), ("cap_drop", "cap-drop")):
        if call.texts(flag):
            changed[key] = [*(service.get(key) or []), *call.texts(flag)]
    if not call.switch("service-ports"):
        changed.pop("ports", None)
    for key, flag in (("ports", "publish"), ("volumes", "volume")):
        if call.texts(flag):
            short = Seq()
            for item in call.texts(flag):
                short.add(item)
            added = schema.SERVICE.fields[key].check(short, At(None))
            targets = {item["target"] for item in added} if key == "volumes" else set()
            kept = [item for item in changed.get(key) or [] if item["target"] not in targets]
            changed[key] = [*kept, *(_absolute(item) if key == "volumes" else item for item in added)]
    return changed


def _absolute(item: dict[str, Any]) -> dict[str, Any]:
    if item["type"] == "bind":
        item["source"] = os.path.abspath(os.path.expanduser(item["source"]))
    elif item.get("source"):
        raise InvalidInput(
            f"undefined volume {item['source']!r}", hint="-v takes paths and volumes that the stack declares."
        )
    return item


def _interactive(call: Call) -> bool:
    return call.switch("interactive") and not call.switch("detach")


def _tty(call: Call) -> bool:
    return not call.switch("no-TTY") and not call.switch("detach") and is_terminal(0) and is_terminal(1)


def _run(call: Call, session: Session, project: Project, service: str, identifier: str) -> int:
    from buildtool.stacks.hooks import run_hooks

    if call.switch("detach"):
        session.engine.act("POST", f"/containers/{identifier}/start")
        details = session.engine.get(f"/containers/{identifier}/json")
        hooks = project.services[service].get("post_start") or []
        run_hooks(session.engine, identifier, details["Name"].removeprefix("/"), hooks, "post_start")
        print(details["Name"].removeprefix("/"))
        return 0
    from buildtool.cli.attached import Attached, detach_keys

    attached = Attached(call.client, identifier, tty=_tty(call), keys=detach_keys(""))
    attached.attach(stdin=_interactive(call), stdout=True, stderr=True)
    attached.begin_wait("removed" if call.switch("rm") else "next-exit")
    return attached.run(start=True, pass_signals=True)
