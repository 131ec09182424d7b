"""One daemon, however many ask for it; and plain words when it cannot be started."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildtool.client import Address, Client, autostart
from buildtool.errors import BuildtoolError, DaemonUnreachable

LISTENS = """
import os, socket, sys, time
with open(sys.argv[2], "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(0.2)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + ".new")
listener.listen(8)
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    connection, _ = listener.accept()
    if connection.recv(1000):
        body = b'"' + os.environ["BUILDTOOL_HOST"].encode() + b'"'
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
"""


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Address:
    monkeypatch.delenv("BUILDTOOL_AUTOSTART", raising=False)
    return Address(path=str(tmp_path / "run" / "d.sock"), root=str(tmp_path), foreign=False)


@pytest.fixture
def started(address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    pids = tmp_path / "pids"
    command = [sys.executable, "-c", LISTENS, address.path, str(pids)]
    monkeypatch.setattr(autostart, "daemon_command", lambda address: command)
    yield pids
    for pid in pids.read_text().split():
        os.kill(int(pid), signal.SIGKILL)
        os.waitpid(int(pid), 0)


def test_two_that_start_at_once_start_one_daemon(address: Address, started: Path) -> None:
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(Client(address).get("/version"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [f"unix://{address.path}"] * 4
    assert len(started.read_text().split()) == 1


def test_a_daemon_that_dies_is_quoted(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; sys.exit('buildtool daemon: the data root is on fire')"
    monkeypatch.setattr(autostart, "daemon_command", lambda address: [sys.executable, "-c", script])
    begin = time.monotonic()
    with pytest.raises(DaemonUnreachable) as refused:
        Client(address).get("/version")
    assert "exit code 1" in str(refused.value)
    assert "the data root is on fire" in str(refused.value)
    assert f"{address.root}/run/daemon.log" in str(refused.value)
    assert time.monotonic() - begin < 5


def test_an_old_log_is_not_quoted(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Path(autostart.run_directory(address)) / "daemon.log"
    log.parent.mkdir()
    log.write_text("from yesterday\n")
    monkeypatch.setattr(
        autostart, "daemon_command", lambda address: [sys.executable, "-c", "raise SystemExit('now')"]
    )
    with pytest.raises(DaemonUnreachable) as refused:
        Client(address).get("/version")
    assert "now" in str(refused.value) and "yesterday" not in str(refused.value)


def test_foreign_daemons_are_never_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: Address) -> None:
        raise AssertionError("started a daemon")

    monkeypatch.setattr(autostart, "start_daemon", refuse)
    foreign = Address(path=str(tmp_path / "x.sock"), foreign=True)
    dockers = Address(path=str(tmp_path / "docker.sock"), foreign=False)
    for address in (foreign, dockers):
        with pytest.raises(DaemonUnreachable):
            Client(address).get("/version")


def test_autostart_can_be_switched_off(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDTOOL_AUTOSTART", "0")
    with pytest.raises(DaemonUnreachable, match="cannot connect"):
        Client(address).get("/version")
    assert not Path(address.root, "run").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_permission_denied_says_what_to_do(tmp_path: Path) -> None:
    """As another user, on a socket of mode 0600: an error about permissions, and no daemon is started over it."""
    import socket

    path = Path("/tmp") / f"cli-perm-{os.getpid()}.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    path.chmod(0o600)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            Client(Address(path=str(path), foreign=False)).get("/version")
        except BuildtoolError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    listener.close()
    path.unlink()
    assert "permission denied" in said
    assert "sudo" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = Path("/tmp") / f"cli-closed-{os.getpid()}"
    folder.mkdir(mode=0o755)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            Client(Address(path=str(folder / "run" / "d.sock"), foreign=False)).get("/version")
        except BuildtoolError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    folder.rmdir()
    assert "none can be started there" in said and "BUILDTOOL_HOST" in said
