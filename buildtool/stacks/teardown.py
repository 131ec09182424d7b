"""Stopping and removing: single containers, and a whole project (`down`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from buildtool.client import EngineError, quote_path
from buildtool.stacks import labels
from buildtool.stacks.elsewhere import users
from buildtool.stacks.engine import Container, Engine
from buildtool.stacks.graph import Walk
from buildtool.stacks.hooks import HookFailed, run_hooks
from buildtool.stacks.model import Project
from buildtool.stacks.orphans import warnings
from buildtool.stacks.report import Report
from buildtool.stacks.resources import remove_network, remove_volume


def stop_container(
    engine: Engine,
    project: Project | None,
    container: Container,
    report: Report,
    timeout: int | None = None,
    *,
    told: bool = True,
) -> None:
    """Run its pre_stop hooks and stop it; nothing when it does not run."""
    if not container.running:
        return
    if told:
        report.state("Container", container.name, "Stopping")
    service: dict[str, Any] = (project.services.get(container.service) if project else None) or {}
    try:
        run_hooks(engine, container.id, container.name, service.get("pre_stop") or [], "pre_stop")
    except HookFailed as error:
        report.warn(str(error))
    engine.act("POST", f"/containers/{container.id}/stop", {"t": timeout}, missing=True)
    if told:
        report.state("Container", container.name, "Stopped")


def remove_container(
    engine: Engine, container: Container, report: Report, *, volumes: bool = False, told: bool = True
) -> None:
    """Remove it, whatever its state."""
    if told:
        report.state("Container", container.name, "Removing")
    engine.act("DELETE", f"/containers/{container.id}", {"force": True, "v": volumes}, missing=True)
    if told:
        report.state("Container", container.name, "Removed")


def dependencies_of(containers: Iterable[Container]) -> dict[str, set[str]]:
    """What services depend on, as their containers' labels tell: also when the files are not at hand."""
    found: dict[str, set[str]] = {}
    for container in containers:
        listed = (item.partition(":")[0] for item in container.labels.get(labels.DEPENDS, "").split(",") if item)
        found.setdefault(container.service, set()).update(listed)
    return found


def in_reverse(containers: Sequence[Container], parallel: int = 0) -> ReverseWalk:
    """A walk over the containers in which those that depend on others come before them."""
    return ReverseWalk(containers, parallel)


class ReverseWalk:
    """Does something with each container, dependents first, the rest at the same time."""

    def __init__(self, containers: Sequence[Container], parallel: int) -> None:
        self._containers = containers
        self._parallel = parallel

    def each(self, work: Any) -> None:
        """Call `work(container)` for every container."""
        walk = Walk(self._parallel)
        depends = dependencies_of(self._containers)
        by_service: dict[str, list[Container]] = {}
        for container in self._containers:
            by_service.setdefault(container.service, []).append(container)
        for container in self._containers:
            dependents = [name for name, others in depends.items() if container.service in others]
            needs = [("container", item.id) for name in dependents for item in by_service.get(name, ())]
            walk.add(("container", container.id), lambda container=container: work(container), needs)  # type: ignore[misc]
        walk.run()


def down(
    engine: Engine,
    project: Project | None,
    name: str,
    report: Report,
    *,
    services: Sequence[str] = (),
    volumes: bool = False,
    images: str = "",
    orphans: bool = False,
    timeout: int | None = None,
    parallel: int = 0,
) -> None:
    """Stop and remove the project's containers and networks, and what else is asked for.

    `project` is None when there are no files: then everything with the project's label goes. With `services` only
    their containers go.
    """
    found = engine.containers(name, oneoff=True)
    if services:
        chosen = [item for item in found if item.service in services]
    elif project is None or orphans:
        chosen = found
    else:
        chosen = [item for item in found if item.service in project.services or item.service in project.disabled]
        _tell_orphans(project, [item for item in found if item not in chosen], report)
    kept = [] if services else _needed_elsewhere(engine, name, chosen, report)
    chosen = [item for item in chosen if item not in kept]
    networks = {network for item in kept for network in item.networks}
    held = {mount.get("Name") for item in kept for mount in item.data.get("Mounts") or ()}

    def end(container: Container) -> None:
        stop_container(engine, project, container, report, timeout)
        remove_container(engine, container, report, volumes=volumes)

    in_reverse(chosen, parallel).each(end)
    if services:
        return
    if project is not None and any(service.get("provider") for service in project.services.values()):
        from buildtool.stacks.providers import withdraw

        withdraw(project, report, dry=engine.dry)
    walk = Walk(parallel)
    query = labels.project_filter(name)
    for network in engine.get("/networks", query):
        if network["Name"] in networks:
            continue
        walk.add(
            ("network", network["Id"]),
            lambda network=network: remove_network(  # type: ignore[misc]
                engine, network["Id"], network["Name"], report
            ),
        )
    if volumes:
        for volume in engine.get("/volumes", query).get("Volumes") or ():
            if volume["Name"] in held:
                continue
            walk.add(
                ("volume", volume["Name"]),
                lambda volume=volume: remove_volume(engine, volume["Name"], report),  # type: ignore[misc]
            )
    for image in _images_to_remove(project, name, chosen, images):
        walk.add(("image", image), lambda image=image: _remove_image(engine, image, report))  # type: ignore[misc]
    walk.run()


def _needed_elsewhere(engine: Engine, name: str, containers: Sequence[Container], report: Report) -> list[Container]:
    """The containers that running ones of other projects need, and those that these depend on."""
    needed = users(engine, name)
    if not needed:
        return []
    depends = dependencies_of(containers)
    kept: set[str] = set()
    waiting = [service for service in needed if service in depends]
    for service in sorted(waiting):
        report.warn(f"service {service} is kept: {', '.join(sorted(needed[service]))} of another project needs it")
    while waiting:
        service = waiting.pop()
        if service not in kept:
            kept.add(service)
            waiting += depends.get(service, ())
    return [item for item in containers if item.service in kept]


def _tell_orphans(project: Project, orphans: list[Container], report: Report) -> None:
    for text in warnings(project, [item for item in orphans if not item.oneoff]):
        report.warn(text)


def _images_to_remove(project: Project | None, name: str, containers: list[Container], which: str) -> list[str]:
    if not which:
        return []
    found = set()
    if project is not None:
        for key, service in project.services.items():
            own = service.get("image")
            if which == "all" and own:
                found.add(own)
            elif service.get("build") is not None and not own:
                found.add(f"{name}-{key}")
    else:
        found = {
            item.data["Image"] for item in containers if which == "all" or item.data["Image"].startswith(f"{name}-")
        }
    return sorted(found)


def _remove_image(engine: Engine, image: str, report: Report) -> None:
    if engine.image(image) is None:
        return
    report.state("Image", image, "Removing")
    try:
        engine.act("DELETE", f"/images/{quote_path(image)}", missing=True)
    except EngineError as error:
        if error.status != 409:
            raise
        report.state("Image", image, "Resource is still in use")
        return
    report.state("Image", image, "Removed")
