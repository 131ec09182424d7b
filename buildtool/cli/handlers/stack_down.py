"""`compose down`, `start`, `stop`, `restart`, `kill`, `rm`, `pause`, `unpause`: what exists already."""

from __future__ import annotations

import sys
import time

from buildtool.cli.parse import UsageError
from buildtool.cli.stack_run import (
    close_report,
    make_report,
    open_engine,
    parallelism,
    project_name,
    service_containers,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from buildtool.cli.call import Call
    from buildtool.stacks.engine import Container, Engine
    from buildtool.stacks.report import Report


def down(call: Call) -> int:
    """Stop and remove containers and networks; volumes and images when asked for."""
    from buildtool.stacks.teardown import down as take_down

    if call.text("rmi") not in ("", "all", "local"):
        raise UsageError(f'invalid value for --rmi: "{call.text("rmi")}": choose all or local')
    project, name = project_name(call)
    if project is not None and call.arguments:
        from buildtool.stacks.profiles import enable_services

        enable_services(project, call.arguments)
    report = make_report(call)
    try:
        take_down(
            open_engine(call),
            project,
            name,
            report,
            services=call.arguments,
            volumes=(call.switch("volumes") or call.switch("volume")),
            images=call.text("rmi"),
            orphans=call.switch("remove-orphans"),
            timeout=call.number("timeout"),
            parallel=parallelism(call),
        )
    finally:
        close_report(report)
    return 0


def start(call: Call) -> int:
    """Start existing containers, those first that others depend on."""
    from buildtool.errors import NotFound
    from buildtool.stacks import conditions
    from buildtool.stacks.graph import Walk
    from buildtool.stacks.hooks import run_hooks
    from buildtool.stacks.teardown import dependencies_of

    engine = open_engine(call)
    project, found = service_containers(call, engine)
    for service in call.arguments:
        if not any(item.service == service for item in found):
            raise NotFound(f'service "{service}" has no container to start', hint="Make it with: buildtool up")
    report = make_report(call)
    depends = dependencies_of(found)

    def begin(container: Container) -> None:
        service = (project.services.get(container.service) if project else None) or {}
        for other, how in (service.get("depends_on") or {}).items():
            waited = [(item.id, item.name) for item in found if item.service == other]
            if how["condition"] != "service_started" and waited:
                conditions.wait_for(engine, waited, conditions.CONDITIONS[how["condition"]], report)
        if container.running:
            return
        report.state("Container", container.name, "Starting")
        engine.act("POST", f"/containers/{container.id}/start")
        if service.get("post_start"):
            run_hooks(engine, container.id, container.name, service["post_start"], "post_start")
        report.state("Container", container.name, "Started")

    walk = Walk(parallelism(call))
    for container in found:
        needs = [("container", item.id) for item in found if item.service in depends.get(container.service, ())]
        walk.add(("container", container.id), lambda container=container: begin(container), needs)  # type: ignore[misc]
    try:
        walk.run()
        if call.switch("wait"):
            timeout = call.number("wait-timeout")
            deadline = time.monotonic() + timeout if timeout else None
            waited = [(item.id, item.name) for item in found]
            conditions.wait_for(engine, waited, conditions.running_or_healthy, report, deadline=deadline)
    finally:
        close_report(report)
    return 0


def stop(call: Call) -> int:
    """Stop containers, dependents first."""
    from buildtool.stacks.teardown import in_reverse, stop_container

    engine = open_engine(call)
    project, found = service_containers(call, engine)
    report = make_report(call)
    timeout = call.number("timeout")
    try:
        in_reverse(found, parallelism(call)).each(
            lambda container: stop_container(engine, project, container, report, timeout)
        )
    finally:
        close_report(report)
    return 0


def restart(call: Call) -> int:
    """Stop and start containers, and with them those that are to be restarted with them."""
    from buildtool.stacks.teardown import in_reverse, stop_container

    engine = open_engine(call)
    project, found = service_containers(call, engine)
    if call.arguments and project is not None and not call.switch("no-deps"):
        follow = {
            name
            for name, service in project.services.items()
            for other, how in (service.get("depends_on") or {}).items()
            if other in call.arguments and how.get("restart")
        }
        if follow - set(call.arguments):
            found += [
                item for item in engine.containers(project.name) if item.service in follow - set(call.arguments)
            ]
    report = make_report(call)
    timeout = call.number("timeout")
    try:
        in_reverse(found, parallelism(call)).each(
            lambda container: stop_container(engine, project, container, report, timeout, told=False)
        )

        def begin(container: Container) -> None:
            report.state("Container", container.name, "Restarting")
            engine.act("POST", f"/containers/{container.id}/start")
            report.state("Container", container.name, "Started")

        _forwards(found, parallelism(call), begin)
    finally:
        close_report(report)
    return 0


def _forwards(found: list[Container], parallel: int, work: Callable[[Container], None]) -> None:
    from buildtool.stacks.graph import Walk
    from buildtool.stacks.teardown import dependencies_of

    depends = dependencies_of(found)
    walk = Walk(parallel)
    for container in found:
        needs = [("container", item.id) for item in found if item.service in depends.get(container.service, ())]
        walk.add(("container", container.id), lambda container=container: work(container), needs)  # type: ignore[misc]
    walk.run()


def kill(call: Call) -> int:
    """Send a signal to running containers."""
    signal = call.text("signal")

    def work(engine: Engine, container: Container, report: Report) -> None:
        report.state("Container", container.name, "Killing")
        engine.act("POST", f"/containers/{container.id}/kill", {"signal": signal})
        report.state("Container", container.name, "Killed")

    return _each(call, work, lambda container: container.running)


def pause(call: Call) -> int:
    """Freeze running containers."""

    def work(engine: Engine, container: Container, report: Report) -> None:
        engine.act("POST", f"/containers/{container.id}/pause")
        report.state("Container", container.name, "Paused")

    return _each(call, work, lambda container: container.state == "running")


def unpause(call: Call) -> int:
    """Let frozen containers go on."""

    def work(engine: Engine, container: Container, report: Report) -> None:
        engine.act("POST", f"/containers/{container.id}/unpause")
        report.state("Container", container.name, "Unpaused")

    return _each(call, work, lambda container: container.state == "paused")


def _each(call: Call, work: Callable[[Engine, Container, Report], None], chosen: Callable[[Container], bool]) -> int:
    from buildtool.stacks.teardown import in_reverse

    engine = open_engine(call)
    _, found = service_containers(call, engine)
    report = make_report(call)
    try:
        in_reverse([item for item in found if chosen(item)], parallelism(call)).each(
            lambda container: work(engine, container, report)
        )
    finally:
        close_report(report)
    return 0


def rm(call: Call) -> int:
    """Remove stopped containers, after asking on a terminal."""
    from buildtool.stacks.teardown import in_reverse, remove_container, stop_container

    engine = open_engine(call)
    project, found = service_containers(call, engine, oneoff=True)
    stopping = call.switch("stop")
    chosen = [item for item in found if stopping or not item.running]
    if not chosen:
        print("No stopped containers", file=sys.stderr)
        return 0
    if not call.switch("force") and not _agreed([item.name for item in chosen]):
        return 0
    report = make_report(call)

    def work(container: Container) -> None:
        stop_container(engine, project, container, report)
        remove_container(engine, container, report, volumes=call.switch("volumes"))

    try:
        in_reverse(chosen, parallelism(call)).each(work)
    finally:
        close_report(report)
    return 0


def _agreed(names: list[str]) -> bool:
    sys.stderr.write(f"? Going to remove {', '.join(names)} [yN] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
