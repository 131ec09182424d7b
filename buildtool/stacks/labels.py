"""The labels by which docker compose, and we, know what belongs to which project."""

from __future__ import annotations

from buildtool import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.stacks.model import Project

PREFIX = "com.docker.compose"
PROJECT = f"{PREFIX}.project"
SERVICE = f"{PREFIX}.service"
NUMBER = f"{PREFIX}.container-number"
ONEOFF = f"{PREFIX}.oneoff"
SLUG = f"{PREFIX}.slug"
HASH = f"{PREFIX}.config-hash"
IMAGE = f"{PREFIX}.image"
DEPENDS = f"{PREFIX}.depends_on"
WORKING_DIR = f"{PREFIX}.project.working_dir"
CONFIG_FILES = f"{PREFIX}.project.config_files"
NETWORK = f"{PREFIX}.network"
VOLUME = f"{PREFIX}.volume"
VERSION = f"{PREFIX}.version"
REPLACES = f"{PREFIX}.replace"
# Ours: services of other projects that the container needs, as PROJECT/SERVICE.
USES = "buildtool.stack.uses"
# Ours: what was written into the container for its secrets and configs.
FILES_HASH = "buildtool.stack.files-hash"


def project_filter(project: str, *more: str) -> dict[str, Any]:
    """The query of a list call for what belongs to the project."""
    return {"filters": {"label": [f"{PROJECT}={project}", *more]}}


def container_labels(
    project: Project, name: str, service: dict[str, Any], number: int, digest: str
) -> dict[str, str]:
    """What a service's container is labelled with, besides the service's own labels."""
    depends = [
        f"{other}:{how['condition']}:{str(bool(how.get('restart'))).lower()}"
        for other, how in sorted((service.get("depends_on") or {}).items())
    ]
    return {
        HASH: digest,
        NUMBER: str(number),
        DEPENDS: ",".join(depends),
        ONEOFF: "False",
        PROJECT: project.name,
        CONFIG_FILES: ",".join(project.files),
        WORKING_DIR: project.directory,
        SERVICE: name,
        VERSION: __version__,
    }


def resource_labels(project: Project, kind: str, key: str, digest: str) -> dict[str, str]:
    """What a network (`kind` is NETWORK) or a volume is labelled with."""
    return {kind: key, PROJECT: project.name, VERSION: __version__, HASH: digest}
