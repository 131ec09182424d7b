"""The runtime as an OCI runtime program: its life cycle by hand, as conmon and containerd's shim drive it."""

from __future__ import annotations

import array
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildtool.runtime import SpecOptions, container_spec

from .conftest import cgroup_directories

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers of these tests need root")
PROGRAM = str(Path(sys.executable).parent / "buildtool-oci")
Done = subprocess.CompletedProcess[str]


class Oci:
    """The program with a root of its own."""

    def __init__(self, base: Path, tree: Path) -> None:
        self.base, self.tree, self.root = base, tree, base / "root"
        self.number = 0

    def __call__(self, *arguments: str, check: bool = True, **options: Any) -> Done:
        done = subprocess.run(
            [PROGRAM, "--root", str(self.root), *arguments],
            **{"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 30, **options},
        )
        if check and done.returncode:
            raise AssertionError(f"{arguments}: {done.returncode}: {done.stderr}")
        return done

    def bundle(self, *args: str, change: Callable[[dict[str, Any]], Any] = lambda spec: None, **options: Any) -> str:
        """A bundle whose id is its directory's name; the id."""
        self.number += 1
        identity = f"oci-{os.getpid()}-{self.base.name}-{self.number}"
        directory = self.base / identity
        (directory / "rootfs").mkdir(parents=True)
        subprocess.run(["cp", "-a", f"{self.tree}/.", str(directory / "rootfs")], check=True)
        spec = container_spec(
            SpecOptions(id=identity, args=args, env=["PATH=/bin"], cgroup_parent="/buildtool-oci-tests", **options)
        )
        change(spec)
        (directory / "config.json").write_text(json.dumps(spec))
        return identity

    def place(self, identity: str) -> str:
        return str(self.base / identity)

    def state(self, identity: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self("state", identity).stdout)
        return document


@pytest.fixture
def oci(tmp_path: Path, busybox_tree: Path) -> Iterator[Oci]:
    oci = Oci(tmp_path, busybox_tree)
    yield oci
    left = oci("list", "-q").stdout.split()
    for identity in left:
        oci("delete", "--force", identity)
    assert left == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    for directory in cgroup_directories("/buildtool-oci-tests"):
        assert list(directory.glob(f"oci-{os.getpid()}-{tmp_path.name}-*")) == []
        with contextlib.suppress(OSError):  # another test's may be in it
            directory.rmdir()


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_the_life_of_a_container(oci: Oci, tmp_path: Path) -> None:
    identity = oci.bundle("sh", "-c", "echo started; trap 'exit 0' TERM; while :; do sleep 0.05; done")
    with (tmp_path / "out").open("wb") as out:
        oci("create", "--bundle", oci.place(identity), "--pid-file", str(tmp_path / "pid"), identity,
            capture_output=False, stdout=out, stderr=out)  # fmt: skip
    pid = int((tmp_path / "pid").read_text())
    state = oci.state(identity)
    assert (state["status"], state["pid"], state["bundle"]) == ("created", pid, oci.place(identity))
    assert (tmp_path / "out").read_text() == ""
    oci("start", identity)
    assert oci.state(identity)["status"] == "running"
    assert eventually(lambda: (tmp_path / "out").read_text() == "started\n")
    assert "already exists" in oci("create", "-b", oci.place(identity), identity, check=False).stderr
    assert "not in the created state" in oci("start", identity, check=False).stderr
    assert "that is not stopped: running" in oci("delete", identity, check=False).stderr
    assert json.loads(oci("ps", "-f", "json", identity).stdout)[0] == pid
    oci("kill", identity, "TERM")
    assert eventually(lambda: oci.state(identity)["status"] == "stopped")
    assert "pid" not in oci.state(identity)
    oci("delete", identity)
    assert "does not exist" in oci("state", identity, check=False).stderr


def test_run_waits_and_gives_streams_and_exit_code(oci: Oci) -> None:
    identity = oci.bundle("sh", "-c", "cat; echo err >&2; exit 5")
    done = oci("run", "-b", oci.place(identity), identity, check=False, stdin=None, input="through\n")
    assert (done.stdout, done.stderr, done.returncode) == ("through\n", "err\n", 5)


def test_exec_joins_the_container(oci: Oci, tmp_path: Path) -> None:
    identity = oci.bundle("sleep", "60", hostname="inside")
    oci("run", "-d", "-b", oci.place(identity), identity, capture_output=False, stdout=subprocess.DEVNULL)
    done = oci("exec", "-e", "A=b", "--cwd", "/tmp", "-u", "1000:1000", identity, "sh", "-c",
               "echo $A $(hostname) $(pwd) $(id -u); exit 6", check=False)  # fmt: skip
    assert (done.stdout, done.returncode) == ("b inside /tmp 1000\n", 6)
    process = {
        "args": ["sh", "-c", "echo from the file"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
    }
    (tmp_path / "process").write_text(json.dumps(process))
    assert oci("exec", "--process", str(tmp_path / "process"), identity).stdout == "from the file\n"
    assert "executable file not found in $PATH" in oci("exec", identity, "nope", check=False).stderr
    oci("exec", "-d", "--pid-file", str(tmp_path / "pid"), identity, "sleep", "61",
        capture_output=False, stdout=subprocess.DEVNULL)  # fmt: skip
    assert int((tmp_path / "pid").read_text()) in json.loads(oci("ps", "-f", "json", identity).stdout)
    oci("pause", identity)
    assert oci.state(identity)["status"] == "paused"
    oci("resume", identity)
    oci("update", "-r", "-", identity, stdin=None, input=json.dumps({"pids": {"limit": 77}}))
    oci("delete", "--force", identity)


def test_a_terminal_is_handed_over(oci: Oci) -> None:
    identity = oci.bundle("sh", "-c", "tty; stty size", tty=True, console_size=(30, 90))
    with socket.socket(socket.AF_UNIX) as console:
        place = Path(tempfile.mkdtemp(dir="/tmp"))
        console.bind(str(place / "c"))
        console.listen(1)
        oci("create", "-b", oci.place(identity), "--console-socket", str(place / "c"), identity)
        shutil.rmtree(place)
        connection, _ = console.accept()
        _, ancillary, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(4))
        master = array.array("i", ancillary[0][2])[0]
        connection.close()
    oci("start", identity)
    output = b""
    while b"30 90" not in output:
        output += os.read(master, 1024)
    assert output == b"/dev/pts/0\r\n30 90\r\n"
    os.close(master)
    oci("delete", "--force", identity)
    assert "needs --console-socket" in oci("create", "-b", oci.place(identity), identity, check=False).stderr


def test_hooks_get_the_state(oci: Oci, tmp_path: Path) -> None:
    def hook(kind: str, script: str) -> dict[str, Any]:
        return {kind: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]}

    told = tmp_path / "told"
    kinds = ("prestart", "createRuntime", "poststart", "poststop")

    def with_hooks(spec: dict[str, Any]) -> None:
        spec["hooks"] = {}
        for kind in kinds:
            spec["hooks"] |= hook(kind, f"echo {kind} >> {told}; cat >> {told}; echo >> {told}")

    identity = oci.bundle("true", change=with_hooks)
    oci("run", "-b", oci.place(identity), identity)
    lines = told.read_text().split("\n")
    assert tuple(lines[:8:2]) == kinds
    assert [json.loads(line)["status"] for line in lines[1:8:2]] == ["creating", "creating", "running", "stopped"]
    failing = oci.bundle("true", change=lambda spec: spec.update(hooks=hook("prestart", "echo no >&2; exit 3")))
    done = oci("create", "-b", oci.place(failing), failing, check=False)
    assert (done.returncode, "exit 3: no" in done.stderr) == (1, True)


