"""`start`: stopped containers, in the background or attached to one of them."""

from __future__ import annotations

import sys

from buildtool.cli.handlers.many import failures
from buildtool.client import EngineError
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call


def start(call: Call) -> int:
    """Start containers; with -a or -i one of them, and end with its exit code."""
    if call.switch("attach") or call.switch("interactive"):
        if len(call.arguments) > 1:
            raise InvalidInput("you cannot start and attach multiple containers at once")
        return _start_attached(call, call.arguments[0])
    failed = failures(call.arguments, lambda name: call.client.call("POST", f"/containers/{name}/start").read())
    if failed:
        sys.stdout.flush()
        print(f"Error: failed to start containers: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _start_attached(call: Call, name: str) -> int:
    from buildtool.cli.attached import Attached, detach_keys, refuse_without_terminal

    client = call.client
    details = client.get(f"/containers/{name}/json")
    config, identifier = details["Config"], details["Id"]
    stdin = call.switch("interactive") and config.get("OpenStdin", False)
    if not refuse_without_terminal(config["Tty"], stdin):
        return 1
    attached = Attached(client, identifier, tty=config["Tty"], keys=detach_keys(call.text("detach-keys")))
    attached.attach(stdin=stdin, stdout=True, stderr=True)
    removes_itself = (details.get("HostConfig") or {}).get("AutoRemove")
    attached.begin_wait("removed" if removes_itself else "next-exit")
    try:
        return attached.run(start=True, pass_signals=True)
    except EngineError:
        attached.close()
        raise
