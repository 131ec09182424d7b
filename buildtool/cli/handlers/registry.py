"""`pull`, `push`, `login`, `logout`, `search`: the daemon talks to registries, the client shows how it goes."""

from __future__ import annotations

import sys

from buildtool.cli.progress import show_json_stream
from buildtool.client import EngineError
from buildtool.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from buildtool.cli.call import Call
    from buildtool.client import Client

_NOT_YET = "this version of buildtool has no registry client yet: it comes with its own release"
_INSTEAD = (
    "Until then, bring images in with `buildtool load` or `buildtool import`, or make a base image with\n"
    "`buildtool image bootstrap busybox` or `buildtool image bootstrap debian:SUITE`."
)


def pull(call: Call) -> int:
    """Download an image."""
    name = call.arguments[0]
    if call.switch("all-tags"):
        raise Unavailable(f"cannot pull all tags of {name}: {_NOT_YET}", hint=_INSTEAD)
    pull_image(call.client, name, call.text("platform"), quiet=call.switch("quiet"), out=sys.stdout)
    print(name if "/" in name else f"docker.io/library/{name}")
    return 0


def pull_image(client: Client, name: str, platform: str, *, quiet: bool, out: TextIO) -> None:
    """POST /images/create, progress on `out`. Raises EngineError, or Unavailable when the daemon cannot pull."""
    repository, tag = name, ""
    if "@" not in name:
        head, colon, last = name.rpartition(":")
        repository, tag = (head, last) if colon and "/" not in last else (name, "latest")
    else:
        repository, _, tag = name.partition("@")
    query = {"fromImage": repository, "tag": tag, "platform": platform or None}
    try:
        response = client.call("POST", "/images/create", query, body=b"")
    except EngineError as error:
        if error.status != 501:
            raise
        raise Unavailable(f"cannot pull {name}: {_NOT_YET}", hint=_INSTEAD) from error
    show_json_stream(response, out, quiet=quiet)


def push(call: Call) -> int:
    """Refused for now, in words that help."""
    raise Unavailable(
        f"cannot push {call.arguments[0]}: {_NOT_YET}", hint="Until then, `buildtool save` writes an archive."
    )


def login(call: Call) -> int:
    """Refused for now, in words that help."""
    raise Unavailable(f"cannot log in: {_NOT_YET}")


def logout(call: Call) -> int:
    """Refused for now, in words that help."""
    raise Unavailable(f"cannot log out: {_NOT_YET}")


def search(call: Call) -> int:
    """Refused for now, in words that help."""
    raise Unavailable(f"cannot search for {call.arguments[0]}: {_NOT_YET}")
