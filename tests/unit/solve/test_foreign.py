"""Which platforms' programs the kernel executes."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildtool.oci import host_platform, parse_platform
from buildtool.solve import platforms
from buildtool.solve.platforms import runs_here


@pytest.fixture
def amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "host_platform", lambda: parse_platform("linux/amd64"))


def test_its_own_and_smaller_ones_of_the_same_processor(amd64: None, tmp_path: Path) -> None:
    assert runs_here(parse_platform("linux/amd64/v2"), tmp_path) and runs_here(parse_platform("linux/386"), tmp_path)
    assert not runs_here(parse_platform("linux/arm64"), tmp_path)


def test_those_with_an_emulator_that_is_registered_and_enabled(amd64: None, tmp_path: Path) -> None:
    (tmp_path / "qemu-aarch64").write_text("enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: F\n")
    (tmp_path / "qemu-s390x").write_text("disabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: F\n")
    assert runs_here(parse_platform("linux/aarch64"), tmp_path)
    assert not runs_here(parse_platform("linux/s390x"), tmp_path)
    assert not runs_here(parse_platform("windows/amd64"), tmp_path)


def test_this_machines(tmp_path: Path) -> None:
    assert runs_here(host_platform(), tmp_path)
