"""What the containers and images of services are called."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from buildtool.stacks.model import Project


def image_name(project: Project, name: str, service: Mapping[str, Any]) -> str:
    """The image that a service runs, or that its build makes."""
    image: str = service.get("image") or f"{project.name}-{name}"
    return image


def container_name(project: Project, name: str, service: Mapping[str, Any], number: int) -> str:
    """`project-service-1`, or the name that the service asks for."""
    own: str = service.get("container_name") or ""
    return own or f"{project.name}-{name}-{number}"
