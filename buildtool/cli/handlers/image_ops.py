"""`tag`, `rmi`, `save`, `load`, `import`."""

from __future__ import annotations

import sys

from buildtool.cli.archives import check_output, open_input, read_parts, refuse_terminal, write_stream
from buildtool.cli.handlers.commit import split_name
from buildtool.cli.progress import show_json_stream
from buildtool.client import EngineError, quote_path
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call

_TAR = {"Content-Type": "application/x-tar"}


def tag(call: Call) -> int:
    """Give an image a further name."""
    source, target = call.arguments
    repository, name = split_name(target)
    call.client.call("POST", f"/images/{quote_path(source)}/tag", {"repo": repository, "tag": name or None}).read()
    return 0


def rmi(call: Call) -> int:
    """Remove images; the names and ids that are gone are printed."""
    force = call.switch("force")
    query = {"force": force, "noprune": call.switch("no-prune")}
    code = 0
    for name in call.arguments:
        try:
            gone = call.client.delete(f"/images/{quote_path(name)}", query)
        except EngineError as error:
            sys.stdout.flush()
            print(f"Error response from daemon: {error}", file=sys.stderr)
            if not (force and error.status == 404):
                code = 1
            continue
        for entry in gone or ():
            for what in ("Untagged", "Deleted"):
                if entry.get(what):
                    print(f"{what}: {entry[what]}")
    return code


def save(call: Call) -> int:
    """Write images to an archive."""
    path = call.text("output")
    if path:
        check_output(path)
    else:
        refuse_terminal("image")
    query = {"names": call.arguments, "platform": call.text("platform") or None}
    return write_stream(call.client.call("GET", "/images/get", query), path, "image")


def load(call: Call) -> int:
    """Read images from an archive."""
    if not call.text("input") and sys.stdin.isatty():
        raise InvalidInput("requested load from stdin, but stdin is empty", hint="Name the archive: -i FILE.")
    quiet = call.switch("quiet") or not sys.stdout.isatty()
    with open_input(call.text("input")) as file:
        query = {"quiet": "1" if quiet else "0", "platform": call.text("platform") or None}
        response = call.client.call("POST", "/images/load", query, body=read_parts(file), headers=_TAR)
        show_json_stream(response, sys.stdout)
    return 0


def import_(call: Call) -> int:
    """Make an image of a file system's archive and print its id."""
    source = call.arguments[0]
    elsewhere = source.startswith(("http://", "https://"))  # the daemon fetches it
    repository, name = split_name(call.arguments[1]) if len(call.arguments) > 1 else ("", "")
    query = {
        "fromSrc": source if elsewhere else "-",
        "repo": repository or None,
        "tag": name or None,
        "message": call.text("message") or None,
        "changes": call.texts("change"),
        "platform": call.text("platform") or None,
    }
    if elsewhere:
        show_json_stream(call.client.call("POST", "/images/create", query), sys.stdout)
        return 0
    with open_input(source) as file:
        response = call.client.call("POST", "/images/create", query, body=read_parts(file), headers=_TAR)
        show_json_stream(response, sys.stdout)
    return 0
