"""`build --secret`, `--ssh`, `--allow` and the limits, from the command line to the step."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildtool.cache import memory_files
from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox
from tests.e2e.test_rootless_networks import PlainDaemon


@pytest.fixture
def build(cli: Program, busybox_image: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`build("RUN …", "--flag")` builds busybox with one instruction more."""

    def run(instruction: str, *flags: str, **options: object) -> subprocess.CompletedProcess[str]:
        (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\n{instruction}\n")
        arguments = ("build", "--network", "none", "--progress", "plain", *flags, str(tmp_path))
        return cli(*arguments, **options)  # type: ignore[arg-type]

    return run


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """The socket of an ssh-agent with one key, and the key's file beside it."""
    socket, key = tmp_path / "agent", tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test-key", "-f", key], check=True)
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    subprocess.run(["ssh-add", "-q", key], env={**os.environ, "SSH_AUTH_SOCK": str(socket)}, check=True)
    yield str(socket)
    process.terminate()
    process.wait()
    process.stdout.close()


# The agent protocol's "list identities", by hand: busybox has no ssh. The answer holds the key's comment.
ASK = r"""import os, socket, sys
agent = socket.socket(socket.AF_UNIX); agent.connect(sys.argv[1])
agent.sendall(b"\0\0\0\1\x0b"); size = int.from_bytes(agent.recv(4, socket.MSG_WAITALL), "big")
print(agent.recv(size, socket.MSG_WAITALL))
"""


def test_secrets_from_files_and_the_environment(
    build: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "s.txt").write_bytes(b"from\0file")
    mounts = "--mount=type=secret,id=f --mount=type=secret,id=e,env=E,target=/e,mode=0444 --mount=type=secret,id=BARE"
    done = build(
        f"RUN {mounts} wc -c < /run/secrets/f; stat -c %a /e; echo $E | cut -c1-3; wc -c < /run/secrets/BARE",
        *("--secret", f"id=f,src={tmp_path}/s.txt", "--secret", "id=e,env=SOME", "--secret", "id=BARE"),
        env={"SOME": "abcdefgh", "BARE": "12345"},
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("#2 0.")]
    assert [line.rpartition(" ")[2] for line in lines] == ["9", "444", "abc", "5"]
    for flag, words in (
        ("id=x,src=/nowhere", "No such file"),
        ("id=x,env=NOT_SET_HERE", "is not set"),
        ("src", "no key=value pair"),
        ("id=x,color=red", "unexpected key"),
        ("id=x,type=magic,src=y", "unsupported secret type"),
    ):
        failed = build("RUN true", "--secret", flag, check=False)
        assert failed.returncode != 0 and words in failed.stderr and "Traceback" not in failed.stderr


def test_a_required_secret_that_is_not_given(build: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = build("RUN --mount=type=secret,id=need,required true", check=False)
    assert "secret need: not found" in done.stderr and "--secret id=need" in done.stderr


def test_secret_values_are_in_no_byte_that_is_written(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """Store, history, records, logs, run directory: after a good build, a failed one, and a kill in the middle."""
    daemon = make_daemon("--log-level", "debug")
    load_busybox(daemon)
    cli = Program(BUILDTOOL, {**daemon.environment, "NO_COLOR": "1", "THE_SECRET": "s3cr3t-Value-84217"})
    values = [b"s3cr3t-Value-84217"]
    values += [base64.b64encode(pad + values[0])[4:-4] for pad in (b"", b"x", b"xy")]
    flags = ("--network", "none", "--progress", "plain", "--explain", "--secret", "id=s,env=THE_SECRET")
    mount = "RUN --mount=type=secret,id=s,env=S --mount=type=secret,id=s,target=/s"

    def assert_nowhere() -> None:
        for top, _, files in os.walk(daemon.root):
            for path in (Path(top, name) for name in files):
                with contextlib.suppress(FileNotFoundError):  # the daemon tidies meanwhile
                    if path.is_file() and not path.is_symlink():
                        data = path.read_bytes()
                        assert not any(value in data for value in values), path

    (tmp_path / "Buildfile").write_text(f"FROM busybox\n{mount} test -n $S && echo $S && cat /s && echo > /made\n")
    done = cli("build", *flags, "-t", "good:1", tmp_path)
    assert values[0].decode() not in done.stderr and "***" in done.stderr
    assert values[0].decode() not in cli("history", "good:1").stdout
    (tmp_path / "Buildfile").write_text(f"FROM busybox\n{mount} cat /s; exit 3\n")
    failed = cli("build", *flags, tmp_path, check=False)
    assert failed.returncode == 1 and values[0].decode() not in failed.stderr
    (tmp_path / "Buildfile").write_text(f"FROM busybox\n{mount} echo begun; sleep 60\n")
    running = subprocess.Popen(
        [cli.program, "build", *flags, str(tmp_path)], env=cli.environment, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    while "begun" not in running.stderr.readline():
        pass
    assert_nowhere()
    daemon.kill()
    running.communicate()
    assert_nowhere()
    builds = daemon.data / "run" / "builds"
    assert [path for place in memory_files.remembered(builds) for path in place.glob("build-*")]
    daemon.start()
    assert_nowhere()
    assert not [path for place in memory_files.remembered(builds) for path in place.glob("build-*")]
    daemon.close()


def test_build_args_called_like_secrets_are_in_no_byte_that_is_written(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """Neither in store, history, records, logs and caches that travel, nor in what commands tell of the build."""
    daemon = make_daemon("--log-level", "debug")
    load_busybox(daemon)
    cli = Program(BUILDTOOL, {**daemon.environment, "NO_COLOR": "1"})
    context, cache, exported = tmp_path / "context", tmp_path / "cache", tmp_path / "build.tgz"
    context.mkdir()
    values = ["t0ken-Value-58213", "0ther-Value-90417"]
    text = "FROM busybox\nARG API_TOKEN\nRUN echo $API_TOKEN; test $API_TOKEN != {}\n"
    told = []
    for value, other in [(values[0], "x"), (values[1], "x"), (values[1], "$API_TOKEN")]:
        (context / "Buildfile").write_text(text.format(other))
        flags = ("--network", "none", "--progress", "plain", "--explain", "--build-arg", f"API_TOKEN={value}")
        done = cli("build", *flags, "-t", "t:1", "--cache-to", f"type=local,dest={cache}", context, check=False)
        assert (done.returncode == 0) == (other == "x"), done.stderr
        told += [done.stderr, *(cli("history", verb).stdout for verb in ("inspect", "explain", "trace", "logs"))]
    told += [cli("history", "t:1").stdout]
    cli("history", "export", "-o", exported, "^0")
    with tarfile.open(exported) as archive:
        files = [archive.extractfile(member) for member in archive.getmembers()]
        told += [file.read().decode() for file in files if file is not None]

    assert "ARG API_TOKEN changed: '***' → '***'" in told[5]
    assert not [text for text in told if any(value in text for value in values)]
    forms = [value.encode() for value in values]
    forms += [base64.b64encode(pad + value)[4:-4] for value in forms for pad in (b"", b"x", b"xy")]
    daemon.close()
    for top, _, names in (*os.walk(daemon.root), *os.walk(cache)):
        for path in (Path(top, name) for name in names):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                assert not any(form in data for form in forms), path


def test_an_agent_is_forwarded(cli: Program, busybox_image: str, agent: str, tmp_path: Path) -> None:
    """A step asks the agent for its keys through the socket; nothing of the session is left afterwards."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Buildfile").write_text(
        f"FROM {busybox_image}\nRUN --mount=type=ssh,required echo begun; while [ ! -e /c/go ]; do sleep 0.1; done\n"
    )
    text = (
        (context / "Buildfile")
        .read_text()
        .replace("=ssh,required", "=ssh,required --mount=type=cache,id=go-ssh,target=/c")
    )
    (context / "Buildfile").write_text(text)
    for ssh, environment in (
        ("default", {"SSH_AUTH_SOCK": agent}),
        (f"default={agent}", {}),
        (f"default={tmp_path}/key", {}),
    ):
        flags = ("build", "--no-cache", "--network", "none", "--progress", "plain", "--ssh", ssh, str(context))
        process = subprocess.Popen(
            [cli.program, *flags], env={**cli.environment, **environment}, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        while "0." not in (line := process.stderr.readline()) or "begun" not in line:
            assert line, "the build ended early"
        pids = subprocess.run(
            ["pgrep", "-f", "while \\[ ! -e /c/go"], capture_output=True, text=True, check=True
        ).stdout.split()
        root = next(f"/proc/{pid}/root" for pid in pids if Path(f"/proc/{pid}/root/run/buildkit").is_dir())
        asked = subprocess.run(
            ["python3", "-c", ASK, f"{root}/run/buildkit/ssh_agent.0"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert "test-key" in asked.stdout, (ssh, asked.stderr)
        Path(f"{root}/c/go").touch()
        process.stderr.read()
        assert process.wait(20) == 0
        process.stderr.close()
        cli(
            "build",
            "-q",
            "--no-cache",
            "--network",
            "none",
            "-",
            input=f"FROM {busybox_image}\nRUN --mount=type=cache,id=go-ssh,target=/c rm /c/go\n",
        )


def test_faults_of_ssh_flags(build: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    for flag, words in (
        ("default", "SSH_AUTH_SOCK is not set"),
        ("x=/nowhere", "No such file"),
        ("=y", "has no name"),
        (f"k={__file__}", "cannot be used"),
    ):
        failed = build("RUN true", "--ssh", flag, check=False, env={"SSH_AUTH_SOCK": ""})
        assert failed.returncode != 0 and words in failed.stderr and "Traceback" not in failed.stderr
    needed = build("RUN --mount=type=ssh,required true", check=False)
    assert "ssh agent default: not found" in needed.stderr


def test_entitlements_are_asked_for_and_granted(build: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    for instruction, name in (
        ("RUN --security=insecure true", "security.insecure"),
        ("RUN --network=host true", "network.host"),
        ("RUN --device=/dev/null true", "device=/dev/null"),
    ):
        refused = build(instruction, check=False)
        assert f"{name} is not allowed" in refused.stderr and f"--allow {name}" in refused.stderr
        build(instruction, "--allow", name)
    assert "unknown entitlement" in build("RUN true", "--allow", "everything", check=False).stderr


def test_the_daemons_policy_comes_first(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = make_daemon("--entitlement", "none")
    load_busybox(daemon)
    cli = Program(BUILDTOOL, {**daemon.environment, "NO_COLOR": "1"})
    (tmp_path / "Buildfile").write_text("FROM busybox\nRUN true\n")
    for flags in (("--allow", "security.insecure"), ("--network", "host")):
        refused = cli("build", *flags, tmp_path, check=False)
        assert "is not allowed by build daemon configuration" in refused.stderr
    cli("build", "-q", "--network", "none", tmp_path)
    daemon.close()


def test_limits_are_checked_and_applied(build: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = build(
        "RUN ulimit -n; df -k /dev/shm | tail -1; cat /etc/hosts",
        *("--ulimit", "nofile=99:100", "--shm-size", "3m", "--add-host", "db:10.1.1.1", "--memory", "64m"),
        *("--cpu-shares", "512", "--cpuset-cpus", "0"),
    )
    assert " 99\n" in done.stderr and "3072" in done.stderr and "10.1.1.1\tdb" in done.stderr
    assert "Minimum memory limit" in build("RUN true", "--memory", "1m", check=False).stderr
    assert "not available" in build("RUN true", "--cpuset-cpus", "4000", check=False).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a plain user's steps have no control groups to be known by")
def test_a_client_that_dies_takes_its_build_along(
    cli: Program, daemon: Daemon, busybox_image: str, tmp_path: Path
) -> None:
    """No process, mount, control group or directory of the step is left, whether by SIGKILL or by SIGINT."""
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        mark = f"{50000 + time.monotonic_ns() % 40000}.5"
        (tmp_path / "Buildfile").write_text(
            f"FROM {busybox_image}\nRUN --mount=type=tmpfs,target=/t "
            f"--mount=type=cache,sharing=locked,id=dies,target=/c "
            f"--mount=type=secret,id=s echo begun; sleep {mark}\n"
        )
        process = subprocess.Popen(
            [
                cli.program,
                "build",
                "--network",
                "none",
                "--progress",
                "plain",
                "--secret",
                "id=s,env=HOME",
                str(tmp_path),
            ],
            env={**cli.environment, "HOME": "/root/long-enough"},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        while "begun" not in (line := process.stderr.readline()) or "0." not in line:
            assert line
        name = step_of(mark)
        process.send_signal(number)
        process.wait(20)
        process.stderr.close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (left := remains(daemon, mark, name)):
            time.sleep(0.1)
        assert not left, (number, left)
    cli(
        "build",
        "-q",
        "--network",
        "none",
        "-",
        input=f"FROM {busybox_image}\nRUN --mount=type=cache,sharing=locked,id=dies,target=/c true\n",
    )


def step_of(mark: str) -> str:
    """The name of the step's container: the one of its control groups."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, text=True, check=False)
        for pid in found.stdout.split():
            with contextlib.suppress(OSError):
                match = re.search(r"build-[0-9a-f]{16}", Path(f"/proc/{pid}/cgroup").read_text())
                if match is not None:
                    return match[0]
    raise AssertionError("the step did not begin")


def remains(daemon: Daemon, mark: str, name: str) -> list[str]:
    """What is left of a step."""
    left = subprocess.run(
        ["pgrep", "-f", f"sleep {mark}"], capture_output=True, text=True, check=False
    ).stdout.split()
    left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(daemon.root) in line]
    for place in (daemon.root, "/dev/shm", "/sys/fs/cgroup"):  # os.walk: other daemons' groups go while one looks
        for top, folders, files in os.walk(place):
            left += [f"{top}/{entry}" for entry in folders + files if entry == name]
    return left


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="the kernel has no tun device")
def test_secrets_of_a_plain_users_killed_daemon_go_at_its_next_start(tmp_path: Path) -> None:
    daemon = PlainDaemon("none")
    try:
        daemon.start()
        load_busybox(daemon)
        (tmp_path / "secret").write_text("hidden-from-all")
        run = "RUN --network=none --mount=type=secret,id=s,target=/s cat /s > /dev/null; echo begun; sleep 60"
        (tmp_path / "Buildfile").write_text(f"FROM busybox\n{run}\n")
        command = [
            BUILDTOOL,
            "build",
            "--progress",
            "plain",
            "--secret",
            f"id=s,src={tmp_path}/secret",
            str(tmp_path),
        ]
        running = subprocess.Popen(command, env=daemon.environment, stderr=subprocess.PIPE, text=True)
        assert running.stderr is not None
        for line in running.stderr:
            if line.rstrip().endswith(" begun"):
                break
        builds = daemon.data / "run" / "builds"
        places = memory_files.remembered(builds)
        assert [path for place in places for path in place.glob("build-*")]
        daemon.kill()
        running.communicate()
        daemon.start()
        assert not [path for place in places for path in place.glob("build-*")]
        assert not any(place.exists() and list(place.iterdir()) for place in places)
    finally:
        daemon.close()
