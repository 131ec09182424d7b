"""Removing the containers that do not run."""

from __future__ import annotations

from typing import Any

from buildtool.aio import offload
from buildtool.containers import listing
from buildtool.containers.events import Events
from buildtool.containers.lifecycle import Lifecycle
from buildtool.containers.registry import Registry
from buildtool.containers.volumes import disk_usage
from buildtool.errors import Conflict


async def prune(registry: Registry, lifecycle: Lifecycle, events: Events, filters: Any) -> dict[str, Any]:
    """The answer to POST /containers/prune; those that start meanwhile stay."""
    removed, freed = [], 0
    for container in listing.to_prune(registry, filters):
        size = await offload(disk_usage, container.directory / "upper")
        try:
            await lifecycle.remove(container, force=False, volumes=False)
        except Conflict:
            continue
        removed.append(container.id)
        freed += size
    events.publish("container", "prune", "", {"reclaimed": str(freed)})
    return {"ContainersDeleted": removed or None, "SpaceReclaimed": freed}
