"""`build --debug` and `--debug-at`: shells in the trees of steps."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Daemon, Program
from tests.e2e.conftest import Terminal

FLAGS = ("build", "--network", "none", "--progress", "plain")


@pytest.fixture
def context(tmp_path: Path, busybox_image: str) -> Path:
    (tmp_path / "data").write_text("of the context\n")
    (tmp_path / "Buildfile").write_text(
        f"FROM {busybox_image} AS one\n"
        "ARG VERSION=7\n"
        "ENV COLOR=green\n"
        "WORKDIR /work\n"
        "COPY data .\n"
        "RUN --mount=type=tmpfs,target=/t --mount=type=secret,id=s,target=/s \\\n"
        "    echo made > made; \\\n"
        "    echo $VERSION; \\\n"
        "    exit 9\n"
    )
    return tmp_path


def clean(daemon: Daemon) -> bool:
    """Whether nothing of steps is left in the daemon's run directory, once their ends are through."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not list((daemon.data / "run" / "builds").glob("build-*")):
            return True
        time.sleep(0.05)
    return False


def test_a_failed_step_shows_all_its_lines(cli: Program, context: Path) -> None:
    done = cli(*FLAGS, context, check=False)
    assert done.returncode == 1
    for words in ("Buildfile:6:1:", "  6 | RUN --mount", "  8 |     echo $VERSION; \\", "  9 |     exit 9"):
        assert words in done.stderr
    assert "exit code: 9" in done.stderr and "last output:\n  7" in done.stderr


def test_a_shell_where_a_step_failed(cli: Program, daemon: Daemon, context: Path) -> None:
    """Without a terminal its commands come by STDIN. The tree, mounts, environment and directory are the step's."""
    script = "pwd; cat made data; echo $COLOR $VERSION; grep -c ' /t ' /proc/mounts; wc -c < /s; echo more > made\n"
    done = cli(*FLAGS, "--debug", "--secret", "id=s,env=S", context, input=script, check=False, env={"S": "12345"})
    assert done.stdout == "/work\nmade\nof the context\ngreen 7\n1\n5\n"
    assert done.returncode == 1 and "This step failed" in done.stderr and "exit code: 9" in done.stderr
    assert clean(daemon)


def test_a_step_that_is_tried_again_has_a_shell_at_the_last_try(
    cli: Program, context: Path, busybox_image: str
) -> None:
    (context / "Buildfile").write_text(f"FROM {busybox_image}\nRUN --retry=1 false\n")
    done = cli(*FLAGS, "--debug", context, input="echo here\n", check=False)
    assert done.stdout == "here\n" and done.stderr.count("This step failed") == 1


def test_a_shell_on_a_terminal(
    cli: Program, daemon: Daemon, context: Path, terminal: Callable[..., Terminal]
) -> None:
    build = terminal(cli, "build", "--network", "none", "--debug", str(context))
    build.expect("leave it with: exit")
    build.send("tty; stty size\n")
    build.expect("/dev/.*\r\n24 80")
    build.resize(30, 90)
    build.send("sleep 0.5; stty size\n")
    build.expect("30 90")
    build.send("exit\n")
    build.expect("exit code: 9")
    assert build.wait() == 1
    assert clean(daemon)


def test_stops_before_lines_and_stages(cli: Program, daemon: Daemon, context: Path, busybox_image: str) -> None:
    text = (context / "Buildfile").read_text().replace("exit 9", "true") + "FROM one AS two\nRUN echo last\n"
    (context / "Buildfile").write_text(text)
    for place, seen in (("8", "data\n"), ("5", ""), ("3", ""), ("two", "data\nmade\n")):
        done = cli(*FLAGS, "--debug-at", place, context, input="ls /work; touch /work/not-kept\n")
        assert done.stdout == seen, place
        assert "The build stops before this step" in done.stderr
    again = cli(*FLAGS, context)
    assert "all cached" in again.stderr
    for place, words in (("99", "no step of this build"), ("tw", "did you mean"), ("x", "no such stage")):
        refused = cli(*FLAGS, "--debug-at", place, context, check=False)
        assert refused.returncode == 1 and words in refused.stderr
    assert clean(daemon)


def test_a_build_is_aborted_from_its_debugger(
    cli: Program, daemon: Daemon, context: Path, terminal: Callable[..., Terminal]
) -> None:
    build = terminal(cli, "build", "--network", "none", "--debug-at", "one", str(context))
    build.expect("leave it with: exit")
    build.send("exit\n")
    build.expect("bort\\? ")
    build.send("s\n")
    build.send("exit\n")
    build.expect("bort\\? ")
    build.send("a\n")
    build.expect("ended from its debugger")
    assert build.wait() == 1
    assert clean(daemon)


def test_a_client_that_goes_while_in_a_shell_leaves_nothing(
    cli: Program, daemon: Daemon, context: Path, terminal: Callable[..., Terminal]
) -> None:
    build = terminal(cli, "build", "--network", "none", "--debug", str(context))
    build.expect("leave it with: exit")
    build.send("echo re''ady; sleep 98.7\n")
    build.expect("ready")
    os.kill(build.pid, signal.SIGKILL)
    assert clean(daemon)


def test_an_image_without_a_shell(cli: Program, daemon: Daemon, context: Path, busybox_image: str) -> None:
    (context / "Buildfile").write_text(
        f'FROM scratch\nCOPY --from={busybox_image} /bin/false /bin/false\nRUN ["/bin/false"]\n'
    )
    done = cli(*FLAGS, "--debug", context, check=False)
    assert "no shell can be run there" in done.stderr and "exit code: 1" in done.stderr
    assert clean(daemon)
