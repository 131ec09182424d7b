"""Terminals, containers and registries for the end-to-end tests."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Terminal:
    """A program in a pseudo-terminal of 24 lines and 80 columns."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.output = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)
        self.resize(24, 80)

    def resize(self, lines: int, columns: int) -> None:
        """Change the window's size."""
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGWINCH)

    def send(self, text: str) -> None:
        """Type."""
        os.write(self.fd, text.encode())

    def expect(self, pattern: str, seconds: float = 10.0) -> re.Match[bytes]:
        """Wait until the output since the last match has this pattern; what follows stays for the next time."""
        deadline = time.monotonic() + seconds
        while True:
            match = re.search(pattern.encode(), self.output)
            if match is not None:
                self.output = self.output[match.end() :]
                return match
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"{pattern!r} did not come; there is: {self.output!r}")

    def wait(self, seconds: float = 10.0) -> int:
        """The exit code, when the program has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._read(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"the program has not ended; there is: {self.output!r}")

    def close(self) -> None:
        """End it."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def _read(self, seconds: float) -> bool:
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.output += data
        return bool(data)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """`terminal(program, *arguments)` runs a client in a pseudo-terminal; ended after the test."""
    opened: list[Terminal] = []

    def open_terminal(program: Any, *arguments: str) -> Terminal:
        opened.append(Terminal([program.program, *arguments], {**program.environment, "TERM": "xterm"}))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


@pytest.fixture
def background() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`background(program, *arguments)` starts a client with pipes; ended after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(program: Any, *arguments: str) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [program.program, *arguments],
                env=program.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def container(daemon: Any, busybox_image: str) -> Iterator[Callable[..., str]]:
    """`container("sleep", "60", HostConfig=…)` makes and starts a busybox container; the id. Removed after the
    test."""
    made: list[str] = []

    def make(*command: str, name: str = "", start: bool = True, **body: Any) -> str:
        query = f"?name={name}" if name else ""
        document = {"Image": busybox_image, "Cmd": list(command), **body}
        made.append(daemon.request("POST", f"/containers/create{query}", document)["Id"])
        if start:
            daemon.request("POST", f"/containers/{made[-1]}/start")
        return made[-1]

    yield make
    for identity in made:
        daemon.raw("DELETE", f"/containers/{identity}?force=1&v=1")


@pytest.fixture
def unique() -> str:
    """A name no other test uses."""
    return f"t{os.getpid()}x{time.monotonic_ns()}"


def free_port() -> int:
    """A port below those that the kernel gives to others meanwhile."""
    while True:
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


def _wait_for(port: int, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError("the registry did not start")


@pytest.fixture(scope="session")
def start_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """`start_registry(*flags)` starts our server; its `host:port`."""
    started: list[subprocess.Popen[Any]] = []

    def start(*flags: str, root: Path | None = None) -> str:
        port = free_port()
        root = root or tmp_path_factory.mktemp("registry")
        program = str(Path(sys.executable).with_name("buildtool"))
        command = [program, "registry", "serve", "--addr", f"127.0.0.1:{port}", "--log-level", "error"]
        started.append(subprocess.Popen([*command, "--root", str(root), *flags], stdout=subprocess.DEVNULL))
        _wait_for(port, started[-1])
        return f"127.0.0.1:{port}"

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


@pytest.fixture(scope="session")
def registry(start_registry: Callable[..., str]) -> str:
    """Our server, open to everybody."""
    return start_registry()


@pytest.fixture
def login_folder(tmp_path: Path) -> dict[str, str]:
    """The environment of a client with a config.json of its own."""
    return {"DOCKER_CONFIG": str(tmp_path / "docker")}
