"""The stack of a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program, docker_composes
from tests.e2e.stacks.helpers import Stack

if not docker_composes():
    collect_ignore = ["test_docker_compose.py"]


@pytest.fixture
def stack(cli: Program, busybox_image: str, tmp_path: Path, unique: str) -> Iterator[Stack]:
    folder = tmp_path / unique
    folder.mkdir()
    made = Stack(cli, folder)
    yield made
    made("down", "-v", "--remove-orphans", "-t", "0", check=False)
