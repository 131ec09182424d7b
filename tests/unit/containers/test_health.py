from __future__ import annotations

import asyncio

from buildtool.containers.health import OUTPUT, after_probe, interval, probe_command
from buildtool.containers.model import Health, HealthResult
from buildtool.containers.times import SECOND
from buildtool.oci import HealthConfig
from tests.unit.containers.conftest import World

MS = 1_000_000


def _result(code: int, at: int = 0) -> HealthResult:
    return HealthResult(at, at + 1, code, "")


def test_failures_count_up_to_unhealthy_and_one_success_heals() -> None:
    check = HealthConfig(test=["CMD", "x"], retries=2)
    health = after_probe(Health(), _result(1, 10), check, 0)
    assert (health.status, health.failing_streak) == ("starting", 1)
    health = after_probe(health, _result(1, 20), check, 0)
    assert (health.status, health.failing_streak) == ("unhealthy", 2)
    health = after_probe(health, _result(0, 30), check, 0)
    assert (health.status, health.failing_streak) == ("healthy", 0)


def test_failures_in_the_start_period_do_not_count() -> None:
    check = HealthConfig(test=["CMD", "x"], retries=1, start_period=SECOND)
    assert after_probe(Health(), _result(1, SECOND // 2), check, 0).failing_streak == 0
    assert after_probe(Health(), _result(1, 2 * SECOND), check, 0).status == "unhealthy"


def test_only_five_results_are_kept() -> None:
    health = Health()
    for number in range(8):
        health = after_probe(health, _result(0, number), HealthConfig(), 0)
    assert [result.start for result in health.log] == [3, 4, 5, 6, 7]


def test_intervals() -> None:
    check = HealthConfig(start_interval=2 * SECOND, interval=7 * SECOND)
    assert interval(check, Health(), in_start_period=True) == 2 * SECOND
    assert interval(check, Health("healthy"), in_start_period=True) == 7 * SECOND
    assert interval(HealthConfig(), Health(), in_start_period=False) == 30 * SECOND


def test_commands_of_probes() -> None:
    assert probe_command(HealthConfig(test=["CMD", "a", "b"]), None) == ["a", "b"]
    assert probe_command(HealthConfig(test=["CMD-SHELL", "a b"]), None) == ["/bin/sh", "-c", "a b"]
    assert probe_command(HealthConfig(test=["CMD-SHELL", "a"]), ["/bin/bash", "-c"]) == ["/bin/bash", "-c", "a"]


async def _wait_for(world: World, identity: str, status: str) -> dict[str, object]:
    async with asyncio.timeout(10):
        while True:
            health: dict[str, object] = (await world.containers.inspect(identity))["State"]["Health"]
            if health["Status"] == status:
                return health
            await asyncio.sleep(0.02)


async def test_a_container_becomes_healthy_then_unhealthy(world: World) -> None:
    check = {"Test": ["CMD-SHELL", "echo looked; test -e /ok"], "Interval": 50 * MS, "Retries": 2}
    identity = await world.create("sh", "-c", "touch /ok; sleep 0.5; rm /ok; sleep 60", Healthcheck=check)
    await world.containers.start(identity)
    assert (await world.containers.inspect(identity))["State"]["Health"]["Status"] == "starting"
    await _wait_for(world, identity, "healthy")
    assert "healthy" in (await world.containers.list())[0]["Status"]
    health = await _wait_for(world, identity, "unhealthy")
    assert isinstance(health["Log"], list)
    assert health["Log"][-1]["Output"] == "looked\n"
    assert [a for a in world.seen() if a.startswith("health")] == [
        "health_status: healthy",
        "health_status: unhealthy",
    ]


async def test_a_probe_that_hangs_or_talks_too_much_is_cut(world: World) -> None:
    check = {
        "Test": ["CMD-SHELL", "yes | head -c 100000; sleep 9"],
        "Interval": 20 * MS,
        "Timeout": 200 * MS,
        "Retries": 1,
    }
    identity = await world.create("sleep", "60", Healthcheck=check)
    await world.containers.start(identity)
    health = await _wait_for(world, identity, "unhealthy")
    assert isinstance(health["Log"], list)
    entry = health["Log"][-1]
    assert entry["ExitCode"] == -1
    assert entry["Output"].startswith("Health check exceeded timeout (200ms): y\ny\n")
    assert len(entry["Output"]) <= OUTPUT + 60


async def test_a_probe_that_cannot_run_is_a_failure(world: World) -> None:
    identity = await world.create(
        "sleep", "60", Healthcheck={"Test": ["CMD", "nope"], "Interval": 20 * MS, "Retries": 1}
    )
    await world.containers.start(identity)
    health = await _wait_for(world, identity, "unhealthy")
    assert isinstance(health["Log"], list)
    assert "executable file not found" in health["Log"][0]["Output"]


async def test_an_unhealthy_container_with_the_label_is_restarted(world: World) -> None:
    """moby leaves it unhealthy for ever; people run a side car for this, which goes by the same label."""
    check = {"Test": ["CMD", "test", "-e", "/once"], "Interval": 20 * MS, "Retries": 1}
    command = ("sh", "-c", "test -e /was || { touch /was; exec sleep 60; }; touch /once; exec sleep 60")
    identity = await world.create(*command, Healthcheck=check, Labels={"autoheal": "true"}, StopSignal="KILL")
    await world.containers.start(identity)
    await _wait_for(world, identity, "healthy")
    seen = [action for action in world.seen() if action.startswith(("health", "restart"))]
    assert seen == ["health_status: unhealthy", "restart", "health_status: healthy"]
