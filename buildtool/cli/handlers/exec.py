"""`exec`: a command in a running container."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack

from buildtool.cli.attached import detach_keys, refuse_without_terminal
from buildtool.cli.handlers.run import exit_code_of
from buildtool.cli.session import Session, SignalPasser, Signals
from buildtool.cli.terminal import RawMode, is_terminal, size
from buildtool.cli.values import environment
from buildtool.client import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call


def execute(call: Call) -> int:
    """Run a command in a container and end with its exit code."""
    container, command = call.arguments[0], call.arguments[1:]
    tty, detach = call.switch("tty"), call.switch("detach")
    stdin = call.switch("interactive") and not detach
    if not refuse_without_terminal(tty and not detach, stdin):
        return 1
    keys = detach_keys(call.text("detach-keys"))
    body: dict[str, Any] = {
        "AttachStdin": stdin,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Tty": tty,
        "Cmd": command,
        "Env": environment(call.texts("env-file"), call.texts("env")),
        "Privileged": call.switch("privileged"),
        "User": call.text("user"),
        "WorkingDir": call.text("workdir"),
        "DetachKeys": call.text("detach-keys"),
    }
    if tty and not detach:
        body["ConsoleSize"] = list(size())
    identifier: str = call.client.post(f"/containers/{container}/exec", None, body)["Id"]
    try:
        return _start(call, identifier, tty=tty, stdin=stdin, detach=detach, keys=keys)
    except EngineError as error:
        code = exit_code_of(error.message)
        if code == 125:
            raise
        print(f"Error response from daemon: {error}", file=sys.stderr)
        return code


def _start(call: Call, identifier: str, *, tty: bool, stdin: bool, detach: bool, keys: bytes) -> int:
    client = call.client
    if detach:
        client.call("POST", f"/exec/{identifier}/start", document={"Detach": True, "Tty": tty}).read()
        return 0

    def resize() -> None:
        rows, columns = size()
        try:
            client.call("POST", f"/exec/{identifier}/resize", {"h": rows, "w": columns}).read()
        except EngineError:
            pass  # it has ended already: there is nothing to resize

    with ExitStack() as stack:
        signals = stack.enter_context(Signals(passing=False, resizing=True)) if tty else None
        stream = client.hijack(f"/exec/{identifier}/start", None, {"Detach": False, "Tty": tty})
        if tty and is_terminal(1):
            resize()
        if tty and stdin:
            stack.enter_context(RawMode(0))
        session = Session(
            stream,
            tty=tty,
            stdin=0 if stdin else -1,
            detach_keys=keys,
            on_signal=SignalPasser(lambda name: None, resize),
            signals=signals,
        )
        if not session.run():
            return 0
    return _exit_code(call, identifier)


def _exit_code(call: Call, identifier: str) -> int:
    """The command's exit code; its streams may have ended a moment (or, if it closed them, long) before itself."""
    pause = 0.002
    while True:
        details = call.client.get(f"/exec/{identifier}/json")
        if not details.get("Running"):
            return int(details.get("ExitCode") or 0)
        time.sleep(pause)
        pause = min(pause * 2, 0.2)
