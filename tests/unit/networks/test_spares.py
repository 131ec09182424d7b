"""Connected namespaces that one container after another uses."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildtool.cache import Store
from buildtool.networks import Networks, kernel

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="interfaces need root")


@pytest.fixture
async def networks(tmp_path: Path) -> AsyncIterator[Networks]:
    with contextlib.closing(Store.open(tmp_path / "data")) as store:
        service = Networks(store)
        names = kernel.Names(store.root)
        before = namespaces()
        yield service
        await service.close()
        assert namespaces() == before
        assert kernel.own_links(names) == ([], [])


def namespaces() -> list[str]:
    """The network namespaces that this process holds."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(target for target in found if target.startswith("net:"))


async def test_a_namespace_is_lent_again_as_it_was(networks: Networks) -> None:
    first = await networks.lend("one", "build", {})
    networks.take_back(first)
    again = await networks.lend("two", "build", {})
    assert again is first
    other = await networks.lend("three", "build", {})
    assert other.namespace != first.namespace
    assert other.sandbox.endpoints[0].address != first.sandbox.endpoints[0].address
    for spare in (again, other):
        networks.take_back(spare)


async def test_one_whose_bridge_was_made_anew_goes(networks: Networks) -> None:
    first = await networks.lend("one", "build", {})
    networks.take_back(first)
    kernel.delete_links([first.base])
    again = await networks.lend("two", "build", {})
    assert again is not first
    networks.take_back(again)


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 6, 10, 20, 40])
async def test_a_cancelled_loan_leaves_nothing(networks: Networks, milliseconds: int) -> None:
    for _ in range(2):  # the first makes one, the second looks at it
        lending = asyncio.create_task(networks.lend("one", "build", {}))
        await asyncio.sleep(milliseconds / 1000)
        if lending.cancel():
            with pytest.raises(asyncio.CancelledError):
                await lending
        else:
            networks.take_back(lending.result())
