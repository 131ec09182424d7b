"""The stock docker CLI against our daemon: it must not notice."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Docker = Callable[..., subprocess.CompletedProcess[Any]]


@pytest.fixture(autouse=True)
def image(busybox_image: str) -> str:
    """All of these run busybox."""
    return busybox_image


@pytest.fixture
def named(docker: Docker, unique: str) -> Iterator[str]:
    """A container's name; the container is removed after the test."""
    yield unique
    docker("rm", "-f", "-v", unique, check=False)


def names_in(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getnames()


def test_version_and_info_are_complete(docker: Docker) -> None:
    version = json.loads(docker("version", "--format", "{{json .Server}}").stdout)
    assert version["ApiVersion"] == "1.50"
    assert version["MinAPIVersion"] == "1.24"
    assert "Server: buildtool" in docker("version").stdout
    info = docker("info").stdout
    for line in (
        "Storage Driver: overlay2",
        "Cgroup Driver: cgroupfs",
        "Default Runtime: buildtool",
        "Live Restore Enabled: true",
    ):
        assert line in info


def test_run_gives_output_of_both_streams_and_the_exit_code(docker: Docker) -> None:
    done = docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["busybox", "no-such-command"], 127, "executable file not found in $PATH"),
        (["busybox", "/etc/passwd"], 126, "permission denied"),
        (["busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137, ""),
        (["no-such-image"], 125, "Unable to find image 'no-such-image:latest' locally"),
    ],
)
def test_run_exit_codes(docker: Docker, arguments: list[str], code: int, text: str) -> None:
    done = docker("run", "--rm", *arguments, check=False)
    assert done.returncode == code, done.stderr
    assert text in done.stderr


def test_run_i_reads_stdin_to_its_end_and_keeps_the_output(docker: Docker) -> None:
    payload = "".join(f"line {number}\n" for number in range(20_000))
    done = docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo after", input=payload)
    assert done.stdout == payload + "after\n"


def test_run_it_has_a_terminal_with_size_and_resize(docker: Docker, terminal: Callable[..., Any]) -> None:
    session = terminal(docker, "run", "--rm", "-it", "busybox", "sh")
    session.expect(r"# ")
    session.send("tty; stty size\n")
    session.expect(r"/dev/pts/0\r\n")
    session.expect(r"24 80\r\n")
    session.resize(40, 100)
    for _ in range(20):
        session.send("stty size\n")
        if session.expect(r"(\d+ \d+)\r\n")[1] == b"40 100":
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the container's terminal was not resized")
    session.send("exit 3\n")
    assert session.wait() == 3


def test_detach_keys_leave_the_container_running(docker: Docker, terminal: Callable[..., Any], named: str) -> None:
    session = terminal(docker, "run", "-it", "--name", named, "busybox", "sh")
    session.expect(r"# ")
    session.send("\x10\x11")
    session.wait()
    assert docker("inspect", "-f", "{{.State.Running}}", named).stdout.strip() == "true"

    again = terminal(docker, "attach", named)
    again.send("echo back-$((40+2))\n")
    again.expect(r"back-42")
    again.send("exit\n")
    assert again.wait() == 0


def test_ctrl_c_interrupts_the_command(docker: Docker, terminal: Callable[..., Any]) -> None:
    session = terminal(
        docker,
        "run",
        "--rm",
        "-it",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 130' INT; echo ready; while :; do sleep 0.1; done",
    )
    session.expect("ready")
    session.send("\x03")
    assert session.wait() == 130


def test_a_signal_to_the_client_reaches_the_container(docker: Docker, background: Callable[..., Any]) -> None:
    script = "trap 'echo got it; exit 5' TERM; echo ready; while true; do sleep 0.1; done"
    process = background(docker, "run", "--rm", "busybox", "sh", "-c", script)
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    out, _ = process.communicate(timeout=10)
    assert (out, process.returncode) == (b"got it\n", 5)


