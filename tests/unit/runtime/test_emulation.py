"""Which platforms' programs the kernel executes."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildtool.oci import host_platform, parse_platform
from buildtool.runtime import emulation
from buildtool.runtime.emulation import emulator, how_to_run, runs_here

ARM64 = "offset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
S390X = "offset 0\nmagic 7f454c4602020100000000000000000000020016\nmask fffffffffffffffcfffffffffffffffffffeffff\n"


@pytest.fixture
def amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulation, "host_platform", lambda: parse_platform("linux/amd64"))


def test_its_own_and_smaller_ones_of_the_same_processor(amd64: None, tmp_path: Path) -> None:
    assert runs_here(parse_platform("linux/amd64/v2"), tmp_path) and runs_here(parse_platform("linux/386"), tmp_path)
    assert not runs_here(parse_platform("linux/arm64"), tmp_path)


def test_those_with_an_emulator_that_is_registered_and_enabled(amd64: None, tmp_path: Path) -> None:
    for name in ("register", "status"):
        (tmp_path / name).write_text("enabled\n")
    (tmp_path / "python3.11").write_text(
        "enabled\ninterpreter /usr/bin/python3.11\nflags: \noffset 0\nmagic a70d0d0a"
    )
    (tmp_path / "jar").write_text("enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n")
    (tmp_path / "by-another-name").write_text(f"enabled\ninterpreter /usr/bin/qemu\nflags: F\n{ARM64}")
    (tmp_path / "qemu-s390x").write_text(f"disabled\ninterpreter /usr/bin/qemu\nflags: F\n{S390X}")
    assert emulator(parse_platform("linux/aarch64"), tmp_path) == "by-another-name"
    assert not runs_here(parse_platform("linux/s390x"), tmp_path)
    assert not runs_here(parse_platform("windows/amd64"), tmp_path)
    (tmp_path / "qemu-s390x").write_text(f"enabled\ninterpreter /usr/bin/qemu\nflags: F\n{S390X}")
    assert runs_here(parse_platform("linux/s390x"), tmp_path)
    assert not runs_here(parse_platform("linux/ppc64le"), tmp_path)


def test_this_machines(tmp_path: Path) -> None:
    assert runs_here(host_platform(), tmp_path)


def test_advice_is_for_what_can_be_emulated(amd64: None, tmp_path: Path) -> None:
    assert how_to_run(parse_platform("linux/arm64"), tmp_path).startswith(
        "register an emulator: `mount -t binfmt_misc"
    )
    assert how_to_run(parse_platform("windows/amd64"), tmp_path) == ""
