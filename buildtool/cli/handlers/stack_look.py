"""`compose events`, `wait`, `version`, `stack diff`, `stack graph`."""

from __future__ import annotations

import json
import sys
import threading

from buildtool.cli.stack_project import load_project
from buildtool.cli.stack_run import open_engine, project_name, refuse_dry_run, service_containers
from buildtool.cli.times import engine_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_ATTRIBUTES = "com.docker.compose."


def events(call: Call) -> int:
    """Print the events of the stack's containers as they come."""
    from buildtool.stacks import labels

    _, name = project_name(call)
    query = {
        "since": engine_time(call.text("since")) or None,
        "until": engine_time(call.text("until")) or None,
        "filters": {"type": ["container"], "label": [f"{labels.PROJECT}={name}"]},
    }
    for event in open_engine(call).stream("/events", query).objects():
        attributes = event.get("Actor", {}).get("Attributes", {})
        service = attributes.get(labels.SERVICE, "")
        if call.arguments and service not in call.arguments:
            continue
        print(_event_json(event, service) if call.switch("json") else _event_line(event), flush=True)
    return 0


def _event_json(event: dict[str, Any], service: str) -> str:
    attributes = event.get("Actor", {}).get("Attributes", {})
    shown = {key: value for key, value in attributes.items() if not key.startswith(_ATTRIBUTES)}
    document = {
        "time": _stamp(event, "T"),
        "type": "container",
        "service": service,
        "id": event.get("Actor", {}).get("ID", ""),
        "action": event.get("Action", ""),
        "attributes": shown,
    }
    return json.dumps(document)


def _event_line(event: dict[str, Any]) -> str:
    actor = event.get("Actor", {})
    attributes = actor.get("Attributes", {})
    shown = ", ".join(
        f"{key}={value}" for key, value in sorted(attributes.items()) if not key.startswith(_ATTRIBUTES)
    )
    return f"{_stamp(event, ' ')} container {event.get('Action', '')} {actor.get('ID', '')} ({shown})"


def _stamp(event: dict[str, Any], between: str) -> str:
    import time

    nanoseconds = event.get("timeNano") or event.get("time", 0) * 10**9
    seconds, fraction = divmod(nanoseconds, 10**9)
    return f"{time.strftime(f'%Y-%m-%d{between}%H:%M:%S', time.localtime(seconds))}.{fraction // 1000:06d}"


def wait(call: Call) -> int:
    """Print the exit code of the first container that ends, and end with it."""
    refuse_dry_run(call)
    from buildtool.errors import NotFound

    engine = open_engine(call)
    _, found = service_containers(call, engine)
    if not found:
        raise NotFound("no containers to wait for", hint="Bring the stack up first: buildtool up -d")
    first: list[int] = []
    over = threading.Event()

    def watch(identifier: str) -> None:
        answer = engine.post(f"/containers/{identifier}/wait") or {}
        first.append(int(answer.get("StatusCode", 0)))
        over.set()

    for item in found:
        threading.Thread(target=watch, args=(item.id,), daemon=True).start()
    while not over.wait(0.2):
        pass
    print(first[0], flush=True)
    if call.switch("down-project"):
        from buildtool.cli import stack_run
        from buildtool.stacks.teardown import down

        project, name = project_name(call)
        report = stack_run.make_report(call)
        down(engine, project, name, report)
        stack_run.close_report(report)
    return first[0]


def version(call: Call) -> int:
    """The version of this program, which is that of its compose too."""
    from buildtool import __version__

    if call.switch("short"):
        print(__version__)
    elif call.text("format") == "json":
        print(json.dumps({"version": __version__}))
    else:
        print(f"buildtool compose version {__version__}")
    return 0


def diff(call: Call) -> int:
    """What `up` would change, and why; nothing is changed."""
    from buildtool.cli.stack_session import Session, describe
    from buildtool.stacks.plan import make_plan

    project = load_project(call, call.arguments)
    session = Session(call, project)
    state = session.observe()
    plan = make_plan(project, state, session.options, session.order)
    changes, builds = plan.changes, session.builds(state)
    if call.text("format") == "json":
        documents = [
            {
                "action": action.what,
                "kind": action.kind,
                "key": action.key,
                "name": describe(project, action).partition(": ")[0].partition(" ")[2],
                "why": action.why,
            }
            for action in changes
        ]
        documents += [
            {"action": "build", "kind": "image", "key": image, "name": image, "why": why} for image, why in builds
        ]
        print(json.dumps(documents, indent=2))
    else:
        for action in changes:
            print(describe(project, action))
        for action in plan.volumes:
            if action.what == "keep" and action.why:
                print(f"Volume {project.part('volumes')[action.key]['name']}: keep ({action.why})")
        for image, why in builds:
            print(f"Image {image}: build ({why})")
        for item in plan.orphans:
            print(f"Container {item.name}: orphan (no service {item.service!r}; --remove-orphans removes it)")
        if not changes and not builds and not plan.orphans:
            print("Nothing would change.", file=sys.stderr)
    return 1 if (changes or builds) and call.switch("exit-code") else 0


def graph(call: Call) -> int:
    """The stack as a drawing."""
    from buildtool.stacks.drawing import to_json, to_mermaid, to_svg
    from buildtool.stacks.graph import build_graph, with_dependencies

    project = load_project(call, call.arguments)
    names = with_dependencies(project, call.arguments) if call.arguments else None
    drawn = build_graph(project, names)
    forms = {"mermaid": to_mermaid, "svg": to_svg, "json": to_json}
    form = call.text("format")
    if form not in forms:
        from buildtool.cli.parse import UsageError

        raise UsageError(f'unsupported format "{form}": choose mermaid, svg or json')
    text = forms[form](drawn)
    if call.text("output"):
        with open(call.text("output"), "w", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stdout.write(text)
    return 0
