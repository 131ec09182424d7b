"""Hooks: programs that a bundle has run at points of its container's life, with the state as their input.

`prestart`, `createRuntime`, `poststart` and `poststop` run beside the runtime, `createContainer` in the container's
namespaces before the pivot (so that its path is the host's), `startContainer` within the container, where its program
is about to be executed. Source: OCI runtime-spec v1.2, config.md, "POSIX-platform Hooks".
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from buildtool.runtime.process import OTHER, StartError

Spec = dict[str, Any]
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def check(spec: Spec, path: str) -> None:
    """Raises StartError for hooks that are not as the specification has them."""
    hooks = spec.get("hooks") or {}
    for kind in KINDS:
        for hook in hooks.get(kind) or []:
            if not isinstance(hook, dict) or not str(hook.get("path", "")).startswith("/"):
                raise StartError(OTHER, f"{path}: hooks.{kind}: the path of a hook is absolute")
            timeout = hook.get("timeout")
            if timeout is not None and (not isinstance(timeout, int) or timeout <= 0):
                raise StartError(OTHER, f"{path}: hooks.{kind}: a timeout is a positive number of seconds")


def has(spec: Spec, *kinds: str) -> bool:
    """Whether there are hooks of these kinds."""
    return any((spec.get("hooks") or {}).get(kind) for kind in kinds)


def run(spec: Spec, kinds: tuple[str, ...], state: Spec) -> None:
    """Run hooks one after the other. Raises StartError when one fails; those after it do not run."""
    document = json.dumps(state).encode()
    for kind in kinds:
        for hook in (spec.get("hooks") or {}).get(kind) or []:
            _run(kind, hook, document)


def _run(kind: str, hook: Spec, document: bytes) -> None:
    what = f"error running {kind} hook {hook['path']}"
    try:
        done = subprocess.run(
            hook.get("args") or [hook["path"]],
            executable=hook["path"],
            input=document,
            env=dict(entry.partition("=")[::2] for entry in hook.get("env") or []),
            capture_output=True,
            timeout=hook.get("timeout"),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StartError(OTHER, f"{what}: it was not done after {hook['timeout']} s") from error
    except OSError as error:
        raise StartError(OTHER, f"{what}: {error.strerror or error}") from error
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip()
        raise StartError(OTHER, f"{what}: exit {done.returncode}: {text}")
