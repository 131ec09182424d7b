"""`--build-context NAME=VALUE`: what the daemon is told of named contexts."""

from __future__ import annotations

import os

from buildtool.encoding import decode_file
from buildtool.errors import InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LAYOUT = "oci-layout://"


def named_contexts(items: list[str]) -> dict[str, dict[str, Any]]:
    """The request's `contexts`. Raises InvalidInput for what is written wrong, NotFound for a missing directory."""
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name or not equals or not value:
            raise InvalidInput(
                f"invalid --build-context {item!r}: write NAME=VALUE",
                hint="VALUE is PATH, a git or http(s) URL, docker-image://IMAGE, oci-layout://PATH or target:STAGE",
            )
        found[name] = _context(name, value)
    return found


def _context(name: str, value: str) -> dict[str, Any]:
    if value.startswith(_LAYOUT):
        path, _, digest = value.removeprefix(_LAYOUT).partition("@")
        path, _, tag = path.partition(":")
        return {"place": place(_directory(name, path)), "layout": True, "tag": tag, "digest": digest}
    from buildtool.buildfile.remotes import is_remote

    if value.startswith(("docker-image://", "target:")) or is_remote(value):
        return {"url": value}
    if "://" in value:
        raise InvalidInput(f"the context {name}: {value!r} is of no kind that is known")
    directory = _directory(name, value)
    return {"place": place(directory), "ignore": _ignore(directory)}


def _directory(name: str, path: str) -> str:
    if not os.path.isdir(path):
        problem = "is not a directory" if os.path.exists(path) else "not found"
        raise NotFound(f"the context {name}: path {path!r} {problem}")
    return os.path.abspath(path)


def _ignore(directory: str) -> str | None:
    path = os.path.join(directory, ".dockerignore")
    try:
        with open(path, "rb") as file:
            return decode_file(file.read(), path)
    except (FileNotFoundError, IsADirectoryError):
        return None


def place(directory: str) -> dict[str, Any]:
    """A directory with its device and inode: the daemon compares them with what it sees."""
    found = os.stat(directory)
    return {"path": directory, "dev": found.st_dev, "ino": found.st_ino}
