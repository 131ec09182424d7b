"""`up`: a plan carried out. Containers are created at once where they can be, and started in the order of need.

A container that is recreated keeps its name and its anonymous volumes; the old one is stopped only when its successor
has been created and its turn to start has come.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from buildtool.stacks import conditions, elsewhere, labels
from buildtool.stacks.body import References, create_body
from buildtool.stacks.engine import Container, Engine
from buildtool.stacks.files import files_hash, written_files
from buildtool.stacks.graph import Walk
from buildtool.stacks.hooks import run_hooks
from buildtool.stacks.model import Project
from buildtool.stacks.names import container_name, image_name
from buildtool.stacks.plan import (
    CREATE,
    KEEP,
    RECREATE,
    REMOVE,
    RESTART,
    START,
    Action,
    Options,
    Plan,
    shared_services,
)
from buildtool.stacks.report import Report
from buildtool.stacks.resources import create_network, create_volume, remove_network
from buildtool.stacks.teardown import remove_container, stop_container
from buildtool.stacks.up_container import make_container


class Up:
    """One run of `up` or `create` for the services in `order` (dependencies first).

    `images` are ids by name; `begun` hears of every container that has been started.
    """

    def __init__(
        self,
        engine: Engine,
        project: Project,
        plan: Plan,
        options: Options,
        order: list[str],
        report: Report,
        *,
        images: Mapping[str, str],
        timeout: int | None = None,
        parallel: int = 0,
        begun: Callable[[str, str], None] | None = None,
    ) -> None:
        self._begun = begun
        self._engine = engine
        self._images = images
        self._project = project
        self._plan = plan
        self._options = options
        self._order = order
        self._report = report
        self._timeout = timeout
        self._parallel = parallel
        self._lock = threading.Lock()
        # By service: number -> (id, name, the container it replaces).
        self._made: dict[str, dict[int, tuple[str, str, Container | None]]] = {name: {} for name in order}
        # Containers that this run has started, with the time in seconds before that.
        self.started: dict[str, float] = {}
        # Containers that stay ended: they have done their work.
        self.resting: set[str] = set()

    @property
    def containers(self) -> list[tuple[str, str, str]]:
        """Service, id and name of every container that the services have now."""
        return [
            (service, identifier, name)
            for service in self._order
            for _, (identifier, name, _) in sorted(self._made[service].items())
        ]

    def create(self) -> None:
        """Networks, volumes and containers. Raises what the engine refuses; what was made stays for the next try."""
        self._adopt_kept()
        walk = Walk(self._parallel)
        for action in self._plan.networks:
            walk.add(("network", action.key), lambda action=action: self._network(action))  # type: ignore[misc]
        for action in self._plan.volumes:
            if action.what == CREATE:
                walk.add(
                    ("volume", action.key),
                    lambda key=action.key: create_volume(  # type: ignore[misc]
                        self._engine, self._project, key, self._report
                    ),
                )
            elif action.why:
                self._report.warn(f"volume {self._project.part('volumes')[action.key]['name']}: {action.why}")
        for name in self._order:
            actions = [item for item in self._plan.services[name] if item.what in (CREATE, RECREATE)]
            for action in actions:
                walk.add(
                    (f"create {action.number}", name),
                    lambda name=name, action=action: self._create(name, action),  # type: ignore[misc]
                    self._creation_needs(name),
                )
        walk.run()
        if not self._options.start:
            for name in self._order:
                self._remove_surplus(name)
                for number in list(self._made[name]):
                    self._take_over(name, number)

    def start(self) -> None:
        """Start what is to run, each service when what it depends on is as it should be."""
        walk = Walk(self._parallel)
        for name in self._order:
            needs = [("start", other) for other in self._project.services[name].get("depends_on") or {}]
            if any(action.what != KEEP for action in self._plan.services[name]):
                walk.add(("start", name), lambda name=name: self._start(name), needs)  # type: ignore[misc]
        walk.run()

    def references(self) -> References:
        """What bodies may refer to."""
        with self._lock:
            return References(
                {
                    service: [(identifier, name) for _, (identifier, name, _) in sorted(made.items())]
                    for service, made in self._made.items()
                }
            )

    def _adopt_kept(self) -> None:
        for name in self._order:
            for action in self._plan.services[name]:
                if action.container is not None and action.what in (KEEP, START, RESTART):
                    found = action.container
                    self._made[name][action.number] = (found.id, found.name, None)
                    if action.what == KEEP:
                        self._report.state("Container", found.name, _kept_state(found))
                        if action.why:
                            self.resting.add(found.id)

    def _creation_needs(self, name: str) -> list[tuple[str, str]]:
        """What must exist before a container can be created: its networks and volumes, and whom it refers to."""
        service = self._project.services[name]
        needs = [("network", key) for key in service.get("networks") or {}]
        needs += [("volume", item["source"]) for item in service.get("volumes") or [] if item.get("source")]
        others = {*shared_services(service), *(link.partition(":")[0] for link in service.get("links") or [])}
        for other in others & self._made.keys():
            for action in self._plan.services[other]:
                needs.append((f"create {action.number}", other))
        return needs

    def _network(self, action: Action) -> None:
        if action.what == RECREATE:
            self._drop_network(action.key)
        if action.what in (CREATE, RECREATE):
            create_network(self._engine, self._project, action.key, self._report)

    def _drop_network(self, key: str) -> None:
        """Take everyone off a network that is to be made anew, and remove it."""
        name = self._project.part("networks")[key]["name"]
        details = self._engine.find(f"/networks/{name}")
        if details is None:
            return
        for item in self._engine.containers(self._project.name, oneoff=True):
            if name in item.networks:
                self._engine.post(
                    f"/networks/{details['Id']}/disconnect", None, {"Container": item.id, "Force": True}
                )
        remove_network(self._engine, details["Id"], name, self._report)

    def _create(self, service: str, action: Action) -> None:
        replaced = action.container
        name = container_name(self._project, service, self._project.services[service], action.number)
        shown = name if replaced is None else replaced.name
        self._report.state("Container", shown, "Recreate" if replaced else "Creating", action.why)
        called = name if replaced is None else f"{replaced.id[:12]}_{name}"
        identifier = self._create_container(service, action.number, called, replaced)
        with self._lock:
            self._made[service][action.number] = (identifier, name, replaced)
        self._report.state("Container", shown, "Recreated" if replaced else "Created")

    def _create_container(self, name: str, number: int, called: str, replaced: Container | None) -> str:
        service = self._project.services[name]
        files = written_files(self._project, service)
        references = self.references()
        shared = {other: references.container(other, name) for other in shared_services(service)}
        digest = self._project.digest("services", name, shared)
        marks = labels.container_labels(self._project, name, service, number, digest)
        if elsewhere.label(service):
            marks[labels.USES] = elsewhere.label(service)
        if files:
            marks[labels.FILES_HASH] = files_hash(files)
        image = self._images.get(image_name(self._project, name, service))
        if image:
            marks[labels.IMAGE] = image
        inherited = self._anonymous_volumes(replaced) if replaced and not self._options.renew_anonymous else {}
        body = create_body(self._project, name, service, marks, references, number=number, inherited=inherited)
        return make_container(self._engine, self._project, name, body, called, references, number, files)

    def _anonymous_volumes(self, container: Container) -> dict[str, str]:
        details = self._engine.find(f"/containers/{container.id}/json") or {}
        declared = {item["name"] for item in self._project.part("volumes").values()}
        return {
            mount["Destination"]: mount["Name"]
            for mount in details.get("Mounts") or ()
            if mount.get("Type") == "volume" and len(mount.get("Name") or "") == 64 and mount["Name"] not in declared
        }

    def _start(self, name: str) -> None:
        self.wait_for_dependencies(name)
        self._remove_surplus(name)
        actions = {action.number: action for action in self._plan.services[name] if action.what != REMOVE}
        due = [number for number in sorted(self._made[name]) if actions[number].what != KEEP]
        walk = Walk(self._parallel)
        for number in due:
            # Init containers that run once for all run before the first.
            needs = [("start", str(due[0]))] if self._project.services[name].get("pre_start") else []
            walk.add(
                ("start", str(number)),
                lambda number=number: self._start_one(name, number, actions[number]),  # type: ignore[misc]
                needs if number != due[0] else [],
            )
        walk.run()

    def _start_one(self, name: str, number: int, action: Action) -> None:
        service = self._project.services[name]
        identifier, shown, replaced = self._made[name][number]
        if action.what == RESTART and action.container is not None:
            stop_container(self._engine, self._project, action.container, self._report, self._timeout)
        first = replaced is not None and replaced.running and _starts_first(service)
        if not first:
            self._take_over(name, number)
        self._initialise(name, number, action)
        self._report.state("Container", shown, "Starting")
        self.started[identifier] = time.time()
        self._engine.act("POST", f"/containers/{identifier}/start")
        if self._begun is not None:
            self._begun(identifier, shown)
        if service.get("post_start"):
            run_hooks(self._engine, identifier, shown, service["post_start"], "post_start")
        self._report.state("Container", shown, "Started")
        if first:
            conditions.wait_for(self._engine, [(identifier, shown)], conditions.running_or_healthy, self._report)
            self._take_over(name, number)

    def _initialise(self, name: str, number: int, action: Action) -> None:
        """Run `pre_start` for a container that has never run."""
        before = action.container
        fresh = action.what in (CREATE, RECREATE) or (before is not None and before.state == "created")
        if fresh and self._project.services[name].get("pre_start"):
            from buildtool.stacks.init_containers import run_init_containers

            first = number == min(self._made[name])
            run_init_containers(
                self._engine, self._project, name, self.references(), self._report, number=number, first=first
            )

    def _remove_surplus(self, name: str) -> None:
        for action in self._plan.services[name]:
            if action.what == REMOVE and action.container is not None:
                stop_container(self._engine, self._project, action.container, self._report, self._timeout)
                remove_container(self._engine, action.container, self._report)

    def _take_over(self, service: str, number: int) -> None:
        """Stop and remove the container that this one replaces, and give it the name."""
        identifier, name, replaced = self._made[service][number]
        if replaced is None:
            return
        stop_container(self._engine, self._project, replaced, self._report, self._timeout, told=False)
        remove_container(self._engine, replaced, self._report, volumes=self._options.renew_anonymous, told=False)
        self._engine.post(f"/containers/{identifier}/rename", {"name": name})
        with self._lock:
            self._made[service][number] = (identifier, name, None)

    def wait_for_dependencies(self, name: str) -> None:
        """Return when what the service depends on is as it wants it. Raises DependencyFailed."""
        elsewhere.wait(self._engine, name, self._project.services[name], self._report)
        for other, how in sorted((self._project.services[name].get("depends_on") or {}).items()):
            if other not in self._made or how["condition"] == "service_started":
                continue
            with self._lock:
                waited = [(identifier, shown) for identifier, shown, _ in self._made[other].values()]
            try:
                conditions.wait_for(self._engine, waited, conditions.CONDITIONS[how["condition"]], self._report)
            except conditions.DependencyFailed as error:
                if how.get("required", True):
                    raise conditions.DependencyFailed(
                        f"dependency failed to start: {error.message}", hint=error.hint
                    ) from None
                self._report.warn(f"optional dependency {other!r} of {name!r} failed to start: {error.message}")


def _kept_state(container: Container) -> str:
    if container.running:
        return "Running"
    return "Exited" if container.exit_code is not None else "Created"


def _starts_first(service: dict[str, Any]) -> bool:
    """`deploy.update_config.order: start-first`, which needs that no port of the host is taken by both."""
    update = (service.get("deploy") or {}).get("update_config") or {}
    return update.get("order") == "start-first" and not any(
        port.get("published") for port in service.get("ports") or []
    )
