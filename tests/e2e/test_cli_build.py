"""`build` on a real daemon: where the input comes from, what is shown, and both ways of sending a context."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.conftest import Program

Cli = Program


@pytest.fixture
def context(tmp_path: Path, busybox_image: str) -> Path:
    (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\nARG V=none\nCOPY a /a\nRUN cat /a; echo V=$V\n")
    (tmp_path / "a").write_text(f"content of {tmp_path}\n")
    return tmp_path


def test_plain_progress_goes_to_stderr_and_the_second_build_is_cached(cli: Cli, context: Path) -> None:
    first = cli("build", "--network", "none", "--progress", "plain", "-t", "plain:1", context)
    assert first.stdout == ""
    assert f"content of {context}" in first.stderr and "V=none" in first.stderr
    assert "naming to plain:1 done" in first.stderr
    again = cli("build", "--network", "none", "--progress", "plain", "-t", "plain:1", context)
    assert again.stderr.count("CACHED") == 3
    assert "3 steps, all cached" in again.stderr
    cli("rmi", "plain:1")


def test_quiet_prints_the_id_that_the_iidfile_holds(cli: Cli, context: Path) -> None:
    done = cli("build", "-q", "--network", "none", "--iidfile", context / "iid", context)
    assert done.stdout.startswith("sha256:") and len(done.stdout) == 72 and done.stderr == ""
    assert (context / "iid").read_text() == done.stdout.strip()


def test_build_args_and_targets(cli: Cli, context: Path, busybox_image: str) -> None:
    (context / "Other").write_text(
        f"FROM {busybox_image} AS first\nARG A\nRUN echo A=$A\nLABEL stage=first\nFROM first AS second\nRUN exit 1\n"
    )
    done = cli(
        *(
            "build",
            "--network",
            "none",
            "--progress=plain",
            "-f",
            context / "Other",
            "--target",
            "first",
            "-t",
            "t:1",
        ),
        *("--build-arg", "A", "--label", "more=yes", context),
        env={"A": "from-here"},
    )
    assert "A=from-here" in done.stderr
    labels = json.loads(cli("inspect", "-f", "{{json .Config.Labels}}", "t:1").stdout)
    assert (labels["stage"], labels["more"]) == ("first", "yes")
    cli("rmi", "t:1")


def test_the_buildfile_by_stdin(cli: Cli, context: Path, busybox_image: str) -> None:
    text = f"FROM {busybox_image}\nCOPY a /piped\nRUN cat /piped\n"
    done = cli("build", "--network", "none", "--progress=plain", "-f", "-", context, input=text)
    assert f"content of {context}" in done.stderr
    alone = cli(
        "build", "--network", "none", "--progress=plain", "-", input=f"FROM {busybox_image}\nRUN echo alone\n"
    )
    assert "alone" in alone.stderr


def test_the_context_as_a_tar_by_stdin(cli: Cli, context: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name in ("a", "Buildfile"):
            tar.add(context / name, name)
    done = cli(
        "build",
        "-q",
        "--network",
        "none",
        "-f",
        "Buildfile",
        "-t",
        "tarred:1",
        "-",
        input=archive.getvalue(),
        text=False,
    )
    assert done.stdout.startswith(b"sha256:")
    cli("rmi", "tarred:1")


def test_both_ways_of_sending_a_context_give_the_same_image(cli: Cli, context: Path) -> None:
    """Over TCP, or from another machine, the daemon does not see the directory: a tar is sent instead."""
    (context / ".dockerignore").write_text("ignored\n")
    (context / "ignored").write_text("x")
    direct = cli("build", "-q", "--network", "none", context).stdout
    hidden = subprocess.run(
        # In a mount namespace of its own the client has another directory under the same path than the daemon.
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            'cp -a "$1" /dev/shm/copy.$$; mount --bind /dev/shm/copy.$$ "$1"; '
            '"$0" build -q --network none "$1"; code=$?; rm -rf /dev/shm/copy.$$; exit $code',
            cli.program,
            str(context),
        ],
        env=cli.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "unshare" in hidden.stderr or "mount" in hidden.stderr:
        pytest.skip("no mount namespaces for this user")
    assert (hidden.returncode, hidden.stdout) == (0, direct), hidden.stderr


def test_the_cache_may_be_left_out_for_some_stages(cli: Cli, tmp_path: Path, busybox_image: str) -> None:
    steps = "RUN cat /proc/sys/kernel/random/uuid > "
    (tmp_path / "Buildfile").write_text(
        f"FROM {busybox_image} AS Keeper\n{steps}/a\nFROM {busybox_image} AS anew\n{steps}/b\n"
        f"FROM {busybox_image}\nCOPY --from=keeper /a /\nCOPY --from=anew /b /\nCMD cat /a /b\n"
    )

    def build(*flags: str) -> list[str]:
        image = cli("build", "-q", "--network", "none", *flags, str(tmp_path)).stdout.strip()
        return str(cli("run", "--rm", "--network", "none", image).stdout).split()

    first, again, filtered = build(), build(), build("--no-cache-filter", "other,ANEW")
    assert first == again
    assert filtered[0] == first[0] and filtered[1] != first[1]


def test_explain_tells_why(cli: Cli, context: Path) -> None:
    cli("build", "-q", "--network", "none", context)
    (context / "a").write_text("changed\n")
    done = cli("build", "-q", "--explain", "--network", "none", context)
    lines = [line for line in done.stderr.splitlines() if "COPY a" in line]
    assert lines and "cached" not in lines[-1].rpartition(": ")[2]


def test_a_failed_build_shows_output_place_and_code(cli: Cli, context: Path, busybox_image: str) -> None:
    (context / "Buildfile").write_text(f"FROM {busybox_image}\nRUN echo before; exit 7\n")
    for flag in ("--progress=plain", "--progress=tty", "-q"):
        done = cli("build", "--network", "none", flag, context, check=False)
        assert done.returncode == 1 and done.stdout == ""
        assert "Buildfile:2:" in done.stderr and "before" in done.stderr and "7" in done.stderr


def test_an_interrupted_build_stops_and_leaves_nothing(cli: Cli, context: Path, busybox_image: str) -> None:
    mark = f"{87000 + os.getpid() % 1000}"
    (context / "Buildfile").write_text(f"FROM {busybox_image}\nRUN echo begun; sleep {mark}\n")
    process = subprocess.Popen(
        [cli.program, "build", "--network", "none", "--progress", "plain", context],
        env=cli.environment,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "begun" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(20) == 130
    assert "canceled" in rest
    process.stderr.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, check=False).returncode == 1:
            return
        time.sleep(0.1)
    raise AssertionError("the step's process is still there")
