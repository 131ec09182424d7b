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


def test_hooks_run_in_their_namespaces(oci: Oci, tmp_path: Path) -> None:
    """createRuntime and poststart beside the runtime; createContainer in the container's namespaces, with the host's
    files; startContainer in the container itself."""
    told = tmp_path / "told"
    place = "$(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/uts)"
    tell = f"echo $(hostname) {place} $(ls -d /only-here 2>/dev/null)"

    def hook(kind: str, script: str) -> dict[str, Any]:
        return {"path": "/bin/sh", "args": ["sh", "-c", script, kind], "env": ["PATH=/bin:/usr/bin"]}

    def with_hooks(spec: dict[str, Any]) -> None:
        outside = f"S=$(cat); {tell} >> {told}; echo $S >> {told}"
        spec["hooks"] = {kind: [hook(kind, outside)] for kind in ("createRuntime", "createContainer", "poststart")}
        inside = f"S=$(cat); {tell} >> /told; echo $S >> /told"
        spec["hooks"]["startContainer"] = [hook("startContainer", inside)]

    identity = oci.bundle("sh", "-c", f"{tell}; cat /told", hostname="inside", change=with_hooks)
    Path(oci.place(identity), "rootfs/only-here").touch()
    with (tmp_path / "out").open("w") as out:
        oci("create", "-b", oci.place(identity), identity, capture_output=False, stdout=out)
    assert not Path(oci.place(identity), "rootfs/told").exists()
    oci("start", identity)
    assert eventually(lambda: oci.state(identity)["status"] == "stopped")
    own, inside, state = (tmp_path / "out").read_text().splitlines()
    assert own == inside and inside.startswith("inside ") and inside.endswith("/only-here")
    assert json.loads(state)["status"] == "created"
    runtime, runtime_state, container, container_state, after, after_state = told.read_text().splitlines()
    assert runtime == after and runtime.split()[1] == os.readlink("/proc/self/ns/mnt")
    assert "/only-here" not in runtime
    assert container.split()[:3] == own.split()[:3] and "/only-here" not in container
    states = [json.loads(text) for text in (runtime_state, container_state, after_state)]
    assert [one["status"] for one in states] == ["creating", "creating", "running"]
    assert len({one["pid"] for one in states}) == 1
    oci("delete", identity)


def test_a_mount_made_by_a_hook_before_the_pivot_is_in_the_container(oci: Oci, tmp_path: Path) -> None:
    identity = oci.bundle("cat", "/mnt/made")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/made").write_text("by a hook\n")
    place = oci.place(identity)
    Path(place, "rootfs/mnt").mkdir(exist_ok=True)
    spec = json.loads(Path(place, "config.json").read_text())
    script = f"mount --bind {tmp_path}/dir {place}/rootfs/mnt"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}
    spec["hooks"] = {"createContainer": [hook]}
    Path(place, "config.json").write_text(json.dumps(spec))
    assert oci("run", "-b", place, identity).stdout == "by a hook\n"


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_a_hook_that_fails_or_takes_too_long_ends_the_container(oci: Oci, kind: str) -> None:
    for script, more, why in (("echo no >&2; exit 3", {}, "exit 3: no"), ("sleep 9", {"timeout": 1}, "after 1 s")):
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], **more}
        identity = oci.bundle("true", change=lambda spec, hook=hook: spec.update(hooks={kind: [hook]}))
        done = oci("run", "-b", oci.place(identity), identity, check=False)
        assert done.returncode == 1
        assert f"running {kind} hook" in done.stderr and why in done.stderr, done.stderr


def watch(oci: Oci, identity: str, interval: str) -> subprocess.Popen[str]:
    command = [PROGRAM, "--root", str(oci.root), "events", "--interval", interval, identity]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_events(oci: Oci) -> None:
    identity = oci.bundle("sleep", "60")
    oci("run", "-d", "-b", oci.place(identity), identity, capture_output=False, stdout=subprocess.DEVNULL)
    (event,) = map(json.loads, oci("events", "--stats", identity).stdout.splitlines())
    assert (event["type"], event["id"]) == ("stats", identity)
    assert event["data"]["pids"]["current"] == 1
    assert event["data"]["memory"]["usage"]["usage"] > 0
    watching = watch(oci, identity, "50ms")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["data"]["cpu"]["usage"]["total"] > 0
    assert "invalid duration" in oci("events", "--interval", "x", identity, check=False).stderr
    oci("kill", identity, "KILL")
    assert watching.wait(20) == 0
    watching.stdout.close()
    assert "is not running" in oci("events", identity, check=False).stderr
    oci("delete", identity)
    assert "does not exist" in oci("events", identity, check=False).stderr


def test_events_tell_of_a_lack_of_memory(oci: Oci) -> None:
    def limited(spec: dict[str, Any]) -> None:
        spec["linux"].setdefault("resources", {})["memory"] = {"limit": 16 << 20, "swap": 16 << 20}

    identity = oci.bundle("sh", "-c", "read x; tail /dev/zero; sleep 60", change=limited)
    command = [PROGRAM, "--root", str(oci.root), "run", "-b", oci.place(identity), identity]
    started = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert eventually(lambda: oci("state", identity, check=False).returncode == 0)
    assert eventually(lambda: oci.state(identity)["status"] == "running")
    watching = watch(oci, identity, "50ms")
    assert started.stdin is not None and watching.stdout is not None
    watching.stdout.readline()  # it looks on now
    started.stdin.write(b"\n")
    started.stdin.close()
    assert {"type": "oom", "id": identity} in map(json.loads, watching.stdout)
    oci("kill", identity, "KILL")
    watching.wait(20)
    watching.stdout.close()
    started.wait(20)


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
        (lambda spec: spec.update(hooks={"startContainer": [{"path": "x"}]}), "the path of a hook is absolute"),
        (lambda spec: spec.update(hooks={"prestart": [{"path": "/x", "timeout": 0}]}), "positive number of seconds"),
        (lambda spec: spec.update(hooks={"createContainer": [{"path": "/no"}]}), "createContainer hook /no: No"),
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
    assert features["linux"]["apparmor"]["enabled"] is True
    assert "user" not in features["linux"]["namespaces"]
    assert features["hooks"][:4] == ["prestart", "createRuntime", "createContainer", "startContainer"]
    assert {"ro", "rbind", "rprivate"} <= set(features["mountOptions"])
    assert "SCMP_ACT_ERRNO" in features["linux"]["seccomp"]["actions"]
    assert "spec: 1.2.0" in oci("--version").stdout
