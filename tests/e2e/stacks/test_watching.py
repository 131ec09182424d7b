"""`watch` and `up --watch`: containers follow files."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.e2e.stacks.helpers import LOOP, Stack, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")


def test_watch_syncs_restarts_and_rebuilds(stack: Stack, background: Callable[..., subprocess.Popen[bytes]]) -> None:
    (stack.folder / "src").mkdir()
    (stack.folder / "src" / "a.txt").write_text("one")
    (stack.folder / "Dockerfile").write_text("FROM busybox\nCOPY version /version\n")
    (stack.folder / "version").write_text("1")
    stack.write(
        """
        services:
          a:
            build: .
            command: LOOP
            develop:
              watch:
                - {path: ./src, action: sync, target: /app}
                - {path: ./version, action: rebuild}
        """
    )
    stack("up", "-d")
    watching = background(stack.cli, "compose", "-f", str(stack.folder / "compose.yaml"), "watch", "--no-up")
    assert watching.stdout is not None
    assert b"Watch enabled" in watching.stdout.readline()
    (stack.folder / "src" / "a.txt").write_text("changed")
    assert b"Syncing service 'a'" in watching.stdout.readline()
    eventually(lambda: stack("exec", "a", "cat", "/app/a.txt", check=False).stdout == "changed")
    (stack.folder / "version").write_text("2")
    eventually(lambda: stack("exec", "a", "cat", "/version", check=False).stdout == "2")
    watching.send_signal(signal.SIGINT)
    assert watching.wait(20) == 0


def test_up_watch_shows_output_and_follows_rebuilt_containers(
    stack: Stack, background: Callable[..., subprocess.Popen[bytes]]
) -> None:
    (stack.folder / "version").write_text("1")
    (stack.folder / "Dockerfile").write_text("FROM busybox\nCOPY version /version\n")
    stack.write(
        """
        services:
          a:
            build: .
            command: [sh, -c, "echo version $$(cat /version); LOOP_"]
            develop: {watch: [{path: ./version, action: rebuild}]}
        """.replace("LOOP_", LOOP)
    )
    running = background(stack.cli, "compose", "-f", str(stack.folder / "compose.yaml"), "up", "--watch")
    assert running.stdout is not None
    seen = b""
    while b"version 1" not in seen or b"Watch enabled" not in seen:
        line = running.stdout.readline()
        assert line, seen
        seen += line
    (stack.folder / "version").write_text("2")
    while b"version 2" not in seen:
        line = running.stdout.readline()
        assert line, seen
        seen += line
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 0
    assert stack.containers() == {}
