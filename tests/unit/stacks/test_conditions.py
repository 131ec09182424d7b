"""What `up --wait` and `depends_on` make of a container's state."""

from __future__ import annotations

from typing import Any

import pytest

from buildtool.stacks.conditions import (
    DependencyFailed,
    WaitTimedOut,
    completed,
    healthy,
    running_or_healthy,
    started,
    wait_for,
)
from buildtool.stacks.engine import Engine
from buildtool.stacks.report import Silent


def details(status: str, health: str = "", *, code: int = 0, restart: str = "no", said: str = "") -> dict[str, Any]:
    state: dict[str, Any] = {"Status": status, "ExitCode": code}
    if health:
        state["Health"] = {"Status": health, "Log": [{"Output": said, "ExitCode": 0 if health == "healthy" else 1}]}
    return {"State": state, "HostConfig": {"RestartPolicy": {"Name": restart}}}


@pytest.mark.parametrize(
    ("test", "state", "word"),
    [
        (started, details("running"), "Started"),
        (started, details("exited"), "Started"),
        (started, details("created"), ""),
        (healthy, details("running", "starting"), ""),
        (healthy, details("running", "healthy"), "Healthy"),
        (completed, details("running"), ""),
        (completed, details("exited"), "Exited"),
        (running_or_healthy, details("running"), "Healthy"),
        (running_or_healthy, details("created"), ""),
        (running_or_healthy, details("restarting", restart="always"), ""),
        (running_or_healthy, details("running", "starting"), ""),
        (running_or_healthy, details("running", "healthy"), "Healthy"),
        (running_or_healthy, details("exited"), "Exited"),
        (running_or_healthy, details("exited", "unhealthy"), "Exited"),
    ],
)
def test_a_state_fulfils_a_condition_or_does_not_yet(test: Any, state: dict[str, Any], word: str) -> None:
    assert test("c", state) == word


@pytest.mark.parametrize("test", [healthy, running_or_healthy])
def test_a_container_between_two_starts_is_not_unhealthy(test: Any) -> None:
    """The engine calls every ended container unhealthy, also one that it is about to start again."""
    assert test("c", details("restarting", "unhealthy", code=137, restart="unless-stopped", said="PONG")) == ""


@pytest.mark.parametrize(
    ("test", "state", "text"),
    [
        (healthy, details("running", "unhealthy", said="no answer"), "container c is unhealthy"),
        (healthy, details("running"), "container c has no healthcheck configured"),
        (healthy, details("exited", "unhealthy", code=3), r"container c exited \(3\)"),
        (completed, details("exited", code=3), "container c didn't complete successfully: exit 3"),
        (running_or_healthy, details("running", "unhealthy"), "container c is unhealthy"),
        (running_or_healthy, details("exited", code=2), "exit 2"),
    ],
)
def test_a_condition_that_cannot_come_about_is_told(test: Any, state: dict[str, Any], text: str) -> None:
    with pytest.raises(DependencyFailed, match=text):
        test("c", state)


def test_the_last_words_of_the_check_are_a_hint() -> None:
    with pytest.raises(DependencyFailed) as caught:
        healthy("c", details("running", "unhealthy", said="no answer\n"))
    assert caught.value.hint == "Its check says: no answer"


class States(Engine):
    """An engine whose containers go through states, one a look; the last one stays."""

    def __init__(self, **states: list[dict[str, Any]]) -> None:
        self.dry = False
        self._states = states

    def find(self, path: str, query: dict[str, Any] | None = None) -> Any:
        states = self._states.get(path.split("/")[2])
        return states and (states.pop(0) if len(states) > 1 else states[0])


STARTING, WELL, ILL = (details("running", health) for health in ("starting", "healthy", "unhealthy"))


def test_waiting_ends_when_all_are_well() -> None:
    engine = States(a=[STARTING, STARTING, WELL], b=[STARTING, WELL])
    wait_for(engine, [("a", "a"), ("b", "b")], running_or_healthy, Silent())


def test_one_that_fails_is_told_while_others_take_their_time() -> None:
    engine = States(slow=[STARTING], ill=[STARTING, ILL])
    with pytest.raises(DependencyFailed, match="container ill is unhealthy"):
        wait_for(engine, [("slow", "slow"), ("ill", "ill")], running_or_healthy, Silent())


def test_waiting_has_an_end() -> None:
    with pytest.raises(WaitTimedOut, match="container slow is starting"):
        wait_for(States(slow=[STARTING]), [("slow", "slow")], running_or_healthy, Silent(), deadline=0.0)
    with pytest.raises(DependencyFailed, match="was removed"):
        wait_for(States(), [("gone", "gone")], running_or_healthy, Silent())
