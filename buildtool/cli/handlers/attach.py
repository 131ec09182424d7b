"""`attach`: the terminal's streams to a running container."""

from __future__ import annotations

from buildtool.cli.attached import Attached, detach_keys, refuse_without_terminal
from buildtool.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call


def attach(call: Call) -> int:
    """Attach, and end with the container's exit code; 0 when the user detached."""
    client = call.client
    details = client.get(f"/containers/{call.arguments[0]}/json")
    state, config = details["State"], details["Config"]
    if not state.get("Running"):
        raise Conflict("cannot attach to a stopped container, start it first")
    if state.get("Paused"):
        raise Conflict("cannot attach to a paused container, unpause it first")
    if state.get("Restarting"):
        raise Conflict("cannot attach to a restarting container, wait until it is running")
    stdin = not call.switch("no-stdin") and config.get("OpenStdin", False)
    if not refuse_without_terminal(config["Tty"], stdin):
        return 1
    attached = Attached(client, details["Id"], tty=config["Tty"], keys=detach_keys(call.text("detach-keys")))
    attached.begin_wait()
    attached.attach(stdin=stdin, stdout=True, stderr=True)
    return attached.run(start=False, pass_signals=call.switch("sig-proxy"))
