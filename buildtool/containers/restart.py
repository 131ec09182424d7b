"""Restart policies as a pure state machine: an exit goes in, what to do comes out.

Source: Docker's documented policies and back-off: 100 ms, doubling to one minute, reset by ten seconds of running.
"""

from __future__ import annotations

from dataclasses import dataclass

from buildtool.containers.times import SECOND
from buildtool.errors import InvalidInput

FIRST_DELAY = 0.1
LONGEST_DELAY = 60.0
STEADY_AFTER = 10 * SECOND
POLICIES = ("no", "always", "on-failure", "unless-stopped")


def check_policy(name: str, maximum_retry_count: int) -> None:
    """Raises InvalidInput with Docker's texts."""
    if name not in ("", *POLICIES):
        raise InvalidInput(
            f"invalid restart policy: unknown policy '{name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if maximum_retry_count < 0:
        raise InvalidInput("invalid restart policy: maximum retry count cannot be negative")
    if maximum_retry_count and name != "on-failure":
        raise InvalidInput("invalid restart policy: maximum retry count can only be used with 'on-failure'")


@dataclass(slots=True)
class RestartPolicy:
    """Decides after each exit whether the container starts again, and after how long."""

    name: str = "no"
    maximum_retry_count: int = 0
    delay: float = 0.0
    restarts: int = 0
    cancelled: bool = False

    def after_exit(self, exit_code: int, ran_for: int, *, manually_stopped: bool) -> float | None:
        """Seconds to wait before the next start, None when the container stays as it is.

        `ran_for` is in nanoseconds. Counts the restart when there is one.
        """
        if self.cancelled or self.name in ("", "no"):
            return None
        if ran_for >= STEADY_AFTER:
            self.delay = 0.0
        self.delay = min(LONGEST_DELAY, self.delay * 2) if self.delay else FIRST_DELAY
        again = (
            self.name == "always"
            or (self.name == "unless-stopped" and not manually_stopped)
            or (self.name == "on-failure" and exit_code != 0 and self._retries_left())
        )
        if not again:
            return None
        self.restarts += 1
        return self.delay

    def after_daemon_start(self, exit_code: int, *, started_before: bool, manually_stopped: bool) -> bool:
        """Whether a container that does not run is started when the daemon starts."""
        if not started_before:
            return False
        if self.name == "on-failure":
            return exit_code != 0 and not manually_stopped and self._retries_left()
        return self.name == "always" or (self.name == "unless-stopped" and not manually_stopped)

    def rearm(self) -> None:
        """A start by hand: count and delay begin anew."""
        self.delay, self.restarts, self.cancelled = 0.0, 0, False

    def _retries_left(self) -> bool:
        return self.maximum_retry_count == 0 or self.restarts < self.maximum_retry_count
