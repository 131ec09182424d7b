"""`compose watch` and `up --watch`: containers follow the files on this machine."""

from __future__ import annotations

import os
import posixpath
import tarfile
import time

from buildtool.cli.stack_project import load_project
from buildtool.cli.stack_run import close_report, make_report, open_engine, refuse_dry_run
from buildtool.errors import BuildtoolError, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call
    from buildtool.stacks.engine import Container, Engine
    from buildtool.stacks.model import Project
    from buildtool.stacks.watching import Rule

_INTERVAL = 0.3


def watch(call: Call) -> int:
    """Bring the services up and keep them up to date until Ctrl-C."""
    refuse_dry_run(call)
    from buildtool.cli.stack_session import Session

    project = load_project(call, call.arguments)
    services = call.arguments or list(project.services)
    if not call.switch("no-up"):
        Session(call, project).bring_up(remove_orphans=False)
    return watch_project(call, project, open_engine(call), services)


def watch_project(call: Call, project: Project, engine: Engine, services: list[str]) -> int:
    """Watch until Ctrl-C; 0 then."""
    from buildtool.stacks.watching import Watcher, rules_of

    rules = rules_of(project, services)
    if not rules:
        raise InvalidInput(
            "none of the selected services is configured for watch", hint="Give them a `develop.watch` section."
        )
    watcher = Watcher(rules)
    for rule in rules:
        if rule.initial_sync and rule.action.startswith("sync"):
            _sync(engine, project, rule, list(rule.files()), [])
    print("Watch enabled", flush=True)
    try:
        while True:
            time.sleep(_INTERVAL)
            found = watcher.changes()
            rebuilt = {rule.service for rule, _, _ in found if rule.action == "rebuild"}
            for service in sorted(rebuilt):
                _rebuild(call, project, service)
            for rule, changed, removed in found:
                if rule.service not in rebuilt:
                    _apply(engine, project, rule, changed, removed)
    except KeyboardInterrupt:
        print("Watch disabled", flush=True)
        return 0


def watch_beside(call: Call, project: Project, engine: Engine, services: list[str]) -> None:
    """Watch in the background, beside the output of `up`; faults of the rules are raised here."""
    import threading

    from buildtool.stacks.watching import rules_of

    if not rules_of(project, services):
        raise InvalidInput(
            "none of the selected services is configured for watch", hint="Give them a `develop.watch` section."
        )
    threading.Thread(target=watch_project, args=(call, project, engine, services), daemon=True).start()


def _rebuild(call: Call, project: Project, service: str) -> None:
    """Build the service's image anew and recreate its containers."""
    from buildtool.cli.stack_build import build_services
    from buildtool.cli.stack_session import Session

    print(f"Rebuilding service {service!r} after changes were detected...", flush=True)
    report = make_report(call)
    try:
        build_services(call, project, [service], report, quiet=True)
    except BuildtoolError as error:
        print(f"Rebuild of {service!r} failed: {error}", flush=True)
        return
    finally:
        close_report(report)
    fresh = load_project(call, call.arguments)
    session = Session(call, fresh, services=[service])
    session.no_deps = True
    session.bring_up(remove_orphans=False)
    print(f"service {service!r} successfully built", flush=True)


def _apply(engine: Engine, project: Project, rule: Rule, changed: list[str], removed: list[str]) -> None:
    if rule.action.startswith("sync"):
        _sync(engine, project, rule, changed, removed)
    if rule.action in ("restart", "sync+restart"):
        for container in _containers(engine, project, rule.service):
            engine.act("POST", f"/containers/{container.id}/restart")
            print(f"service {rule.service!r} restarted", flush=True)
    elif rule.action == "sync+exec" and rule.exec is not None:
        from buildtool.stacks.hooks import HookFailed, run_hooks

        for container in _containers(engine, project, rule.service):
            try:
                run_hooks(engine, container.id, container.name, [rule.exec], "watch")
            except HookFailed as error:
                print(str(error), flush=True)


def _containers(engine: Engine, project: Project, service: str) -> list[Container]:
    return [item for item in engine.containers(project.name) if item.service == service and item.running]


def _sync(engine: Engine, project: Project, rule: Rule, changed: list[str], removed: list[str]) -> None:
    """Copy changed files to where they belong in every container, and remove what is gone."""
    print(f"Syncing service {rule.service!r} after {len(changed) + len(removed)} changes were detected", flush=True)
    for container in _containers(engine, project, rule.service):
        if changed:
            headers = {"Content-Type": "application/x-tar"}
            path = f"/containers/{container.id}/archive"
            engine.client.call("PUT", path, {"path": "/"}, body=_archive(rule, changed), headers=headers).read()
        if removed:
            from buildtool.stacks.hooks import HookFailed, run_hooks

            targets = [posixpath.join(rule.target, name) for name in removed]
            try:
                hooks = [{"command": ["rm", "-rf", "--", *targets], "user": "0"}]
                run_hooks(engine, container.id, container.name, hooks, "watch")
            except HookFailed as error:
                print(str(error), flush=True)


def _archive(rule: Rule, names: list[str]) -> bytes:
    import io

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        folders: set[str] = set()
        for name in names:
            source = os.path.join(rule.path, name) if name else rule.path
            target = posixpath.join(rule.target, name) if name else rule.target
            folder = posixpath.dirname(target).lstrip("/")
            base = rule.target.strip("/")
            while folder and folder.startswith(base) and folder not in folders:
                folders.add(folder)
                info = tarfile.TarInfo(folder)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
                folder = posixpath.dirname(folder)
            try:
                info = archive.gettarinfo(source, arcname=target.lstrip("/"))
                info.uid, info.gid, info.uname, info.gname = 0, 0, "", ""
                if info.isreg():
                    with open(source, "rb") as file:
                        archive.addfile(info, file)
                else:
                    archive.addfile(info)
            except OSError:
                continue  # it is gone again already: the next look will tell
    return out.getvalue()
