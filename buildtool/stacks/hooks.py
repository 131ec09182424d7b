"""`post_start` and `pre_stop`: commands inside a container after its start and before its stop."""

from __future__ import annotations

import time
from typing import Any

from buildtool.client import Demultiplexer, EngineError
from buildtool.errors import BuildtoolError
from buildtool.stacks.engine import Engine


class HookFailed(BuildtoolError):
    """A hook ended with another exit code than 0, or could not be executed."""


def run_hooks(engine: Engine, identifier: str, name: str, hooks: list[dict[str, Any]], kind: str) -> None:
    """Run the hooks one after the other. Raises HookFailed with the last output of the one that failed."""
    for hook in hooks if not engine.dry else ():
        document = {
            "AttachStdout": True,
            "AttachStderr": True,
            "Cmd": list(hook["command"]),
            "User": hook.get("user") or "",
            "Privileged": bool(hook.get("privileged")),
            "WorkingDir": hook.get("working_dir") or "",
            "Env": [f"{key}={value}" for key, value in (hook.get("environment") or {}).items() if value is not None],
        }
        try:
            exec_id = engine.post(f"/containers/{identifier}/exec", None, document)["Id"]
            output = _run(engine, exec_id)
            code = _exit_code(engine, exec_id)
        except EngineError as error:
            raise HookFailed(f"{kind} hook of {name} cannot be executed: {error.message}") from error
        if code:
            shown = output[-2000:].decode("utf-8", "replace").strip()
            raise HookFailed(f"{kind} hook of {name} exited with status code {code}", hint=shown)


def _run(engine: Engine, exec_id: str) -> bytes:
    stream = engine.client.hijack(f"/exec/{exec_id}/start", None, {"Detach": False, "Tty": False})
    demultiplexer, output = Demultiplexer(), b""
    while data := stream.receive():
        for _, payload in demultiplexer.feed(data):
            output += payload
    stream.close()
    return output


def _exit_code(engine: Engine, exec_id: str) -> int:
    while True:
        details = engine.get(f"/exec/{exec_id}/json")
        if not details.get("Running"):
            return int(details.get("ExitCode") or 0)
        time.sleep(0.01)
