"""kill -9 of the daemon in the middle of a build or a load: the next start works and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox


@pytest.fixture
def victim(make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon to kill, with busybox in it."""
    daemon = make_daemon()
    load_busybox(daemon)
    yield daemon
    daemon.close()


def program(daemon: Daemon) -> Program:
    return Program(BUILDTOOL, {**daemon.environment, "NO_COLOR": "1"})


def in_background(daemon: Daemon, *arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [BUILDTOOL, *map(str, arguments)]
    environment = {**daemon.environment, "BUILDTOOL_AUTOSTART": "0"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def leftovers(daemon: Daemon) -> dict[str, Any]:
    """What only a build or a load in flight may have."""
    ingest = daemon.data / "ingest"
    return {
        "ingest": sorted(os.listdir(ingest)) if ingest.exists() else [],
        "snapshots": sorted(os.listdir(daemon.data / "snapshots")),
        "mounts": [
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(daemon.root) in line
        ],
    }


def processes(text: str) -> list[str]:
    """The command lines that hold a text."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and int(pid) != os.getpid():
            found.append(line)
    return found


@pytest.mark.parametrize("delay", [0.05, 0.3, 0.7])
def test_daemon_killed_in_a_build(victim: Daemon, tmp_path: Path, delay: float) -> None:
    mark = f"61{os.getpid()}{int(delay * 100)}"
    (tmp_path / "Buildfile").write_text(
        f"FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=40\nRUN echo here && sleep {mark}\n"
    )
    client = in_background(victim, "build", "-t", "doomed", tmp_path)
    time.sleep(delay)
    victim.kill()
    output = client.communicate(timeout=20)[0]
    assert client.returncode != 0
    assert b"Traceback" not in output

    victim.start()
    cli = program(victim)
    cli("system", "check")
    assert "doomed" not in cli("images").stdout
    (tmp_path / "Buildfile").write_text("FROM busybox\nRUN echo fine > /fine\n")
    cli("build", "-t", "survivor", str(tmp_path))
    assert cli("run", "--rm", "--network", "none", "survivor", "cat", "/fine").stdout == "fine\n"
    assert not processes(f"sleep {mark}")


def test_daemon_killed_in_a_load_then_gc_leaves_nothing(victim: Daemon, tmp_path: Path) -> None:
    cli = program(victim)
    (tmp_path / "Buildfile").write_text("FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=60\n")
    cli("build", "-t", "big", str(tmp_path))
    archive = tmp_path / "big.tar"
    cli("save", "-o", str(archive), "big")
    cli("rmi", "-f", "big")
    cli("system", "prune", "-a", "-f")
    before = leftovers(victim)

    for delay in (0.1, 0.25, 0.4):
        client = in_background(victim, "load", "-i", archive)
        time.sleep(delay)
        victim.kill()
        client.communicate(timeout=20)
        victim.start()
        cli("system", "check")
        if "big" in cli("images").stdout:
            cli("rmi", "-f", "big")
        cli("system", "prune", "-a", "-f")
        assert leftovers(victim) == before

    assert "big" in cli("load", "-i", str(archive)).stdout
    assert cli("run", "--rm", "--network", "none", "big", "ls", "/big").stdout == "/big\n"


def test_containers_and_their_logs_survive_a_killed_daemon(victim: Daemon) -> None:
    cli = program(victim)
    script = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 5"
    container = cli("run", "-d", "--network", "none", "busybox", "sh", "-c", script).stdout.strip()
    time.sleep(0.5)
    victim.kill()
    time.sleep(0.3)
    victim.start()
    assert cli("inspect", "-f", "{{.State.Status}}", container).stdout.strip() == "running"
    assert cli("wait", container).stdout.strip() == "5"
    assert cli("logs", container).stdout.splitlines() == [f"line {i}" for i in range(300)]
