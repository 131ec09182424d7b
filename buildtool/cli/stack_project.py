"""The stack that a command is about: loaded as its flags, the environment and the directory say."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call
    from buildtool.stacks.model import Project, Request
    from buildtool.stacks.reading import FileSystem


def find(call: Call, reader: FileSystem | None = None) -> Request:
    """What is to be loaded; `reader` hears what was looked at."""
    from buildtool.stacks.discover import find_request

    request = find_request(
        files=call.texts("file"),
        directory=call.text("project-directory"),
        name=call.text("project-name"),
        profiles=call.texts("profile"),
        env_files=call.texts("env-file"),
        reader=reader,
        fetch=_fetch,
    )
    request.all_resources = call.switch("all-resources")
    return request


def _fetch(address: str) -> str:
    """The compose file of a stack in a registry (`oci://REFERENCE`) or a git repository."""
    if address.startswith("oci:"):
        from buildtool.cli.stack_remote import fetch_stack

        return fetch_stack(address)
    from buildtool.cli.stack_git import fetch_git

    return fetch_git(address)


def load_project(call: Call, services: list[str] | None = None, reader: FileSystem | None = None) -> Project:
    """The project, its warnings told on stderr. Naming a service activates it, whatever its profiles.

    `reader` hears what was looked at.
    """
    from buildtool.stacks.load import load
    from buildtool.stacks.profiles import check_active, enable_services
    from buildtool.stacks.reading import FileSystem

    reader = reader or FileSystem()
    project = load(find(call, reader), reader)
    warn(project.warnings)
    enable_services(project, services or [])
    check_active(project)
    return project


def warn(messages: list[str]) -> None:
    """Warnings on stderr."""
    for message in messages:
        print(f"WARNING: {message}", file=sys.stderr)
