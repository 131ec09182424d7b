"""`run` and `create`."""

from __future__ import annotations

import os
import sys

from buildtool.cli.container_config import container_body
from buildtool.client import ConnectionLost, EngineError
from buildtool.errors import BuildtoolError, DaemonUnreachable, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from buildtool.cli.call import Call
    from buildtool.client import Client

_GONE = (404, 409)  # removed, or being removed
_PULL_CHOICES = ("always", "missing", "never")


def run(call: Call) -> int:
    """Create a container, attach to it, start it, and end with its exit code."""
    return _guarded(call, _run)


def create(call: Call) -> int:
    """Create a container and print its id."""
    return _guarded(call, _create_only)


def exit_code_of(message: str) -> int:
    """The exit code that a start failure stands for: 127 not found, 126 not executable, else 125."""
    if any(text in message for text in ("executable file not found", "no such file or directory")):
        return 127
    if any(text in message for text in ("permission denied", "is a directory", "exec format error")):
        return 126
    return 125


def _guarded(call: Call, work: Callable[[Call], int]) -> int:
    try:
        return work(call)
    except (EngineError, DaemonUnreachable, ConnectionLost, InvalidInput) as error:
        prefix = "Error response from daemon: " if isinstance(error, EngineError) else ""
        sys.stdout.flush()
        print(f"buildtool: {prefix}{error}\n\nRun '{call.name} --help' for more information", file=sys.stderr)
        return exit_code_of(error.message) if isinstance(error, EngineError) else 125
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"buildtool: {error.filename or 'run'}: {error.strerror or error}", file=sys.stderr)
        return 125


def _create_only(call: Call) -> int:
    print(create_container(call, container_body(call)))
    return 0


def create_container(call: Call, body: dict[str, Any]) -> str:
    """POST /containers/create by the flags; the image is pulled when it is missing and `--pull` allows it."""
    client, image = call.client, call.arguments[0]
    policy = call.text("pull")
    if policy not in _PULL_CHOICES:
        raise InvalidInput(f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"')
    cidfile = call.text("cidfile")
    if cidfile and os.path.exists(cidfile):
        raise InvalidInput(
            f"container ID file found, make sure the other container isn't running or delete {cidfile}"
        )
    if policy == "always":
        _pull(call, image)
    files = None
    if call.switch("use-api-socket"):
        from buildtool.cli.api_socket import lend

        files = lend(call, body)
    query = {"name": call.text("name") or None, "platform": call.text("platform") or None}
    try:
        answer = client.post("/containers/create", query, body)
    except EngineError as error:
        if error.status != 404 or policy != "missing" or "no such image" not in error.message.lower():
            raise
        print(f"Unable to find image '{_with_tag(image)}' locally", file=sys.stderr)
        _pull(call, image)
        answer = client.post("/containers/create", query, body)
    for warning in answer.get("Warnings") or ():
        print(f"WARNING: {warning}", file=sys.stderr)
    identifier: str = answer["Id"]
    if files is not None:
        client.call("PUT", f"/containers/{identifier}/archive", {"path": "/"}, body=files).read()
    if cidfile:
        with open(cidfile, "x", encoding="ascii") as file:
            file.write(identifier)
    return identifier


def _with_tag(image: str) -> str:
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


def _pull(call: Call, image: str) -> None:
    from buildtool.cli.handlers.registry import pull_image

    pull_image(call.client, image, call.text("platform"), quiet=call.switch("quiet"), out=sys.stderr)


def _run(call: Call) -> int:
    detach = call.switch("detach")
    if detach and call.texts("attach"):
        raise InvalidInput("conflicting options: cannot specify both --attach and --detach")
    body = container_body(call, detach=detach)
    if detach:
        identifier = create_container(call, body)
        call.client.call("POST", f"/containers/{identifier}/start").read()
        print(identifier)
        return 0
    return _run_attached(call, body)


def _run_attached(call: Call, body: dict[str, Any]) -> int:
    from buildtool.cli.attached import Attached, console_size, detach_keys, refuse_without_terminal

    tty, stdin = body["Tty"], body["AttachStdin"]
    if not refuse_without_terminal(tty, stdin):
        return 1
    if tty:
        body["HostConfig"]["ConsoleSize"] = list(console_size())
    keys = detach_keys(call.text("detach-keys"))
    client = call.client
    identifier = create_container(call, body)
    attached = Attached(client, identifier, tty=tty, keys=keys)
    if body["AttachStdin"] or body["AttachStdout"] or body["AttachStderr"]:
        attached.attach(stdin=stdin, stdout=body["AttachStdout"], stderr=body["AttachStderr"])
    attached.begin_wait("removed" if call.switch("rm") else "next-exit")
    try:
        return attached.run(start=True, pass_signals=call.switch("sig-proxy"))
    except EngineError:
        attached.close()
        if not call.switch("rm"):
            raise
        _forget(client, identifier)
        raise


def _forget(client: Client, identifier: str) -> None:
    """Remove a container that never started; the daemon may already have done so for `--rm`."""
    try:
        client.call("DELETE", f"/containers/{identifier}", {"v": True, "force": True}).read()
    except BuildtoolError as error:  # the start's own error is told by who called
        if not isinstance(error, EngineError) or error.status not in _GONE:
            sys.stderr.write(f"WARNING: the container {identifier[:12]} is still there: {error.message}\n")
