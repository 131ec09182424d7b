from __future__ import annotations

import pytest

from buildtool.containers.restart import RestartPolicy, check_policy
from buildtool.containers.times import SECOND
from buildtool.errors import InvalidInput


def _exit(policy: RestartPolicy, code: int = 1, ran_for: int = 0, *, manually: bool = False) -> float | None:
    return policy.after_exit(code, ran_for, manually_stopped=manually)


def test_without_a_policy_nothing_restarts() -> None:
    assert _exit(RestartPolicy()) is None


def test_the_delay_doubles_from_100_ms_to_a_minute() -> None:
    policy = RestartPolicy("always")
    delays = [_exit(policy) for _ in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-2:] == [60.0, 60.0]


def test_ten_seconds_of_running_reset_the_delay() -> None:
    policy = RestartPolicy("always")
    for _ in range(5):
        _exit(policy)
    assert _exit(policy, ran_for=10 * SECOND) == 0.1


def test_on_failure_restarts_failures_only_and_so_often() -> None:
    policy = RestartPolicy("on-failure", 2)
    assert _exit(policy, 0) is None
    assert [_exit(policy, 1) is not None for _ in range(3)] == [True, True, False]
    assert policy.restarts == 2


def test_unless_stopped_heeds_a_stop_by_hand() -> None:
    assert _exit(RestartPolicy("unless-stopped"), manually=True) is None
    assert _exit(RestartPolicy("unless-stopped")) is not None


def test_a_cancelled_policy_does_nothing_until_it_is_rearmed() -> None:
    policy = RestartPolicy("always", cancelled=True)
    assert _exit(policy) is None
    policy.rearm()
    assert _exit(policy) == 0.1


@pytest.mark.parametrize(
    ("name", "code", "started", "manually", "again"),
    [
        ("always", 0, True, True, True),
        ("always", 0, False, False, False),
        ("unless-stopped", 0, True, True, False),
        ("unless-stopped", 0, True, False, True),
        ("on-failure", 1, True, False, True),
        ("on-failure", 0, True, False, False),
        ("no", 1, True, False, False),
    ],
)
def test_what_starts_with_the_daemon(name: str, code: int, started: bool, manually: bool, again: bool) -> None:
    policy = RestartPolicy(name)
    assert policy.after_daemon_start(code, started_before=started, manually_stopped=manually) is again


@pytest.mark.parametrize(("name", "count"), [("sometimes", 0), ("always", 3), ("on-failure", -1)])
def test_malformed_policies_are_refused(name: str, count: int) -> None:
    with pytest.raises(InvalidInput, match="invalid restart policy"):
        check_policy(name, count)
