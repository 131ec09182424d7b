"""Builds that share steps, cancelled at random, their daemon killed at random: a clean store and right results."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox

TARGETS = 4


@pytest.fixture
def victim(make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon to kill, with busybox in it."""
    daemon = make_daemon()
    load_busybox(daemon)
    yield daemon
    daemon.close()


def buildfile(version: int, mark: str) -> str:
    """Stages that all targets stand on, and targets that copy from each other's ground."""
    lines = [
        f"FROM busybox AS ground\nRUN echo {mark} {version // 3} > /ground; sleep 0.15",
        "FROM ground AS left\nCOPY src /src\nRUN cat /ground /src/a > /left; sleep 0.1",
        "FROM ground AS right\n"
        "RUN --mount=type=cache,target=/c,sharing=locked echo x >> /c/n; echo r > /right; sleep 0.1",
    ]
    for number in range(TARGETS):
        lines.append(
            f"FROM busybox AS t{number}\nCOPY --from=left /left /\nCOPY --from=right /right /\n"
            f"WORKDIR /w\nRUN echo {number} {version} > own; cat /left /right own > all; sleep 0.05"
        )
    return "\n".join(lines) + "\n"


def expected(version: int, number: int, content: str, mark: str) -> str:
    return f"{mark} {version // 3}\n{content}\nr\n{number} {version}\n"


@pytest.mark.parametrize("seed", range(int(os.environ.get("BUILDTOOL_STORMS", "2"))))
def test_a_storm_of_builds_cancellations_and_kills(victim: Daemon, tmp_path: Path, seed: int) -> None:
    """Given builds of overlapping graphs, when clients go away and the daemon is killed -9 in between, then every
    image has what a build alone gives, the check finds nothing, and no mount is left.
    """
    chance = random.Random(seed)
    mark = f"storm{os.getpid()}x{seed}"
    (tmp_path / "src").mkdir()
    cli = Program(BUILDTOOL, {**victim.environment, "NO_COLOR": "1"})
    environment = {**victim.environment, "BUILDTOOL_AUTOSTART": "0"}
    for version in range(4):
        content = f"content {version // 2}"
        (tmp_path / "src" / "a").write_text(content + "\n")
        (tmp_path / "Buildfile").write_text(buildfile(version, mark))
        clients = [
            subprocess.Popen(
                [
                    BUILDTOOL,
                    "build",
                    "--network",
                    "none",
                    "-t",
                    f"{mark}-{n}:{version}",
                    "--target",
                    f"t{n}",
                    tmp_path,
                ],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for n in range(TARGETS)
        ]
        for client in chance.sample(clients, 2):
            time.sleep(chance.uniform(0.0, 0.4))
            client.send_signal(chance.choice((2, 9, 15)))
        if chance.random() < 0.6:
            time.sleep(chance.uniform(0.0, 0.4))
            victim.kill()
            for client in clients:
                client.wait(timeout=30)
            victim.start()
        for client in clients:
            client.wait(timeout=60)
        cli("system", "check")
        for number, client in enumerate(clients):
            name = f"{mark}-{number}:{version}"
            if client.returncode != 0:
                cli("build", "--network", "none", "-t", name, "--target", f"t{number}", tmp_path)
            found = cli("run", "--rm", "--network", "none", name, "cat", "/w/all").stdout
            assert found == expected(version, number, content, mark)
    statuses = set(cli("history", "ls", "--format", "{{.Status}}").stdout.split())
    assert "completed" in statuses
    assert "running" not in statuses
    cli("system", "check")
    assert not _mounts(victim)


def _mounts(daemon: Daemon) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(daemon.root) in line]
