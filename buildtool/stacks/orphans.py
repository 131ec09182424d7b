"""Containers of a project that its files do not have: left over, or those of another stack with the same name."""

from __future__ import annotations

import os

from buildtool.stacks import labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildtool.stacks.engine import Container
    from buildtool.stacks.model import Project


def warnings(project: Project, orphans: Sequence[Container]) -> list[str]:
    """What is to be told of them.

    Containers whose files are others, and are still there, belong to another stack in the same directory: removing
    them is hardly ever what is wanted, giving one of the two a name is.
    """
    strangers: dict[str, list[str]] = {}
    left = []
    for item in orphans:
        files = [name for name in item.labels.get(labels.CONFIG_FILES, "").split(",") if name]
        if files and not set(files) & set(project.files) and all(os.path.exists(name) for name in files):  # noqa: PTH110
            strangers.setdefault(", ".join(os.path.relpath(name) for name in files), []).append(item.name)
        else:
            left.append(item.name)
    found = [
        f"Containers of another stack have the same project name {project.name!r}: {', '.join(sorted(names))}, of "
        f"{files}. They are left alone. Give one of the two a name of its own, with `name:` in its file or "
        "--project-name."
        for files, names in sorted(strangers.items())
    ]
    if left:
        found.append(
            f"Found orphan containers ([{', '.join(sorted(left))}]) for this project. If you removed or renamed this "
            "service in your compose file, you can run this command with the --remove-orphans flag to clean it up."
        )
    return found
