"""A plain user's containers, end to end: the test becomes that user and makes a user namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.rootless import ALONE

_UID = 12345
_SCRIPT = Path(__file__).with_name("rootless_script.py")

_LAUNCH = f"""{ALONE}
uid, files, script = int(sys.argv[1]), sys.argv[2], sys.argv[3]
for name in os.listdir(files):
    sc.mount(files + "/" + name, "/etc/" + name, None, sc.MS_BIND)
become(uid)
os.chdir("/")
environment = dict(PATH=os.environ["PATH"], HOME="/", PYTHONDONTWRITEBYTECODE="1")
os.execve(sys.executable, [sys.executable, script], environment)
"""


def rootless(tmp_path: Path, etc: dict[str, str]) -> dict[str, Any]:
    files = tmp_path / "etc"
    files.mkdir()
    for name, text in etc.items():
        if not Path("/etc", name).exists():
            pytest.skip(f"/etc/{name} is not there to be replaced")
        (files / name).write_text(text)
    command = [sys.executable, "-c", _LAUNCH, str(_UID), str(files), str(_SCRIPT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    answers: dict[str, Any] = json.loads(result.stdout)
    return answers


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


def check_common(answers: dict[str, Any]) -> None:
    code, text = answers["plain"]
    lines = text.splitlines()
    assert code == 0
    assert lines[0] == "0"
    assert "userxattr" in lines[1]
    assert {"null", "zero", "tty", "ptmx", "pts", "shm"} <= set(lines)
    assert "CapEff:\t00000000a80425fb" in lines
    assert "Seccomp:\t2" in lines
    assert "127.0.0.1/8" in text
    assert lines[-1] == "box"
    assert {"gone", "made", "opaque"} <= set(answers["upper"])
    assert (answers["opaque"], answers["whiteout"]) == ("y", 0)
    assert answers["host"] == [0, "/sys/class\n0\n"]
    assert answers["tty"] == [0, "/dev/pts/0\r\n"]
    assert answers["limited"] == [0, "0\n"]
    assert answers["pid_host"] == [0, "0\n"]
    assert answers["exec"] == 7
    assert answers["log"] == ""


def test_with_a_single_id(tmp_path: Path) -> None:
    answers = rootless(tmp_path, {})
    assert answers["map"] == ["0", str(_UID), "1"]
    check_common(answers)
    code, text = answers["user"]
    assert code == -1
    assert text.startswith("unable to switch to user 1000:1000: invalid argument (this id is not mapped")


def test_with_subordinate_ids(tmp_path: Path) -> None:
    etc = {
        "passwd": f"root:x:0:0::/:/bin/sh\nplain:x:{_UID}:{_UID}::/:/bin/sh\n",
        "subuid": "plain:200000:65536\n",
        "subgid": "plain:200000:65536\n",
    }
    answers = rootless(tmp_path, etc)
    assert answers["map"] == ["0", str(_UID), "1", "1", "200000", "65536"]
    check_common(answers)
    assert answers["user"] == [0, "1000\n1000\n"]
