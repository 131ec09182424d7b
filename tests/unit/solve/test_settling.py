"""When what builds made becomes durable."""

from __future__ import annotations

import pytest

from buildtool.solve import settling
from tests.unit.solve.conftest import Workshop


def undurable(shop: Workshop) -> int:
    return sum(not snapshot.durable for snapshot in shop.store.snapshots.all())


def test_a_series_of_builds_is_flushed_once(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes: list[int] = []
    whole = shop.store.snapshots.sync
    monkeypatch.setattr(shop.store.snapshots, "sync", lambda: (flushes.append(undurable(shop)), whole())[1])
    monkeypatch.setattr(settling, "PAUSE", 3600.0)
    for number in range(3):
        shop.build(f"FROM scratch\nWORKDIR /{number}\n")
    assert flushes == [] and undurable(shop) >= 3
    shop.run(shop.builder.close())
    assert len(flushes) == 1 and undurable(shop) == 0
    shop.build("FROM scratch\nWORKDIR /0\n")
    shop.run(shop.builder.close())
    assert len(flushes) == 1, "a cached build makes nothing"


def test_builds_that_never_stop_are_flushed_all_the_same(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "PAUSE", 3600.0)
    monkeypatch.setattr(settling, "LONGEST", 0.0)
    shop.build("FROM scratch\nWORKDIR /one\n")
    task = shop.builder._settling._task
    assert task is not None
    shop.run(_wait(task))
    assert undurable(shop) == 0


async def _wait(task: object) -> None:
    await task  # type: ignore[misc]
