"""`run`, `exec`, `start`, `attach` and their exit codes, streams and flags, on a real daemon."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program

Cli = Program
NONE = ("--network", "none")


@pytest.fixture
def container(cli: Cli, busybox_image: str) -> Iterator[Callable[..., str]]:
    """`container(*flags, *command)` runs one in the background; all are removed afterwards."""
    made: list[str] = []

    def start(*arguments: str, flags: tuple[str, ...] = ()) -> str:
        made.append(cli("run", "-d", *NONE, *flags, busybox_image, *arguments).stdout.strip())
        return made[-1]

    yield start
    if made:
        cli("rm", "-f", *made, check=False)


def test_output_input_and_exit_code(cli: Cli, busybox_image: str) -> None:
    script = "cat; echo problem >&2; exit 3"
    done = cli("run", "-i", "--rm", *NONE, busybox_image, "sh", "-c", script, input="typed\n", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("typed\n", "problem\n", 3)
    assert cli("ps", "-aq").stdout == ""


def test_a_lot_of_output_is_not_lost(cli: Cli, busybox_image: str) -> None:
    done = cli("run", "--rm", *NONE, busybox_image, "sh", "-c", "seq 1 100000")
    assert done.stdout == "".join(f"{number}\n" for number in range(1, 100001))


def test_megabytes_through_a_pipe_and_back(cli: Cli, busybox_image: str) -> None:
    data = os.urandom(3_000_000)
    done = cli("run", "-i", "--rm", *NONE, busybox_image, "cat", input=data, text=False)
    assert done.stdout == data


def test_short_runs_lose_nothing(cli: Cli, busybox_image: str) -> None:
    for number in range(5):
        assert cli("run", "--rm", *NONE, busybox_image, "echo", str(number)).stdout == f"{number}\n"


def test_environment_user_directory_and_mounts(cli: Cli, busybox_image: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("FILE=1\n")
    (tmp_path / "data").write_text("from the host\n")
    done = cli(
        *(
            "run",
            "--rm",
            *NONE,
            "-e",
            "A=x",
            "-e",
            "PASSED",
            "--env-file",
            tmp_path / "env",
            "-w",
            "/tmp",
            "-u",
            "12:34",
        ),
        *("-v", f"{tmp_path}/data:/data:ro", "--mount", "type=tmpfs,dst=/scratch", "--hostname", "h", busybox_image),
        *(
            "sh",
            "-c",
            "echo $A $PASSED $FILE $(pwd) $(id -u):$(id -g) $(hostname); cat /data; grep -c /scratch /proc/mounts",
        ),
        env={"PASSED": "yes"},
    )
    assert done.stdout == "x yes 1 /tmp 12:34 h\nfrom the host\n1\n"


def test_detached_runs_print_the_id_and_write_the_cidfile(cli: Cli, busybox_image: str, tmp_path: Path) -> None:
    done = cli("run", "-d", "--cidfile", tmp_path / "cid", *NONE, busybox_image, "sleep", "100")
    identifier = done.stdout.strip()
    assert len(identifier) == 64 and (tmp_path / "cid").read_text() == identifier
    assert cli("ps", "-q", "--no-trunc").stdout.split() == [identifier]
    assert cli("rm", "-f", identifier[:12]).stdout == f"{identifier[:12]}\n"


def test_failed_starts_leave_nothing_with_rm(cli: Cli, busybox_image: str) -> None:
    done = cli("run", "--rm", *NONE, busybox_image, "no-such-command", check=False)
    assert done.returncode == 127
    assert done.stderr.startswith("buildtool: Error response from daemon: ")
    assert "Run 'buildtool run --help' for more information" in done.stderr
    for _ in range(50):
        if cli("ps", "-aq").stdout == "":
            break
        time.sleep(0.05)
    assert cli("ps", "-aq").stdout == ""


def test_create_start_attach_and_wait(cli: Cli, busybox_image: str) -> None:
    identifier = cli(
        "create", "-i", *NONE, busybox_image, "sh", "-c", "read line; echo got $line; exit 5"
    ).stdout.strip()
    done = cli("start", "-ai", identifier, input="hello\n", check=False)
    assert (done.stdout, done.returncode) == ("got hello\n", 5)
    assert cli("wait", identifier).stdout == "5\n"
    assert cli("logs", identifier).stdout == "got hello\n"
    cli("rm", identifier)


def test_signals_to_the_client_reach_the_container(cli: Cli, busybox_image: str) -> None:
    script = "trap 'echo got TERM; exit 6' TERM; echo ready; while true; do sleep 0.05; done"
    process = subprocess.Popen(
        [cli.program, "run", "--rm", *NONE, busybox_image, "sh", "-c", script],
        env=cli.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.stdout.read() == "got TERM\n"
    assert process.wait(20) == 6
    process.stdout.close()


def test_exec(cli: Cli, container: Callable[..., str]) -> None:
    name = container("sleep", "100")
    done = cli(
        "exec",
        "-i",
        "-e",
        "A=b",
        "-w",
        "/tmp",
        name,
        "sh",
        "-c",
        "cat; pwd; echo $A; exit 2",
        input="in ",
        check=False,
    )
    assert (done.stdout, done.returncode) == ("in /tmp\nb\n", 2)
    assert cli("exec", name, "no-such-command", check=False).returncode == 127
    assert cli("exec", "-d", name, "touch", "/made").stdout == ""
    for _ in range(50):
        if cli("exec", name, "test", "-e", "/made", check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise AssertionError("exec -d did nothing")


def test_exec_in_what_does_not_run(cli: Cli, busybox_image: str) -> None:
    identifier = cli("create", *NONE, busybox_image).stdout.strip()
    done = cli("exec", identifier, "true", check=False)
    assert done.returncode == 1 and "is not running" in done.stderr
    cli("rm", identifier)


def test_a_tty_needs_a_terminal(cli: Cli, busybox_image: str) -> None:
    done = cli("run", "-it", busybox_image, check=False)
    assert (done.returncode, done.stderr) == (1, "the input device is not a TTY\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="pausing takes a freezer control group")
def test_stop_restart_pause_rename_update(cli: Cli, container: Callable[..., str]) -> None:
    name = container(
        "sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.05; done", flags=("--name", f"life-{os.getpid()}")
    )

    def status() -> str:
        return str(cli("inspect", "-f", "{{.State.Status}}", name).stdout.strip())

    assert cli("pause", name).stdout == f"{name}\n" and status() == "paused"
    cli("unpause", name)
    cli("stop", "-t", "3", name)
    assert status() == "exited"
    cli("start", name)
    cli("restart", "-t", "1", name)
    assert status() == "running"
    cli("update", "--memory", "128m", "--memory-swap", "-1", name)
    assert cli("inspect", "-f", "{{.HostConfig.Memory}}", name).stdout == f"{128 << 20}\n"
    cli("rename", name, f"renamed-{os.getpid()}")
    assert (
        cli("ps", "--format", "{{.Names}}", "--filter", f"name=renamed-{os.getpid()}").stdout
        == f"renamed-{os.getpid()}\n"
    )
    assert cli("kill", "-s", "KILL", name).stdout == f"{name}\n"


def test_logs(cli: Cli, container: Callable[..., str]) -> None:
    name = container("sh", "-c", "for i in 1 2 3; do echo out $i; echo err $i >&2; done")
    cli("wait", name)
    done = cli("logs", name)
    assert (done.stdout, done.stderr) == ("out 1\nout 2\nout 3\n", "err 1\nerr 2\nerr 3\n")
    assert (cli("logs", "-n", "1", name).stdout + cli("logs", "--tail", "1", name).stderr).count("3") == 1
    stamped = cli("logs", "-t", name).stdout.splitlines()[0]
    assert stamped.endswith(" out 1") and stamped.startswith("20") and "T" in stamped.split()[0]
    assert cli("logs", "--since", "1h", name).stdout == done.stdout
    assert cli("logs", "--until", "1h", name).stdout == ""


def test_files_go_in_and_come_out(cli: Cli, container: Callable[..., str], tmp_path: Path) -> None:
    name = container("sleep", "100")
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/f").write_text("content")
    cli("cp", tmp_path / "src", f"{name}:/new")
    cli("cp", f"{tmp_path}/src/.", f"{name}:/tmp")
    cli("cp", tmp_path / "src/sub/f", f"{name}:/tmp/renamed")
    assert cli("exec", name, "cat", "/new/sub/f", "/tmp/sub/f", "/tmp/renamed").stdout == "content" * 3
    cli("cp", f"{name}:/new", tmp_path / "out")
    assert (tmp_path / "out/sub/f").read_text() == "content"
    assert cli("cp", f"{name}:/tmp/renamed", "-", text=False).stdout.startswith(b"renamed\0")
    lines = cli("diff", name).stdout.splitlines()
    assert "A /new" in lines and "A /tmp/renamed" in lines
    missing = cli("cp", f"{name}:/no/such", tmp_path, check=False)
    assert missing.returncode == 1 and "/no/such" in missing.stderr
    absent = cli("cp", tmp_path / "nothing", f"{name}:/", check=False)
    assert absent.returncode == 1 and "no such file" in absent.stderr


def test_ps_and_inspect(cli: Cli, container: Callable[..., str], busybox_image: str) -> None:
    name = container("sleep", "100", flags=("--name", f"shown-{os.getpid()}", "-l", "role=web"))
    header, line = cli("ps", "--filter", f"id={name}").stdout.splitlines()
    assert header.split() == "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES".split()  # noqa: SIM905
    assert line.startswith(name[:12]) and '"sleep 100"' in line and line.endswith(f"shown-{os.getpid()}")
    done = cli("ps", "--filter", f"id={name}", "--format", '{{.Image}} {{.State}} {{.Label "role"}}')
    assert (
        done.stdout == f"{busybox_image.removesuffix(':latest')} running web\n"
        or done.stdout == f"{busybox_image} running web\n"
    )
    row = json.loads(cli("ps", "--filter", f"id={name}", "--format", "json").stdout)
    assert row["Names"] == f"shown-{os.getpid()}" and row["Labels"].count("role=web") == 1
    assert json.loads(cli("inspect", name).stdout)[0]["Config"]["Cmd"] == ["sleep", "100"]
    assert cli("inspect", "--format", "{{json .Config.Cmd}}", name).stdout == '["sleep","100"]\n'
    missing = cli("inspect", "no-such-thing", check=False)
    assert (missing.returncode, missing.stdout) == (1, "[]\n")
    assert missing.stderr == "Error: No such object: no-such-thing\n"
    titles = cli("top", name).stdout.splitlines()[0].split()
    assert "PID" in titles and "CMD" in titles
    stats = cli("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", name)
    assert stats.stdout == f"shown-{os.getpid()} 1\n"


def test_commit_and_export(cli: Cli, container: Callable[..., str], tmp_path: Path) -> None:
    name = container("sh", "-c", "echo kept > /kept; sleep 100")
    for _ in range(100):
        if cli("exec", name, "test", "-s", "/kept", check=False).returncode == 0:
            break
    identifier = cli("commit", "-c", 'CMD ["cat", "/kept"]', "-m", "why", name, "committed:1").stdout.strip()
    assert identifier.startswith("sha256:")
    assert cli("run", "--rm", *NONE, "committed:1").stdout == "kept\n"
    cli("export", "-o", tmp_path / "fs.tar", name)
    assert b"kept" in (tmp_path / "fs.tar").read_bytes()
    cli("rmi", "committed:1")


def test_a_privileged_container_has_devices_under_the_names_it_asks_for(cli: Program, busybox_image: str) -> None:
    words = ("run", "--rm", "--privileged", "--network", "none", "--device", "/dev/null:/dev/other", busybox_image)
    assert cli(*words, "ls", "/dev/other").stdout == "/dev/other\n"


def test_a_container_may_use_the_daemon_that_runs_it(cli: Cli, busybox_image: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auths": {"registry.example": {"auth": "bWU6c2VjcmV0"}}}')
    script = "test -S /var/run/docker.sock && cat $DOCKER_CONFIG/config.json"
    done = cli(
        "run", "--rm", "--use-api-socket", busybox_image, "sh", "-c", script, env={"DOCKER_CONFIG": str(tmp_path)}
    )
    assert json.loads(done.stdout) == {"auths": {"registry.example": {"auth": "bWU6c2VjcmV0"}}}


def test_without_a_network_there_is_only_the_loopback(cli: Cli, daemon: Any, busybox_image: str) -> None:
    body = {"Image": busybox_image, "Cmd": ["ls", "/sys/class/net"], "NetworkDisabled": True}
    identity = daemon.request("POST", "/containers/create", body)["Id"]
    daemon.request("POST", f"/containers/{identity}/start")
    daemon.request("POST", f"/containers/{identity}/wait")
    assert cli("logs", identity).stdout == "lo\n"
    cli("rm", identity)
