"""The stack of a test, on our daemon or on a dockerd.

`BUILDTOOL_STACKS_ON=dockerd pytest tests/e2e/stacks` runs all of them on Debian's dockerd; test_dockerd.py always has
one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compare.run import Dockerd, import_busybox
from tests.conftest import BUILDTOOL, Program, docker_composes
from tests.e2e.stacks.helpers import Stack

collect_ignore = [] if docker_composes() else ["test_docker_compose.py"]
if not shutil.which("dockerd"):
    collect_ignore.append("test_dockerd.py")


@pytest.fixture(scope="session")
def dockerd_cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Our CLI, talking to a dockerd that has busybox."""
    dockerd = Dockerd()
    try:
        import_busybox(dockerd.socket)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        environment["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
        host = {"BUILDTOOL_HOST": f"unix://{dockerd.socket}", "NO_COLOR": "1", "COLUMNS": "200"}
        yield Program(BUILDTOOL, environment | host)
    finally:
        dockerd.close()


@pytest.fixture(scope="session")
def cli(request: pytest.FixtureRequest, cli: Program) -> Program:
    """Our CLI, talking to the engine that the tests are to run on."""
    if os.environ.get("BUILDTOOL_STACKS_ON") == "dockerd":
        other: Program = request.getfixturevalue("dockerd_cli")
        return other
    return cli


@pytest.fixture
def stack(cli: Program, busybox_image: str, tmp_path: Path, unique: str) -> Iterator[Stack]:
    folder = tmp_path / unique
    folder.mkdir()
    made = Stack(cli, folder)
    yield made
    made("down", "-v", "--remove-orphans", "-t", "0", check=False)
