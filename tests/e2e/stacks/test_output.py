"""What a stack shows: output, logs, the tree on a terminal, where variables come from."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.stacks.helpers import LOOP, Stack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")


def test_logs_have_names_before_the_lines(stack: Stack) -> None:
    stack.write(
        """
        services:
          a: {image: busybox, command: [sh, -c, "echo one; echo two >&2"]}
          longer: {image: busybox, command: [echo, three]}
        """
    )
    stack("up", "-d", "--wait")
    told = stack("logs")
    assert "a-1       | one\n" in told.stdout and "longer-1  | three\n" in told.stdout
    assert "a-1       | two\n" in told.stderr
    assert stack("logs", "--no-log-prefix", "longer").stdout == "three\n"


def test_attached_up_shows_output_and_ends_with_the_containers(stack: Stack) -> None:
    stack.write("services: {a: {image: busybox, command: [sh, -c, 'echo working; exit 5']}}")
    done = stack("up", "--exit-code-from", "a", check=False)
    assert "a-1  | working" in done.stdout and "a-1 exited with code 5" in done.stdout
    assert done.returncode == 5
    assert stack("up").returncode == 0


def test_ctrl_c_stops_everything(stack: Stack) -> None:
    stack.write('services: {a: {image: busybox, command: [sh, -c, "echo begun; ' + LOOP + '"]}}')
    process = subprocess.Popen(
        [stack.cli.program, "up"],
        cwd=stack.folder,
        env=stack.cli.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "begun" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert "Gracefully stopping" in told and "a-1 exited with code 0" in out
    assert stack.containers() == {}


def test_a_terminal_shows_a_tree_with_states_and_last_lines(stack: Stack, terminal: Callable[..., Any]) -> None:
    stack.write(
        """
        services:
          web: {image: busybox, command: LOOP, depends_on: {job: {condition: service_completed_successfully}}}
          job: {image: busybox, command: [sh, -c, "echo from the job; sleep 0.5"]}
        """
    )
    shown = terminal(stack.cli, "compose", "-f", str(stack.folder / "compose.yaml"), "up", "-d")
    shown.expect("services")
    shown.expect("from the job", 20)
    shown.expect(f"{stack.name}-web-1.*Started", 20)
    assert shown.wait(20) == 0


def test_config_explains_where_a_variable_comes_from(stack: Stack) -> None:
    stack.write("services: {a: {image: 'x:$TAG'}}")
    (stack.folder / ".env").write_text("TAG=1\nOTHER=2\n")
    told = stack("config", "--explain", "TAG", "--explain", "OTHER", "--explain", "NONE", env={"TAG": "3"}).stdout
    env = stack.folder / ".env"
    assert told == f"TAG=3 (from the environment)\n  not 1 (from {env})\nOTHER=2 (from {env})\nNONE is not set\n"
