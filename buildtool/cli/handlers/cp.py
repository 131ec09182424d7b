"""`cp`: files between a container and this machine, with Docker's rules for where they end up."""

from __future__ import annotations

import base64
import json
import os
import sys

from buildtool.cli.archives import read_parts
from buildtool.cli.copying import extract, local_archive
from buildtool.cli.human import decimal_size
from buildtool.client import EngineError
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_MODE_DIRECTORY = 1 << 31
_MODE_SYMLINK = 1 << 27


def cp(call: Call) -> int:
    """Copy from a container, or into one; `-` is a tar stream on STDOUT or STDIN."""
    source, target = (_split(argument) for argument in call.arguments)
    if source[0] and target[0]:
        raise InvalidInput("copying between containers is not supported")
    if not source[0] and not target[0]:
        raise InvalidInput("must specify at least one container source")
    if source[0]:
        return _from_container(call, source[0], source[1], target[1])
    return _into_container(call, source[1], target[0], target[1])


def _split(argument: str) -> tuple[str, str]:
    """`container:path`, or a path on this machine (absolute, or beginning with a dot, or without a colon)."""
    if argument.startswith("/"):
        return "", argument
    container, colon, path = argument.partition(":")
    return (container, path) if colon and not container.startswith(".") else ("", argument)


def _stat(call: Call, container: str, path: str) -> dict[str, Any] | None:
    """What the path is inside the container, None when it does not exist."""
    try:
        response = call.client.call("HEAD", f"/containers/{container}/archive", {"path": path})
    except EngineError as error:
        if error.status != 404:
            raise
        # A HEAD answer has no text: ask again for what is missing, the path or the container.
        call.client.get(f"/containers/{container}/json")
        return None
    return _decode_stat(response.headers["x-docker-container-path-stat"])


def _decode_stat(header: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(base64.b64decode(header))
    return document


def _from_container(call: Call, container: str, path: str, target: str) -> int:
    if call.switch("follow-link"):
        found = _stat(call, container, path)
        if found and found["mode"] & _MODE_SYMLINK and found.get("linkTarget"):
            path = os.path.join(os.path.dirname(path), found["linkTarget"])
    response = call.client.call("GET", f"/containers/{container}/archive", {"path": path})
    if target == "-":
        if sys.stdout.isatty():
            raise InvalidInput("cowardly refusing to write an archive to a terminal: redirect it")
        for data in response:
            sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    found = _decode_stat(response.headers["x-docker-container-path-stat"])
    folder, name = _place(
        target, os.path.isdir(target), os.path.lexists(target), bool(found["mode"] & _MODE_DIRECTORY)
    )
    size = extract(response, folder, rename=name, keep_owners=call.switch("archive"))
    _report(call, size, target)
    return 0


def _place(target: str, is_directory: bool, exists: bool, source_is_directory: bool) -> tuple[str, str]:
    """The folder to unpack into, and the name the archive's root gets there ("" = it keeps its own)."""
    if is_directory:
        return target, ""
    if exists and source_is_directory:
        raise InvalidInput(f"cannot copy a directory to {target!r}: it is a file")
    if not source_is_directory and target.endswith(("/", "/.")):
        raise InvalidInput(f"no such directory: {target!r}")
    plain = target.rstrip("/")
    folder = os.path.dirname(plain) or "."
    return folder, os.path.basename(plain)


def _into_container(call: Call, source: str, container: str, target: str) -> int:
    if not target:
        raise InvalidInput("destination path can not be empty")
    target, found = _follow(call, container, target)
    is_directory = bool(found and found["mode"] & _MODE_DIRECTORY)
    query: dict[str, Any] = {"noOverwriteDirNonDir": "true", "copyUIDGID": call.switch("archive")}
    headers = {"Content-Type": "application/x-tar"}
    path = f"/containers/{container}/archive"
    if source == "-":
        if not is_directory:
            raise InvalidInput(f'destination "{container}:{target}" must be a directory')
        call.client.call(
            "PUT", path, query | {"path": target}, body=read_parts(sys.stdin.buffer), headers=headers
        ).read()
        return 0
    if not os.path.lexists(source):
        raise InvalidInput(f"lstat {os.path.abspath(source)}: no such file or directory")
    real = os.path.realpath(source) if call.switch("follow-link") or source.endswith("/") else source
    folder, name = _place(target, is_directory, found is not None, os.path.isdir(real) and not os.path.islink(real))
    contents_only = source.endswith("/.") or source == "."
    name = name or ("." if contents_only else os.path.basename(os.path.abspath(source)))
    sizes: list[int] = []
    body = local_archive(real, name, sizes)
    call.client.call("PUT", path, query | {"path": folder}, body=body, headers=headers).read()
    _report(call, sum(sizes), f"{container}:{target}")
    return 0


def _follow(call: Call, container: str, target: str) -> tuple[str, dict[str, Any] | None]:
    """The target with a symbolic link at its end followed once, as Docker does, and what is there."""
    found = _stat(call, container, target)
    if found and found["mode"] & _MODE_SYMLINK and found.get("linkTarget"):
        target = os.path.join(os.path.dirname(target.rstrip("/")), found["linkTarget"])
        found = _stat(call, container, target)
    return target, found


def _report(call: Call, size: int, target: str) -> None:
    if not call.switch("quiet") and sys.stderr.isatty():
        print(f"Successfully copied {decimal_size(size, 3)} to {target}", file=sys.stderr)
