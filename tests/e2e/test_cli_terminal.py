"""The CLI on a real terminal: raw mode, sizes, detaching, interrupts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from tests.conftest import Program

Cli = Program


class Terminal:
    """A program on a pseudo-terminal that the test types into."""

    def __init__(self, cli: Program, *arguments: str, rows: int = 33, columns: int = 99) -> None:
        self.leader, follower = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.leader)
        self.process = subprocess.Popen(
            [cli.program, *arguments],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=cli.environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(follower)
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.leader, keys)

    def expect(self, text: str, timeout: float = 15) -> str:
        """What was shown up to and with `text`, which is then taken off."""
        deadline = time.monotonic() + timeout
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not come: {self.seen!r}"
            if not select.select([self.leader], [], [], left)[0]:
                continue
            try:
                data = os.read(self.leader, 65536)
            except OSError:
                data = b""
            assert data, f"{text!r} did not come before the end: {self.seen!r}"
            self.seen += data
        before, _, self.seen = self.seen.partition(text.encode())
        return (before + text.encode()).decode(errors="replace")

    def end(self, timeout: float = 15) -> int:
        """Wait for the program's end, reading what it still shows."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.leader], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.leader, 65536)
        return self.process.wait(1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.leader)


class OpenTerminal(Protocol):
    def __call__(self, *arguments: str) -> Terminal: ...


@pytest.fixture
def terminal(cli: Program, busybox_image: str) -> Iterator[OpenTerminal]:
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(cli, *arguments))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def container(cli: Program, busybox_image: str) -> Iterator[Callable[..., str]]:
    """`container("sh", "-c", …)` runs one in the background; all are removed afterwards."""
    made: list[str] = []

    def start(*arguments: str) -> str:
        made.append(cli("run", "-d", "--network", "none", busybox_image, *arguments).stdout.strip())
        return made[-1]

    yield start
    if made:
        cli("rm", "-f", *made, check=False)


def test_a_shell_on_a_terminal(terminal: OpenTerminal, busybox_image: str) -> None:
    shell = terminal("run", "-it", "--rm", "--network", "none", busybox_image, "sh")
    shell.expect("# ")
    shell.type(b"stty size; tty; echo TERM=$TERM\r")
    assert "33 99" in shell.expect("TERM=xterm\r\n")
    shell.resize(44, 111)
    time.sleep(0.3)
    shell.type(b"stty size\r")
    shell.expect("44 111")
    shell.type(b"sleep 100\r")
    time.sleep(0.2)
    shell.type(b"\x03")
    shell.expect("# ")
    shell.type(b"exit 7\r")
    assert shell.end() == 7
    assert termios.tcgetattr(shell.leader) == shell.before


def test_detach_keys_leave_it_running_and_attach_comes_back(
    cli: Cli, terminal: OpenTerminal, busybox_image: str
) -> None:
    name = f"detach-{os.getpid()}"
    shell = terminal("run", "-it", "--name", name, "--network", "none", busybox_image, "sh")
    shell.expect("# ")
    shell.type(b"here=$((40+2))\r")
    shell.expect("# ")
    shell.type(b"\x10\x11")
    assert shell.end() == 0
    assert cli("inspect", "-f", "{{.State.Status}}", name).stdout == "running\n"
    again = terminal("attach", "--detach-keys", "ctrl-a,d", name)
    again.type(b"echo it-is-$here\r")
    again.expect("it-is-42")
    again.type(b"\x01d")
    assert again.end() == 0
    cli("rm", "-f", name)


def test_exec_on_a_terminal(terminal: OpenTerminal, container: Callable[..., str]) -> None:
    name = container("sleep", "300")
    shell = terminal("exec", "-it", name, "sh")
    shell.expect("# ")
    shell.type(b"stty size; exit 4\r")
    shell.expect("33 99")
    assert shell.end() == 4


def test_ctrl_c_reaches_a_container_without_a_terminal(terminal: OpenTerminal, busybox_image: str) -> None:
    script = "trap 'echo caught; exit 9' INT; echo ready; while true; do sleep 0.1; done"
    running = terminal("run", "--rm", "--network", "none", busybox_image, "sh", "-c", script)
    running.expect("ready")
    running.type(b"\x03")
    running.expect("caught")
    assert running.end() == 9


def test_sig_proxy_false_ends_only_the_client(
    cli: Cli, terminal: OpenTerminal, container: Callable[..., str]
) -> None:
    name = container("sh", "-c", "while true; do echo tick; sleep 0.1; done")
    attached = terminal("attach", "--sig-proxy=false", name)
    attached.expect("tick")
    attached.process.send_signal(signal.SIGINT)
    assert attached.end() in (130, -signal.SIGINT)
    assert cli("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n"


def test_logs_follow_ends_by_ctrl_c_and_leaves_it_running(
    cli: Cli, terminal: OpenTerminal, container: Callable[..., str]
) -> None:
    name = container("sh", "-c", "while true; do echo tick; sleep 0.1; done")
    following = terminal("logs", "-f", name)
    following.expect("tick")
    following.type(b"\x03")
    assert following.end() == 130
    assert cli("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n"


def test_build_draws_on_a_terminal(terminal: OpenTerminal, busybox_image: str, tmp_path: object) -> None:
    with open(f"{tmp_path}/Buildfile", "w") as file:
        file.write(f"FROM {busybox_image}\nRUN echo line-of-output && sleep 0.3\n")
    building = terminal("build", "--network", "none", "--no-cache", "--progress", "tty", str(tmp_path))
    shown = building.expect("Built sha256:")
    assert "RUN echo" in shown
    assert building.end() == 0
