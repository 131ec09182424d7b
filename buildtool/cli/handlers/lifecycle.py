"""`stop`, `restart`, `kill`, `rm`, `pause`, `unpause`, `rename`, `wait`, `update`."""

from __future__ import annotations

import sys

from buildtool.cli.container_resources import restart_policy, updatable_resources
from buildtool.cli.handlers.many import for_each
from buildtool.client import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call


def _post_each(call: Call, action: str, query: dict[str, Any] | None = None) -> int:
    return for_each(
        call.arguments, lambda name: call.client.call("POST", f"/containers/{name}/{action}", query).read()
    )


def _stop_query(call: Call) -> dict[str, Any]:
    seconds = call.number("timeout") if call.given("timeout") else call.number("time")
    return {"t": seconds, "signal": call.text("signal") or None}


def stop(call: Call) -> int:
    """Stop containers."""
    return _post_each(call, "stop", _stop_query(call))


def restart(call: Call) -> int:
    """Stop and start containers."""
    return _post_each(call, "restart", _stop_query(call))


def kill(call: Call) -> int:
    """Send a signal, SIGKILL when none is named."""
    return _post_each(call, "kill", {"signal": call.text("signal") or None})


def pause(call: Call) -> int:
    """Freeze containers."""
    return _post_each(call, "pause")


def unpause(call: Call) -> int:
    """Let frozen containers go on."""
    return _post_each(call, "unpause")


def rm(call: Call) -> int:
    """Remove containers; with --force one that is not there is no failure."""
    force = call.switch("force")
    query = {"force": force, "v": call.switch("volumes"), "link": call.switch("link")}

    def remove(name: str) -> None:
        call.client.call("DELETE", f"/containers/{name.strip('/')}", query).read()

    return for_each(call.arguments, remove, tolerate=lambda error: force and error.status == 404)


def rename(call: Call) -> int:
    """Give a container another name."""
    old, new = call.arguments
    call.client.call("POST", f"/containers/{old}/rename", {"name": new}).read()
    return 0


def wait(call: Call) -> int:
    """Wait until containers stop, and print their exit codes."""
    code = 0
    for name in call.arguments:
        try:
            answer = call.client.post(f"/containers/{name}/wait")
            print(answer["StatusCode"], flush=True)
        except EngineError as error:
            sys.stdout.flush()
            print(f"Error response from daemon: {error}", file=sys.stderr)
            code = 1
    return code


def update(call: Call) -> int:
    """Change limits and restart policies of containers."""
    body: dict[str, Any] = updatable_resources(call)
    if call.given("restart"):
        body["RestartPolicy"] = restart_policy(call.text("restart"))
    warnings: list[str] = []

    def change(name: str) -> None:
        answer = call.client.post(f"/containers/{name}/update", None, body)
        warnings.extend((answer or {}).get("Warnings") or ())

    code = for_each(call.arguments, change)
    for warning in warnings:
        print(warning, file=sys.stderr)
    return code
