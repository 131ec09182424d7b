"""Waiting for containers: until they run, are healthy, or have ended well."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from buildtool.errors import BuildtoolError
from buildtool.stacks.engine import Engine
from buildtool.stacks.report import Report

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5


class DependencyFailed(BuildtoolError):
    """A service that another waits for cannot fulfil the condition any more."""


class WaitTimedOut(BuildtoolError):
    """The containers did not become what is waited for in time."""


Test = Callable[[str, dict[str, Any]], str]
"""From a container's name and details to its state in words, "" while it is not reached."""


def started(name: str, details: dict[str, Any]) -> str:
    """It runs, or has run."""
    return "Started" if details["State"]["Status"] not in ("created", "removing") else ""


def healthy(name: str, details: dict[str, Any]) -> str:
    """Its health check says so. Raises DependencyFailed when it has none, runs and is unhealthy, or has ended."""
    state = details["State"]
    if state["Status"] in ("exited", "dead"):
        raise DependencyFailed(f"container {name} exited ({state.get('ExitCode', 0)})")
    health = state.get("Health")
    if not health or health.get("Status") in ("", "none", None):
        raise DependencyFailed(
            f"container {name} has no healthcheck configured",
            hint="Give the service a healthcheck, or wait for service_started.",
        )
    if state["Status"] == "restarting":
        return ""  # what has ended counts as unhealthy until it runs again (moby, Health.CloseMonitorChannel)
    if health["Status"] == "unhealthy":
        last = (health.get("Log") or [{}])[-1]
        shown = str(last.get("Output") or "").strip()
        raise DependencyFailed(f"container {name} is unhealthy", hint=f"Its check says: {shown}" if shown else "")
    return "Healthy" if health["Status"] == "healthy" else ""


def completed(name: str, details: dict[str, Any]) -> str:
    """It has ended with 0. Raises DependencyFailed for another exit code."""
    state = details["State"]
    if state["Status"] not in ("exited", "dead"):
        return ""
    if state.get("ExitCode"):
        raise DependencyFailed(f"container {name} didn't complete successfully: exit {state['ExitCode']}")
    return "Exited"


def running_or_healthy(name: str, details: dict[str, Any]) -> str:
    """`up --wait`: it is healthy, runs when it has no check, or has ended with 0 and is not to be restarted."""
    state = details["State"]
    policy = (details["HostConfig"].get("RestartPolicy") or {}).get("Name") or "no"
    if state["Status"] in ("exited", "dead") and policy in ("no", "on-failure"):
        return completed(name, details)
    health = state.get("Health")
    if health and health.get("Status") not in ("", "none", None):
        return healthy(name, details)
    return "Healthy" if state["Status"] == "running" else ""


CONDITIONS: dict[str, Test] = {
    "service_started": started,
    "service_healthy": healthy,
    "service_completed_successfully": completed,
}


def wait_for(
    engine: Engine,
    containers: Sequence[tuple[str, str]],
    test: Test,
    report: Report,
    *,
    deadline: float | None = None,
) -> None:
    """Return when every container (id and name) passes. Raises DependencyFailed, WaitTimedOut.

    All are looked at in turn: one that cannot pass any more is told at once, however long others take.
    """
    pending = [] if engine.dry else list(containers)
    pause, told = _FIRST_PAUSE, dict[str, str]()
    while pending:
        waiting = [item for item in pending if not _passes(engine, *item, test, report, told)]
        if waiting and deadline is not None and time.monotonic() > deadline:
            identifier, name = waiting[0]
            raise WaitTimedOut(f"application not healthy after timeout: container {name} is {told[identifier]}")
        if len(waiting) < len(pending):
            pause = _FIRST_PAUSE
        pending = waiting
        if pending:
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)


def _passes(engine: Engine, identifier: str, name: str, test: Test, report: Report, told: dict[str, str]) -> bool:
    """Whether the container passes now; what it is instead is reported when that is news."""
    details = engine.find(f"/containers/{identifier}/json")
    if details is None:
        raise DependencyFailed(f"container {name} was removed while it was waited for")
    try:
        word = test(name, details)
    except DependencyFailed:
        report.state("Container", name, "Error")
        raise
    if word:
        report.state("Container", name, word)
        return True
    health = (details["State"].get("Health") or {}).get("Status") or details["State"]["Status"]
    if health != told.get(identifier):
        report.state("Container", name, "Waiting", health)
        told[identifier] = health
    return False
