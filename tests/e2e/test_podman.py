"""podman with our runtime in place of crun."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import busybox_rootfs

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="podman as root is meant"),
    pytest.mark.skipif(not shutil.which("podman") or not shutil.which("conmon"), reason="there is no podman here"),
]
RUNTIME = str(Path(sys.executable).parent / "buildtool-oci")
# podman asks for more than a container's own limits where these are lower
FLAGS = ("--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
Podman = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """podman with storage of its own, and busybox as the image `bb`."""
    folder = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))  # podman wants short paths
    place = ("--root", f"{folder}/root", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp")
    command = ["podman", *place, "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", RUNTIME]

    def run(*arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=60,
            **{"stdin": subprocess.DEVNULL, **options},
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{arguments}: {done.returncode}: {done.stderr}")
        return done

    (folder / "bb.tar").write_bytes(busybox_rootfs())
    if run("import", "-q", f"{folder}/bb.tar", "bb", check=False).returncode:
        pytest.skip("podman cannot store images here")
    yield run
    run("rm", "-f", "-a", "-t", "0", check=False)
    run("rmi", "-f", "-a", check=False)
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if (point := line.split()[4]).startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", point], check=False)
    shutil.rmtree(folder, ignore_errors=True)
    for group in sorted(Path("/sys/fs/cgroup").glob("*/libpod_parent/**/"), reverse=True):
        with contextlib.suppress(OSError):
            group.rmdir()


def test_run_with_streams_limits_and_exit_codes(podman: Podman) -> None:
    done = podman("run", "--rm", "-i", *FLAGS, "bb", "sh", "-c", "cat; echo e >&2; exit 3", check=False,
                  stdin=None, input="in\n")  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("in\n", "e\n", 3)
    script = "touch /x 2>/dev/null || echo read-only; id -u; grep CapEff /proc/self/status"
    done = podman("run", "--rm", *FLAGS, "--read-only", "-m", "64m", "-u", "1000", "bb", "sh", "-c", script)
    assert done.stdout.split() == ["read-only", "1000", "CapEff:", "0" * 16]
    missing = podman("run", "--rm", *FLAGS, "bb", "nope", check=False)
    assert (missing.returncode, "executable file not found" in missing.stderr) == (127, True)


def test_detached_exec_pause_stop_and_restart(podman: Podman) -> None:
    podman("run", "-d", "--name", "s", *FLAGS, "bb", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")
    assert podman("exec", "s", "sh", "-c", "echo in; exit 4", check=False).returncode == 4
    assert podman("exec", "-i", "s", "cat", stdin=None, input="piped").stdout == "piped"
    podman("pause", "s")
    podman("unpause", "s")
    podman("stop", "-t", "5", "s")
    assert podman("inspect", "-f", "{{.State.ExitCode}}", "s").stdout == "7\n"
    podman("start", "s")
    podman("rm", "-f", "-t", "0", "s")


def test_hooks_of_all_stages(podman: Podman, tmp_path: Path) -> None:
    stages = ("createRuntime", "createContainer", "poststart", "poststop")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for stage in stages:
        script = f"cat > /dev/null; echo {stage} >> {tmp_path}/told"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}
        document = {"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": [stage]}
        (hooks / f"{stage}.json").write_text(json.dumps(document))
    podman("--hooks-dir", str(hooks), "run", "--rm", *FLAGS, "bb", "true")
    assert (tmp_path / "told").read_text().split() == list(stages)


def test_control_groups_of_systemd_are_refused(podman: Podman) -> None:
    done = subprocess.run([RUNTIME, "--systemd-cgroup", "create", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "--cgroup-manager cgroupfs" in done.stderr


def test_build(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text("FROM bb\nRUN echo built > /made\n")
    podman("build", "--isolation", "oci", "-t", "made", str(tmp_path))
    assert podman("run", "--rm", *FLAGS, "made", "cat", "/made").stdout == "built\n"