def test_tmpcopyup_begins_with_what_was_there(oci: Oci) -> None:
    mount = {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "tmpcopyup"]}
    identity = oci.bundle("sh", "-c", "cat /data/d/f; readlink /data/link; stat -c %a /data/d; echo > /data/new",
                          mounts=[mount])  # fmt: skip
    data = Path(oci.place(identity), "rootfs/data")
    (data / "d").mkdir(mode=0o750)
    (data / "d/f").write_text("kept\n")
    (data / "link").symlink_to("/nowhere")
    assert oci("run", "-b", oci.place(identity), identity).stdout == "kept\n/nowhere\n750\n"
    assert not (data / "new").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda spec: spec["process"].update(args=["nope"]), 'exec: "nope": executable file not found in $PATH'),
        (lambda spec: spec["process"].update(args=[]), "process.args and root.path are needed"),
        (lambda spec: spec["linux"].update(cgroupsPath="machine.slice:libpod:x"), "systemd's control groups"),
        (lambda spec: spec["linux"]["namespaces"].append({"type": "user"}), "user namespace"),
        (lambda spec: spec["mounts"].append({"destination": "/x", "type": "nofs"}), 'error mounting "nofs"'),
        (lambda spec: spec.update(hooks={"startContainer": [{"path": "/x"}]}), "startContainer are not supported"),
    ],
)
def test_what_cannot_be_made_is_told_and_leaves_nothing(oci: Oci, tmp_path: Path, change: Any, text: str) -> None:
    identity = oci.bundle("true", change=change)
    log = tmp_path / "log"
    done = oci("--log", str(log), "--log-format", "json", "create", "-b", oci.place(identity), identity, check=False)
    assert (done.returncode, text in done.stderr) == (1, True), done.stderr
    assert text in json.loads(log.read_text())["msg"]
    assert oci("list", "-q").stdout.strip() == ""


def test_features_and_version(oci: Oci) -> None:
    features = json.loads(oci("features").stdout)
    assert features["linux"]["cgroup"]["v2"] is True
    assert "spec: 1.2.0" in oci("--version").stdout
