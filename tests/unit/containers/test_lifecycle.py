from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from buildtool.errors import CommandNotExecutable, CommandNotFound, Conflict, InvalidInput, NotFound, NotModified
from tests.unit.containers.conftest import World


async def test_a_container_runs_and_its_output_is_logged(world: World) -> None:
    code, output = await world.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert code == 3
    assert sorted(output.splitlines()) == [b"err", b"out"]