def test_run_flags_reach_the_process(docker: Docker, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("from the host\n")
    script = "id -u; id -g; pwd; echo $A-$B; cat /mnt/file; hostname"
    done = docker(
        "run", "--rm", "-e", "A=1", "--env", "B=two", "-v", f"{tmp_path}:/mnt:ro", "-w", "/var/tmp",
        "-u", "65534:50", "--hostname", "box", "--entrypoint", "sh", "busybox", "-c", script,
    )  # fmt: skip
    assert done.stdout == "65534\n50\n/var/tmp\n1-two\nfrom the host\nbox\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="pausing takes a freezer control group")
def test_detached_life(docker: Docker, named: str) -> None:
    identity = docker("run", "-d", "--name", named, "busybox", "sh", "-c", "echo hello; exec sleep 60").stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{64}", identity)
    listed = docker(
        "ps", "--filter", f"name={named}", "--format", "{{.ID}} {{.Image}} {{.Names}} {{.Command}}"
    ).stdout
    assert listed.startswith(f"{identity[:12]} busybox {named} ")
    assert docker("logs", named).stdout == "hello\n"
    assert docker("exec", named, "sh", "-c", "echo in; exit 0").stdout == "in\n"
    assert docker("exec", named, "sh", "-c", "exit 9", check=False).returncode == 9
    assert docker("exec", named, "nope", check=False).returncode == 127
    docker("pause", named)
    assert "(Paused)" in docker("ps", "--filter", f"name={named}").stdout
    docker("unpause", named)
    docker("rename", named, f"{named}-renamed")
    docker("rename", f"{named}-renamed", named)
    assert "sleep 60" in docker("top", named).stdout
    docker("kill", named)
    assert docker("wait", named).stdout == "137\n"
    assert docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", named).stdout == "exited 137\n"
    docker("start", named)
    docker("restart", "-t", "0", named)
    docker("stop", "-t", "0", named)
    docker("rm", named)
    missing = docker("inspect", named, check=False)
    assert missing.returncode == 1
    assert f"No such object: {named}" in missing.stderr


def test_exec_it_in_a_terminal(docker: Docker, terminal: Callable[..., Any], container: Callable[..., str]) -> None:
    session = terminal(docker, "exec", "-it", "-e", "X=y", "-w", "/tmp", container("sleep", "60"), "sh")
    session.expect(r"# ")
    session.send("echo $X-$(pwd); stty size\n")
    session.expect(r"y-/tmp\r\n")
    session.expect(r"24 80\r\n")
    session.send("exit 4\n")
    assert session.wait() == 4


def test_exec_i_pipes_stdin(docker: Docker, container: Callable[..., str]) -> None:
    done = docker("exec", "-i", container("sleep", "60"), "sh", "-c", "wc -c; echo done", input="x" * 300_000)
    assert done.stdout.split() == ["300000", "done"]


def test_start_ai_after_create(docker: Docker, named: str) -> None:
    docker("create", "-i", "--name", named, "busybox", "sh", "-c", "read line; echo got $line; exit 6")
    done = docker("start", "-a", "-i", named, input="hello\n", check=False)
    assert (done.stdout, done.returncode) == ("got hello\n", 6)


def test_logs_options_and_follow(docker: Docker, background: Callable[..., Any], named: str) -> None:
    script = "echo 1; echo 2 >&2; echo 3; while [ ! -e /go ]; do sleep 0.05; done; echo 4"
    docker("run", "-d", "--name", named, "busybox", "sh", "-c", script)
    follower = background(docker, "logs", "-f", named)
    assert follower.stdout.readline() == b"1\n"
    docker("exec", named, "touch", "/go")
    out, err = follower.communicate(timeout=10)
    assert (out, err) == (b"3\n4\n", b"2\n")
    assert docker("logs", "--tail", "1", named).stdout == "4\n"
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z 1\n", docker("logs", "-t", named).stdout)


def test_wait_before_the_end_and_rm_of_auto_removed(
    docker: Docker, background: Callable[..., Any], named: str
) -> None:
    docker(
        "run", "-d", "--rm", "--name", named, "busybox", "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 8"
    )
    waiter = background(docker, "wait", named)
    time.sleep(0.3)
    docker("exec", named, "touch", "/go")
    assert waiter.communicate(timeout=10)[0] == b"8\n"
    for _ in range(50):
        if docker("inspect", named, check=False).returncode:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("--rm did not remove it")


def test_cp_both_ways_and_diff(docker: Docker, container: Callable[..., str], tmp_path: Path) -> None:
    identity = container("sleep", "60")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("content")
    docker("cp", str(tmp_path / "d"), f"{identity}:/root/")
    assert docker("exec", identity, "cat", "/root/d/f").stdout == "content"
    docker("cp", f"{identity}:/root/d/f", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content"
    piped = docker("cp", f"{identity}:/root/d", "-", text=False).stdout
    assert sorted(names_in(piped)) == ["d", "d/f"]
    missing = docker("cp", f"{identity}:/nope", str(tmp_path / "x"), check=False)
    assert missing.returncode == 1
    assert re.search("Could not find the file /nope in container|No such container:path: .*:/nope", missing.stderr)
    docker("exec", identity, "rm", "/etc/group")
    assert {"C /root", "A /root/d", "A /root/d/f", "D /etc/group"} <= set(
        docker("diff", identity).stdout.splitlines()
    )


def test_build_texts_cache_and_tag(docker: Docker, tmp_path: Path, unique: str) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\nRUN echo built-{unique}\nCOPY file /file\n")
    (tmp_path / "file").write_text(unique)

    first = docker("build", "-t", unique, str(tmp_path)).stdout
    again = docker("build", "-t", unique, str(tmp_path)).stdout

    assert "Step 1/3 : FROM busybox\n" in first
    assert " ---> Running in " in first
    assert f"built-{unique}\n" in first
    assert re.search(rf"Successfully built [0-9a-f]{{12}}\nSuccessfully tagged {unique}:latest\n$", first)
    assert again.count(" ---> Using cache\n") == 2
    assert "Running in" not in again
    assert docker("run", "--rm", unique, "cat", "/file").stdout == unique
    quiet = docker("build", "-q", str(tmp_path)).stdout.strip()
    assert quiet == docker("inspect", "-f", "{{.Id}}", unique).stdout.strip()
    assert docker("images", "-q", unique).stdout.strip() == quiet.removeprefix("sha256:")[:12]
    docker("rmi", unique)


def test_build_args_target_stdin_and_ignore(docker: Docker, tmp_path: Path, unique: str) -> None:
    text = "FROM busybox AS one\nARG A\nRUN echo $A > /a\nCOPY . /c\nFROM busybox\nRUN false\n"
    (tmp_path / ".dockerignore").write_text("secret\n")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "open").write_text("x")
    docker(
        "build", "--build-arg", "A=arg", "--label", "l=v", "--target", "one", "-t", unique, "-f", "-", str(tmp_path),
        input=text,
    )  # fmt: skip
    assert docker("run", "--rm", unique, "cat", "/a").stdout == "arg\n"
    assert "secret" not in docker("run", "--rm", unique, "ls", "/c").stdout
    assert docker("inspect", "-f", "{{.Config.Labels.l}}", unique).stdout == "v\n"
    docker("rmi", unique)


def test_build_that_fails_tells_and_ends_with_the_commands_code(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo last words; exit 3\n")
    done = docker("build", str(tmp_path), check=False)
    assert done.returncode == 3
    assert "last words" in done.stdout
    assert "returned a non-zero code: 3" in done.stderr
    (tmp_path / "Dockerfile").write_text("FROM busybox\nNONSENSE\n")
    done = docker("build", str(tmp_path), check=False)
    assert done.returncode == 1
    assert "unknown instruction" in done.stderr.lower()


def test_images_history_tag_rmi(docker: Docker, unique: str) -> None:
    docker("tag", "busybox", f"{unique}:v1")
    rows = docker("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}", unique).stdout
    assert re.fullmatch(rf"{unique}:v1 [0-9a-f]{{12}} [\d.]+[kM]B\n", rows)
    assert docker("history", "-q", "--no-trunc", f"{unique}:v1").stdout.startswith("sha256:")
    inspected = json.loads(docker("image", "inspect", f"{unique}:v1").stdout)[0]
    assert f"{unique}:v1" in inspected["RepoTags"]
    assert docker("rmi", f"{unique}:v1").stdout == f"Untagged: {unique}:v1\n"
    done = docker("rmi", f"{unique}:v1", check=False)
    assert (done.returncode, f"No such image: {unique}:v1" in done.stderr) == (1, True)


def test_save_load_import_export_commit(
    docker: Docker, container: Callable[..., str], tmp_path: Path, unique: str
) -> None:
    identity = container("sh", "-c", "echo changed > /changed; sleep 60")
    for _ in range(50):
        if docker("exec", identity, "cat", "/changed", check=False).stdout:
            break
        time.sleep(0.05)
    docker("commit", "-m", "note", "-c", 'CMD ["cat", "/changed"]', identity, f"{unique}:c")
    assert docker("run", "--rm", f"{unique}:c").stdout == "changed\n"

    archive = tmp_path / "image.tar"
    docker("save", "-o", str(archive), f"{unique}:c", "busybox")
    docker("rmi", f"{unique}:c")
    assert f"Loaded image: {unique}:c\n" in docker("load", "-i", str(archive)).stdout
    assert docker("run", "--rm", f"{unique}:c").stdout == "changed\n"

    rootfs = docker("export", identity, text=False).stdout
    assert "changed" in names_in(rootfs)
    (tmp_path / "rootfs.tar").write_bytes(rootfs)
    imported = docker("import", "-c", "ENV A=b", str(tmp_path / "rootfs.tar"), f"{unique}:i").stdout.strip()
    assert imported.startswith("sha256:")
    assert docker("run", "--rm", f"{unique}:i", "sh", "-c", "echo $A; cat /changed").stdout == "b\nchanged\n"
    docker("rmi", f"{unique}:c", f"{unique}:i")


def test_events_replay_and_live(docker: Docker, named: str) -> None:
    begin = str(time.time())
    docker("run", "--name", named, "busybox", "true")
    docker("rm", named)
    lines = docker("events", "--since", begin, "--until", str(time.time()), "--filter", f"container={named}").stdout
    actions = re.findall(r" container (\w+) ", lines)
    assert actions == ["create", "attach", "start", "die", "destroy"]


def test_stats_df_and_prune(docker: Docker, container: Callable[..., str], unique: str) -> None:
    identity = container("sleep", "60")
    row = docker("stats", "--no-stream", "--format", "{{.Container}} {{.MemUsage}} {{.PIDs}}", identity).stdout
    assert re.match(rf"{identity} [\d.]+\w+ / [\d.]+\w+ 1\n", row)
    table = docker("system", "df").stdout
    for kind in ("Images", "Containers", "Local Volumes", "Build Cache"):
        assert kind in table
    docker("system", "df", "-v")
    docker("create", "--name", unique, "busybox")
    docker("container", "prune", "-f")
    assert docker("inspect", unique, check=False).returncode == 1
    assert "Total reclaimed space" in docker("image", "prune", "-f").stdout
    assert docker("inspect", "-f", "{{.State.Running}}", identity).stdout == "true\n"


def test_volumes_and_networks(docker: Docker, unique: str) -> None:
    assert docker("volume", "create", unique).stdout == f"{unique}\n"
    docker("run", "--rm", "-v", f"{unique}:/data", "busybox", "sh", "-c", "echo kept > /data/f")
    assert docker("run", "--rm", "-v", f"{unique}:/data", "busybox", "cat", "/data/f").stdout == "kept\n"
    assert unique in docker("volume", "ls", "-q").stdout.split()
    assert json.loads(docker("volume", "inspect", unique).stdout)[0]["Driver"] == "local"
    docker("volume", "rm", unique)
    assert {"host", "none"} <= set(docker("network", "ls", "--format", "{{.Name}}").stdout.split())
    assert json.loads(docker("network", "inspect", "none").stdout)[0]["Driver"] == "null"
    interfaces = docker("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net").stdout.split()
    assert interfaces == ["lo"]


def test_what_there_is_not_answers_plainly(docker: Docker) -> None:
    done = docker("pull", "localhost:1/no/such", check=False)
    assert done.returncode == 1
    assert "localhost:1" in done.stderr
    assert "not a swarm manager" in docker("service", "ls", check=False).stderr
    assert "not a swarm manager" in docker("network", "create", "-d", "overlay", "n", check=False).stderr


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_health_and_restart_policy(docker: Docker, named: str) -> None:
    docker(
        "run", "-d", "--name", named, "--health-cmd", "test -e /up", "--health-interval", "100ms",
        "--health-retries", "2", "--restart", "on-failure:1", "busybox", "sh", "-c", "sleep 60 & wait; exit 5",
    )  # fmt: skip

    def status() -> str:
        return str(docker("ps", "-a", "--filter", f"name={named}", "--format", "{{.Status}}").stdout)

    assert eventually(lambda: "(unhealthy)" in status())
    docker("exec", named, "touch", "/up")
    assert eventually(lambda: "(healthy)" in status())

    def restarts() -> str:
        return str(docker("inspect", "-f", "{{.RestartCount}}", named).stdout)

    def killed_until(done: Callable[[], bool]) -> bool:
        docker("exec", named, "killall", "sleep", check=False)
        return done()

    assert eventually(lambda: killed_until(lambda: restarts() == "1\n"))
    assert eventually(lambda: "Up" in status() or "Exited (5)" in status())
    assert eventually(lambda: killed_until(lambda: "Exited (5)" in status()))
    assert restarts() == "1\n"


def test_update_rename_pause_and_port(docker: Docker, named: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("limits and pausing take control groups")
    docker("run", "-d", "--name", named, "-p", "127.0.0.1:0:80", "-m", "64m", "busybox", "sleep", "60")
    docker("update", "-m", "128m", "--memory-swap", "256m", "--restart", "always", named)
    limits = docker("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", named).stdout
    assert limits == f"{128 << 20} always\n"
    assert re.fullmatch(r"127\.0\.0\.1:\d+\n", docker("port", named, "80").stdout)
    docker("pause", named)
    assert "(Paused)" in docker("ps", "--filter", f"name={named}", "--format", "{{.Status}}").stdout
    docker("unpause", named)
    assert docker("top", named, "-o", "pid,comm").stdout.split()[-1] == "sleep"
    docker("restart", "-t", "0", named)
    docker("rename", named, f"{named}-b")
    docker("rename", f"{named}-b", named)
    assert docker("kill", "-s", "KILL", named).stdout == f"{named}\n"


def test_init_reaps_and_passes_signals_on(docker: Docker) -> None:
    done = docker("run", "--rm", "--init", "busybox", "sh", "-c", "cat /proc/1/comm; exit 9", check=False)
    assert (done.stdout, done.returncode) == ("docker-init\n", 9)


@pytest.mark.skipif(os.geteuid() != 0, reason="other runtimes are run as root")
@pytest.mark.parametrize("name", ["runc", "buildtool-oci"])
def test_other_runtimes_by_name_and_by_path(docker: Docker, named: str, name: str) -> None:
    path = shutil.which(name) or str(Path(sys.executable).parent / name)
    if not Path(path).exists():
        pytest.skip(f"there is no {name} here")
    runtime = name if shutil.which(name) else path
    done = docker("run", "--rm", "-i", "--runtime", runtime, "busybox", "sh", "-c", "cat; ip addr; exit 3",
                  input="in\n", check=False)  # fmt: skip
    assert (done.stdout.startswith("in\n"), " eth0" in done.stdout, done.returncode) == (True, True, 3)
    docker("run", "-d", "--name", named, "--runtime", runtime, "-m", "64m", "busybox", "sleep", "60")
    assert docker("inspect", "-f", "{{.HostConfig.Runtime}}", named).stdout.strip() == runtime
    assert docker("exec", named, "cat", "/proc/1/comm").stdout == "sleep\n"
    assert "64MiB" in docker("stats", "--no-stream", "--format", "{{.MemUsage}}", named).stdout
    docker("restart", "-t", "0", named)
    done = docker("run", "--rm", "--runtime", runtime, "busybox", "nope", check=False)
    assert (done.returncode, "executable file not found in $PATH" in done.stderr) == (127, True)
    assert (
        "unknown or invalid runtime name: /no/such"
        in docker("run", "--rm", "--runtime", "/no/such", "busybox", check=False).stderr
    )
