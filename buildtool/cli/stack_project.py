"""The stack that a command is about: loaded as its flags, the environment and the directory say."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call
    from buildtool.stacks.model import Project, Request


def find(call: Call) -> Request:
    """What is to be loaded."""
    from buildtool.stacks.discover import find_request

    request = find_request(
        files=call.texts("file"),
        directory=call.text("project-directory"),
        name=call.text("project-name"),
        profiles=call.texts("profile"),
        env_files=call.texts("env-file"),
    )
    request.all_resources = call.switch("all-resources")
    return request


def load_project(call: Call, services: list[str] | None = None) -> Project:
    """The project, its warnings told on stderr. Naming a service activates it, whatever its profiles."""
    from buildtool.stacks.discover import FileSystem
    from buildtool.stacks.load import load
    from buildtool.stacks.profiles import check_active, enable_services

    project = load(find(call), FileSystem())
    warn(project.warnings)
    enable_services(project, services or [])
    check_active(project)
    return project


def warn(messages: list[str]) -> None:
    """Warnings on stderr."""
    for message in messages:
        print(f"WARNING: {message}", file=sys.stderr)
