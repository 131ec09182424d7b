"""Which steps run: by weight, fairly between builds, urgent ones first, no more than --jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from buildtool.errors import InvalidInput
from buildtool.solve.gate import Gate, Share, weight_of
from tests.unit.solve.conftest import Workshop


class Crowd:
    """Steps that wait for places and hold them until they are told to end; `order` is the order they came in."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.inside: set[str] = set()
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def come(self, name: str, share: Share, urgency: float = 0.0, cpu: float = 0.0) -> None:
        async def stay() -> None:
            async with share.place(urgency, cpu):
                self.order.append(name)
                self.inside.add(name)
                await self._ends[name].wait()
                self.inside.discard(name)

        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(stay())
        await settle()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settle()

    async def end_all(self) -> None:
        while any(not task.done() for task in self.tasks.values()):
            for name in list(self.inside):
                await self.end(name)
            await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def law(test: Callable[[Crowd], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test(Crowd()))

    return run


def test_what_weighs_how_much() -> None:
    assert weight_of(0.0, 8) == 1
    assert weight_of(0.01, 8) == 0.25
    assert weight_of(1.0, 8) == 2
    assert weight_of(40.0, 8) == 8


@law
async def test_the_most_urgent_of_a_build_goes_first(crowd: Crowd) -> None:
    share = Gate(1).share()
    await crowd.come("first", share)
    for name, urgency in (("short", 1.0), ("long", 9.0), ("middle", 5.0)):
        await crowd.come(name, share, urgency)
    await crowd.end_all()
    assert crowd.order == ["first", "long", "middle", "short"]


@law
async def test_a_second_build_gets_the_next_place_however_many_wait(crowd: Crowd) -> None:
    gate = Gate(2)
    big, small = gate.share(), gate.share()
    for number in range(6):
        await crowd.come(f"big{number}", big, urgency=100.0)
    await crowd.come("small", small)
    await crowd.end("big0")
    assert crowd.inside == {"big1", "small"}
    await crowd.end_all()


@law
async def test_a_build_has_no_more_than_its_jobs(crowd: Crowd) -> None:
    gate = Gate(8)
    share, other = gate.share(jobs=2), gate.share()
    for number in range(5):
        await crowd.come(f"s{number}", share)
    await crowd.come("other", other)
    assert crowd.inside == {"s0", "s1", "other"}
    await crowd.end("s0")
    assert crowd.inside == {"s1", "s2", "other"}
    await crowd.end_all()


@law
async def test_heavy_steps_take_more_places_and_light_ones_pass_them(crowd: Crowd) -> None:
    share = Gate(4).share()
    await crowd.come("a", share, cpu=1.0)
    await crowd.come("heavy", share, urgency=9.0, cpu=2.0)
    await crowd.come("b", share)
    await crowd.come("light", share, cpu=0.01)
    assert crowd.inside == {"a", "light"}, "b must not keep the heavy one waiting"
    await crowd.end("light")
    await crowd.end("a")
    assert crowd.inside == {"heavy"}
    await crowd.end_all()


@law
async def test_what_weighs_more_than_there_is_runs_alone(crowd: Crowd) -> None:
    share = Gate(2).share()
    await crowd.come("huge", share, cpu=64.0)
    assert crowd.inside == {"huge"}
    await crowd.end_all()


@law
async def test_who_is_cancelled_takes_no_place_along(crowd: Crowd) -> None:
    gate = Gate(1)
    share = gate.share()
    await crowd.come("one", share)
    await crowd.come("gone", share, urgency=9.0)
    await crowd.come("two", share)
    crowd.tasks["gone"].cancel()
    await settle()
    await crowd.end("one")
    assert crowd.inside == {"two"}
    crowd.tasks["two"].cancel()
    await settle()
    assert (gate.used, share.running) == (0, 0)


def test_jobs_of_a_build_and_the_time_steps_waited(shop: Workshop) -> None:
    stages = "".join(f"FROM busybox AS s{n}\nRUN echo {n} > /f{n}; sleep 0.2\n" for n in range(3))
    text = stages + "FROM busybox\n" + "".join(f"COPY --from=s{n} /f{n} /\n" for n in range(3))
    outcome = shop.build(text, jobs=1)
    steps = [step for step in outcome.result.steps if "sleep" in step.name]
    assert sorted(step.waited > 0.15 for step in steps) == [False, True, True]


def test_long_chains_run_before_short_ones_when_their_times_are_known(shop: Workshop) -> None:
    """Whoever comes first finds the place free; from then on the longest chain is next, although it stands last."""
    names = ["a", "b", "c", "d", "long"]
    stages = "".join(
        f"FROM busybox AS {name}\nRUN {{0}}; sleep {0.8 if name == 'long' else 0.2}; echo > /{name}\n"
        for name in names
    )
    text = stages + "FROM busybox\n" + "".join(f"COPY --from={name} /{name} /\n" for name in names)
    shop.build(text.format("true"))
    steps = shop.build(text.format("echo again"), jobs=1).result.steps
    began = {step.stage: step.started + step.waited for step in steps if "RUN" in step.name}
    assert sorted(began, key=lambda name: began[name]).index("long") <= 1


def test_the_use_of_processors_is_remembered(shop: Workshop) -> None:
    busy = shop.build("FROM busybox\nRUN timeout 1 sh -c 'while :; do :; done'; true\nRUN sleep 1\n")
    assert busy.result.steps[1].cpu > 2 * busy.result.steps[2].cpu > 0
    assert busy.result.steps[2].cpu < 0.2
    again = shop.builder.history.find(busy.result.id)
    assert again.steps[1].cpu == busy.result.steps[1].cpu


def test_a_negative_number_of_jobs_is_refused(shop: Workshop) -> None:
    with pytest.raises(InvalidInput, match="invalid number of jobs"):
        shop.build("FROM busybox\n", jobs=-1)
