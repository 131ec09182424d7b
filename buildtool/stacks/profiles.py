"""Which services are active, and which networks, volumes, secrets and configs they need."""

from __future__ import annotations

from collections.abc import Iterable

from buildtool.buildfile.suggest import did_you_mean
from buildtool.errors import NotFound
from buildtool.stacks.model import Project
from buildtool.stacks.tree import Map


def filter_profiles(project: Project) -> None:
    """Move the services whose profiles are not active to `disabled`; without profiles a service is always active."""
    active = set(project.profiles)
    if "*" in active:
        return
    for name, service in list(project.services.items()):
        wanted = service.get("profiles") or []
        if wanted and not active.intersection(wanted):
            project.disabled[name] = project.services.pop(name)


def enable_services(project: Project, names: Iterable[str]) -> None:
    """Make the named services active, whatever their profiles: naming one is asking for it.

    Raises NotFound for a service that the stack does not have.
    """
    for name in names:
        if name in project.disabled:
            service = project.disabled.pop(name)
            project.services[name] = service
            for other, hidden in list(project.disabled.items()):
                if set(hidden.get("profiles") or []) & set(service.get("profiles") or []):
                    project.services[other] = project.disabled.pop(other)
        elif name not in project.services:
            raise NotFound(
                f"no such service: {name}",
                hint=did_you_mean(name, [*project.services, *project.disabled]),
            )


def check_active(project: Project) -> None:
    """Raise StackError when an active service needs one whose profiles are not."""
    for name, service in project.services.items():
        for wanted, how in (service.get("depends_on") or {}).items():
            if wanted in project.disabled and how.get("required", True):
                profiles = ", ".join(project.disabled[wanted].get("profiles") or [])
                raise project.error(
                    ("services", name, "depends_on", wanted),
                    f"service {name!r} depends on {wanted!r}, which is not active",
                    f"Give one of its profiles ({profiles}) with --profile, or write `required: false`.",
                )


def prune_resources(project: Project) -> None:
    """Leave out networks, volumes, secrets and configs that no active service uses."""
    used: dict[str, set[str]] = {kind: set() for kind in ("networks", "volumes", "secrets", "configs", "models")}
    for service in project.services.values():
        used["networks"].update(service.get("networks") or ())
        used["models"].update(service.get("models") or ())
        used["volumes"].update(
            item["source"]
            for item in service.get("volumes") or []
            if isinstance(item, Map) and item.get("type") in ("volume", "cluster") and item.get("source")
        )
        build = service.get("build") or {}
        for item in [*(service.get("secrets") or []), *(build.get("secrets") or [])]:
            used["secrets"].add(item["source"])
        used["configs"].update(item["source"] for item in service.get("configs") or [])
    for kind, names in used.items():
        part = project.model.get(kind)
        if isinstance(part, Map):
            for key in [key for key in part if key not in names and not key.startswith("x-")]:
                part.pop(key)
            if not part:
                project.model.pop(kind)
