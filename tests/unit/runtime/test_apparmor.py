"""AppArmor as far as it can be shown without a kernel that has it: which profile, when it is loaded, and by what."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from buildtool.errors import Unavailable
from buildtool.runtime.apparmor import DEFAULT, PROFILE, AppArmor


@pytest.fixture
def kernel(tmp_path: Path) -> AppArmor:
    """A kernel with AppArmor that knows no profile of ours."""
    (tmp_path / "module/apparmor/parameters").mkdir(parents=True)
    (tmp_path / "module/apparmor/parameters/enabled").write_text("Y\n")
    (tmp_path / "kernel/security/apparmor").mkdir(parents=True)
    (tmp_path / "kernel/security/apparmor/profiles").write_text("docker-default (enforce)\n")
    (tmp_path / "uid_map").write_text("         0          0 4294967295\n")
    return AppArmor(tmp_path, tmp_path / "uid_map")


def parser(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> Path:
    """An apparmor_parser that notes what it gets."""
    program = folder / "apparmor_parser"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/said\ncat >> {folder}/said\necho no >&2\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "said"


def test_the_default_profile_is_loaded_once_by_apparmor_parser(
    kernel: AppArmor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = parser(tmp_path, monkeypatch)
    assert kernel.process("", privileged=False) == {"apparmorProfile": DEFAULT}
    assert said.read_text() == f"--replace --skip-cache\n{PROFILE}"
    kernel.process("", privileged=False)
    assert said.read_text().count("--replace") == 1


def test_a_profile_that_the_kernel_knows_is_not_loaded_again(kernel: AppArmor, tmp_path: Path) -> None:
    with (tmp_path / "kernel/security/apparmor/profiles").open("a") as profiles:
        profiles.write(f"{DEFAULT} (enforce)\n")
    assert kernel.effective("", privileged=False) == DEFAULT


def test_others_are_taken_as_they_are(kernel: AppArmor) -> None:
    assert kernel.process("mine", privileged=False) == {"apparmorProfile": "mine"}
    assert kernel.process("mine", privileged=True) == {"apparmorProfile": "mine"}
    assert kernel.process("", privileged=True) == {}
    assert kernel.process("unconfined", privileged=False) == {}


def test_a_profile_that_cannot_be_loaded_ends_the_start(
    kernel: AppArmor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser(tmp_path, monkeypatch, code=1)
    with pytest.raises(Unavailable, match="profile could not be loaded: no"):
        kernel.effective("", privileged=False)


def test_where_there_is_none_or_in_a_user_namespace_nothing_is_applied(kernel: AppArmor, tmp_path: Path) -> None:
    (tmp_path / "uid_map").write_text("0 1000 1\n")
    assert not kernel.supported()
    assert AppArmor(tmp_path / "nowhere", tmp_path / "uid_map").process("mine", privileged=False) == {}


def test_the_profile_compiles() -> None:
    program = shutil.which("apparmor_parser", path="/usr/sbin:/sbin:/usr/bin")
    if program is None:
        pytest.skip("there is no apparmor_parser here")
    done = subprocess.run([program, "-Q", "-K"], input=PROFILE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
