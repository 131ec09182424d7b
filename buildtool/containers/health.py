"""Healthchecks: run the probe at its intervals, keep the last five results, tell when the state changes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from buildtool.containers import times
from buildtool.containers.container import Container
from buildtool.containers.model import Health, HealthResult
from buildtool.errors import BuildtoolError
from buildtool.oci import HealthConfig

if TYPE_CHECKING:
    from buildtool.runtime import ExecTask, Task

KEPT = 5
OUTPUT = 4096
_INTERVAL, _TIMEOUT, _START_INTERVAL = 30 * times.SECOND, 30 * times.SECOND, 5 * times.SECOND
_RETRIES = 3
# A label that people know from a side car which does the same (willfarrell/autoheal).
HEALED = "autoheal"

StartProbe = Callable[[Container, "Task", list[str]], Awaitable["ExecTask"]]


class Prober:
    """Runs probes; `start_probe` starts a command in the container, `changed` is told of a new state or result."""

    def __init__(self, start_probe: StartProbe, changed: Callable[[Container, bool], None]) -> None:
        self._start_probe = start_probe
        self._changed = changed

    @staticmethod
    def wanted(container: Container) -> bool:
        """Whether the container has a healthcheck."""
        check = container.config.healthcheck
        test = check.test if check is not None else None
        return bool(test) and test is not None and test[0] not in ("", "NONE")

    @staticmethod
    def heals(container: Container) -> bool:
        """Whether the container is to be restarted when it becomes unhealthy."""
        return (container.config.labels or {}).get(HEALED) == "true"

    async def run(self, container: Container, task: Task) -> None:
        """Probe until cancelled."""
        check = container.config.healthcheck
        if check is None:
            return
        command = probe_command(check, container.config.shell)
        while True:
            health = container.state.health or Health()
            in_start = times.now() - container.state.started_at < check.start_period
            await asyncio.sleep(interval(check, health, in_start_period=in_start) / times.SECOND)
            if container.state.paused:
                continue
            result = await self._probe(container, task, command, check.timeout or _TIMEOUT)
            health = container.state.health or Health()
            before = health.status
            container.state.health = after_probe(health, result, check, container.state.started_at)
            self._changed(container, container.state.health.status != before)

    async def _probe(self, container: Container, task: Task, command: list[str], timeout: int) -> HealthResult:
        start = times.now()
        output = bytearray()
        try:
            process = await self._start_probe(container, task, command)
        except (BuildtoolError, OSError) as error:
            code = error.exit_code if isinstance(error, BuildtoolError) else -1
            return HealthResult(start, times.now(), code, str(error))
        try:
            async with asyncio.timeout(timeout / times.SECOND):
                code = await _finish(process, output)
        except TimeoutError:
            await process.signal(signal.SIGKILL)
            text = f"Health check exceeded timeout ({times.go_duration(timeout)})"
            return HealthResult(start, times.now(), -1, f"{text}: {_text(output)}" if output else text)
        return HealthResult(start, times.now(), code, _text(output))


def probe_command(check: HealthConfig, shell: list[str] | None) -> list[str]:
    """The probe as an argument vector."""
    test = check.test or []
    if test[0] == "CMD-SHELL":
        return [*(shell or ["/bin/sh", "-c"]), *test[1:2]]
    return test[1:]


def interval(check: HealthConfig, health: Health, *, in_start_period: bool) -> int:
    """Nanoseconds until the next probe."""
    if in_start_period and health.status == "starting":
        return check.start_interval or _START_INTERVAL
    return check.interval or _INTERVAL


def after_probe(health: Health, result: HealthResult, check: HealthConfig, started_at: int) -> Health:
    """The state after one more result. Failures in the start period do not count before the first success."""
    log = [*health.log, result][-KEPT:]
    if result.exit_code == 0:
        return Health("healthy", 0, log)
    streak, status = health.failing_streak, health.status
    if not (status == "starting" and result.start - started_at < check.start_period):
        streak += 1
        if streak >= (check.retries or _RETRIES):
            status = "unhealthy"
    return Health(status, streak, log)


async def _finish(process: ExecTask, output: bytearray) -> int:
    """Collect the probe's output (frames' headers removed) up to the limit, and its exit code."""
    async with await process.attach(stdin=False, stdout=True, stderr=True) as stream:
        await process.start()
        pending = b""
        while block := await stream.read():
            pending += block
            while len(pending) >= 8 and len(pending) >= 8 + (size := int.from_bytes(pending[4:8], "big")):
                output += pending[8 : 8 + size]
                pending = pending[8 + size :]
            del output[OUTPUT + 1 :]
    status = await process.wait()
    return status.code


def _text(output: bytearray) -> str:
    return output[:OUTPUT].decode("utf-8", "replace")
