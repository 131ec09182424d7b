"""Containers where version 2 is the only control group hierarchy: a mount namespace that shows nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from buildtool.runtime.cgroups import Hierarchies

_SCRIPT = Path(__file__).with_name("cgroup_v2_script.py")
_LAUNCH = """
import os, sys
from buildtool.runtime import syscalls as sc
sc.unshare(sc.CLONE_NEWNS)
sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)
sc.umount("/sys/fs/cgroup", sc.MNT_DETACH)
sc.mount("cgroup", "/sys/fs/cgroup", "cgroup2", 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(os.geteuid() != 0 or not Hierarchies.find().unified, reason="needs root and version 2")
def test_containers_on_version_2_alone(busybox_tree: Path) -> None:
    command = [sys.executable, "-c", _LAUNCH, str(_SCRIPT), str(busybox_tree)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    assert answers["log"] == ""
    for mode, path in (("private", "0::/"), ("host", "0::/bt-test-v2/v2-host")):
        text, warnings, unified, has_pids = answers[mode]
        assert f"\n{path}\n" in f"\n{text}"
        assert " /sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec" in text
        assert "cgroup.procs" in text
        assert "can't open /dev/kmsg: Operation not permitted" in text
        assert (unified, has_pids) == (True, True)
        memory_is_ours = "memory" in Path(Hierarchies.find().unified, "cgroup.controllers").read_text()
        assert memory_is_ours or any("memory.max" in warning for warning in warnings)
