"""The verbs beside `up` and `down`."""

from __future__ import annotations

import os
import re

import pytest

from tests.e2e.stacks.helpers import THREE, Stack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")


def test_run_is_a_container_of_its_own_with_the_commands_exit_code(stack: Stack) -> None:
    stack.write(THREE)
    done = stack("run", "--rm", "-e", "MORE=1", "web", "sh", "-c", "echo $GREETING$MORE; exit 4", check=False)
    assert (done.returncode, done.stdout) == (4, "hello1\n")
    assert set(stack.containers()) == {"db-1"}
    name = stack("run", "-d", "--name", f"{stack.name}-once", "web").stdout.strip()
    assert name == f"{stack.name}-once"
    assert "once" in stack.containers("-a")
    assert "orphan" not in stack("up", "-d").stderr


def test_stop_start_restart_pause_kill_rm(stack: Stack) -> None:
    stack.write("services: {a: {image: busybox, command: LOOP}}")
    stack("create")
    assert stack.containers("-a")["a-1"]["State"] == "created"
    for verb, state in (
        (("start",), "running"),
        (("pause",), "paused"),
        (("unpause",), "running"),
        (("restart",), "running"),
        (("kill", "-s", "KILL"), "exited"),
        (("start",), "running"),
        (("stop", "-t", "1"), "exited"),
    ):
        stack(*verb)
        if verb[0] == "kill":
            stack("wait", "a", check=False)
        assert stack.containers("-a")["a-1"]["State"] == state, verb
    stack("rm", "-f")
    assert stack.containers("-a") == {}


def test_cp_port_top_images_ls(stack: Stack) -> None:
    stack.write("services: {a: {image: busybox, command: LOOP, ports: ['127.0.0.1::80']}}")
    stack("up", "-d")
    stack("cp", "compose.yaml", "a:/copied")
    stack("cp", "a:/copied", "back.yaml")
    assert (stack.folder / "back.yaml").read_text() == (stack.folder / "compose.yaml").read_text()
    assert re.fullmatch(r"127.0.0.1:\d+\n", stack("port", "a", "80").stdout)
    assert "sleep" in stack("top").stdout
    assert "busybox" in stack("images").stdout
    assert stack.name in stack("ls", "-q").stdout.split()
