"""Removing a container: when it may go, and what goes with it."""

from __future__ import annotations

import shutil

from buildtool.containers.container import Container
from buildtool.containers.registry import Registry
from buildtool.containers.volumes import Volumes
from buildtool.errors import Conflict


def check(container: Container, *, force: bool) -> None:
    """Raises Conflict, in Docker's words, for a container that is being removed, or that runs (without `force`)."""
    state = container.state
    fail = f'cannot remove container "/{container.name}": '
    if state.removing or container.removed:
        raise Conflict(f"removal of container {container.id} is already in progress")
    if state.running and not force:
        if state.paused:
            raise Conflict(fail + "container is paused and must be unpaused first")
        raise Conflict(f"{fail}container is {state.status}: stop the container before removing or force remove")


def erase(registry: Registry, container: Container) -> None:
    """Delete its record and its directory."""
    registry.delete(container.id)
    shutil.rmtree(container.directory, ignore_errors=True)


def remove_volumes(volumes: Volumes, container: Container) -> None:
    """Delete its anonymous volumes, but for those that others use."""
    for point in container.record.mounts:
        if point.type == "volume" and point.anonymous:
            try:
                volumes.remove(point.name, force=True)
            except Conflict:
                continue
