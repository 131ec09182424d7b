"""Services that run once: when another `up` need not run them again.

docker compose starts every container that does not run, and so runs migrations and downloads at each `up`. A service
for whose end others wait (`service_completed_successfully`) is a job: one that ended with 0 stays as it is, until
something it was made of or works on has changed.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.stacks.engine import Container, Engine
    from buildtool.stacks.model import Project

COMPLETED = "service_completed_successfully"
# More files than that are not looked at: the job runs.
_MOST_FILES = 5000


def jobs(project: Project) -> set[str]:
    """The services for whose end others wait."""
    return {
        name
        for service in project.services.values()
        for name, how in (service.get("depends_on") or {}).items()
        if how.get("condition") == COMPLETED
    }


def bound_sources(service: dict[str, Any]) -> list[str]:
    """The files and folders of the host that the service sees."""
    return [item["source"] for item in service.get("volumes") or () if item.get("type") == "bind"]


def touched(engine: Engine, service: dict[str, Any], container: Container) -> bool:
    """Whether a file of the host that the service sees has changed since its container ended."""
    sources = bound_sources(service)
    if not sources:
        return False
    details = engine.find(f"/containers/{container.id}/json") or {}
    ended = _seconds((details.get("State") or {}).get("FinishedAt") or "")
    left = _MOST_FILES
    for source in sources:
        for path in _files(source):
            left -= 1
            try:
                found = os.lstat(path)
            except OSError:
                continue
            if not left or max(found.st_mtime, found.st_ctime) > ended:
                return True
    return False


def _files(source: str) -> Any:
    yield source
    for folder, folders, files in os.walk(source):
        yield from (f"{folder}/{name}" for name in (*folders, *files))


def _seconds(stamp: str) -> float:
    """A time of RFC 3339 with any number of digits, as seconds since the epoch; 0 when it is none."""
    from datetime import datetime

    whole, _, fraction = stamp.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
    except ValueError:
        return 0.0
