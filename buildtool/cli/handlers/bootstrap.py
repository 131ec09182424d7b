"""`image bootstrap`: a base image out of Debian's packages; the daemon makes it (docs/api.md)."""

from __future__ import annotations

import sys

from buildtool.cli.progress import show_json_stream
from buildtool.client import EngineError
from buildtool.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call


def bootstrap(call: Call) -> int:
    """Show the progress on stderr and print the image's id."""
    base = call.arguments[0]
    packages = [name for item in call.texts("include") for name in item.split(",") if name]
    body = {
        "base": base,
        "include": packages,
        "host_ca": call.switch("host-ca"),
        "tag": call.text("tag"),
        "platform": ",".join(call.texts("platform")),
    }
    try:
        response = call.client.call("POST", "/buildtool/v1/bootstrap", document=body)
    except EngineError as error:
        if error.status != 404:
            raise
        raise Unavailable(
            f"the engine at {call.client.address} makes no base images: it is not buildtool's"
        ) from error
    for made in show_json_stream(response, sys.stderr):
        print(made["ID"])
    return 0
