"""The daemon's life: starting, listening, stopping, idling, dying, and starting again over running containers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildtool.networks.purge import purge
from tests.conftest import PROJECT, Daemon, load_busybox

Make = Callable[..., Daemon]


@pytest.fixture
def own(make_daemon: Make) -> Iterator[Make]:
    """As make_daemon, but closed after the test."""
    made: list[Daemon] = []

    def make(*flags: str) -> Daemon:
        made.append(make_daemon(*flags))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def private_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(("Pss:",)))


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_idle_daemon_and_spawner_are_small(own: Make) -> None:
    daemon = own()
    assert daemon.request("GET", "/info")["Containers"] == 0
    used = sum(private_kib(pid) for pid in [daemon.pid, *children(daemon.pid)])
    assert used < 80 * 1024
    for module in ("lark", "networkx", "jinja2"):
        assert not any(module in line for line in Path(f"/proc/{daemon.pid}/maps").read_text().splitlines())


def test_sigterm_ends_it_and_leaves_containers_running(own: Make) -> None:
    daemon = own()
    load_busybox(daemon)
    body = {"Image": "busybox", "Cmd": ["sh", "-c", "i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done"]}
    identity = daemon.request("POST", "/containers/create?name=survivor", body)["Id"]
    daemon.request("POST", f"/containers/{identity}/start")
    pid = daemon.request("GET", f"/containers/{identity}/json")["State"]["Pid"]

    assert daemon.stop() == 0
    assert not Path(daemon.socket).exists()
    os.kill(pid, 0)
    daemon.start()

    state = daemon.request("GET", f"/containers/{identity}/json")["State"]
    assert (state["Running"], state["Pid"]) == (True, pid)
    time.sleep(0.2)
    _, log = daemon.raw("GET", f"/containers/{identity}/logs?stdout=1")
    lines = [int(line[8:]) for line in log.splitlines()]
    assert lines == list(range(len(lines)))
    daemon.request("POST", f"/containers/{identity}/kill")
    assert daemon.request("POST", f"/containers/{identity}/wait")["StatusCode"] == 137
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_killed_daemon_finds_its_containers_and_what_ended_meanwhile(own: Make) -> None:
    daemon = own()
    load_busybox(daemon)
    ids = []
    for command in (["sleep", "300"], ["sh", "-c", "sleep 0.5; exit 9"]):
        ids.append(daemon.request("POST", "/containers/create", {"Image": "busybox", "Cmd": command})["Id"])
        daemon.request("POST", f"/containers/{ids[-1]}/start")

    daemon.kill()
    time.sleep(0.8)
    daemon.start()

    states = [daemon.request("GET", f"/containers/{identity}/json")["State"] for identity in ids]
    assert [(state["Status"], state["ExitCode"]) for state in states] == [("running", 0), ("exited", 9)]
    assert daemon.request("GET", "/buildtool/v1/check") == {"ok": True, "problems": []}


def test_idle_timeout_waits_for_requests_and_containers(own: Make) -> None:
    daemon = own("--idle-timeout", "0.5")
    load_busybox(daemon)
    identity = daemon.request("POST", "/containers/create", {"Image": "busybox", "Cmd": ["sleep", "300"]})["Id"]
    daemon.request("POST", f"/containers/{identity}/start")
    assert daemon.process is not None
    time.sleep(1.2)
    assert daemon.process.poll() is None
    daemon.raw("DELETE", f"/containers/{identity}?force=1")

    assert daemon.process.wait(10) == 0
    assert not Path(daemon.socket).exists()
    assert "without work" in daemon.log


def test_a_second_daemon_on_the_root_or_the_socket_is_refused(own: Make, tmp_path: Path) -> None:
    daemon = own()

    def second(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "buildtool.daemon.main"],
            env={**daemon.environment, **environment},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=20,
        )

    same_root = second(BUILDTOOL_HOST=f"unix://{daemon.root}/other.sock")
    assert same_root.returncode == 1
    assert str(daemon.pid) in same_root.stderr
    same_socket = second(BUILDTOOL_ROOT=str(tmp_path))
    assert same_socket.returncode == 1
    assert "another daemon listens there" in same_socket.stderr
    assert daemon.request("GET", "/version")


def test_several_addresses_and_socket_activation(own: Make, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    daemon = Daemon()
    daemon.flags = ("-H", daemon.host, "-H", f"tcp://127.0.0.1:{port}", "--plain-tcp")
    try:
        daemon.start()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
            assert client.recv(4096).endswith(b"OK")
        daemon.stop()
        _activated(daemon)
    finally:
        daemon.close()


def _activated(daemon: Daemon) -> None:
    """Hand the daemon a listening socket as a service manager does: descriptor 3, and its own pid in LISTEN_PID."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(daemon.socket)
        listener.listen()
        code = (
            "import os, sys; os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
            f"os.dup2({listener.fileno()}, 3);"
            "os.execv(sys.executable, [sys.executable, '-m', 'buildtool.daemon.main'])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=daemon.environment,
            cwd=PROJECT,
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
        )
        try:
            assert daemon.request("GET", "/version")["ApiVersion"] == "1.50"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
    assert Path(daemon.socket).exists()


def test_a_build_in_flight_ends_with_the_daemon(own: Make) -> None:
    daemon = own()
    load_busybox(daemon)
    build = b'{"dockerfile": "FROM busybox\\nRUN sleep 300\\n"}'
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(daemon.socket)
        client.sendall(
            b"POST /buildtool/v1/build HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(build), build)
        )
        answer = b""
        while b"RUN sleep" not in answer:
            answer += client.recv(65536)
        time.sleep(0.3)
        begin = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begin < 5
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(daemon.root) not in mounts


def _usable(python: str, daemon: Daemon, who: dict[str, Any]) -> bool:
    command = [python, "-c", "import aiohttp, msgspec, buildtool.daemon.run"]
    try:
        return (
            subprocess.run(command, env=daemon.environment, capture_output=True, cwd=PROJECT, **who).returncode == 0
        )
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_plain_users_daemon(own: Make) -> None:
    daemon = Daemon()
    home = daemon.root / "home"
    home.mkdir()
    for path in (daemon.root, home):
        os.chown(path, 65534, 65534)
    daemon.environment |= {"HOME": str(home), "XDG_RUNTIME_DIR": str(daemon.root)}
    who = {"user": 65534, "group": 65534, "extra_groups": []}
    daemon.environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    python = next((one for one in (sys.executable, "/usr/bin/python3") if _usable(one, daemon, who)), None)
    if python is None:
        daemon.close()
        pytest.skip("another user can use neither this interpreter nor the system's with these packages")
    try:
        with daemon.log_path.open("ab") as log:
            daemon.process = subprocess.Popen(
                [python, "-m", "buildtool.daemon.main"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=daemon.environment, cwd=PROJECT, **who,
            )  # type: ignore[call-overload]  # fmt: skip
        assert eventually(daemon.answers), daemon.log
        load_busybox(daemon)
        assert "name=rootless" in daemon.request("GET", "/info")["SecurityOptions"]
        body = {"Image": "busybox", "Cmd": ["sh", "-c", "id -u; echo hi > /file; cat /file"]}
        identity = daemon.request("POST", "/containers/create", body)["Id"]
        daemon.request("POST", f"/containers/{identity}/start")
        assert daemon.request("POST", f"/containers/{identity}/wait")["StatusCode"] == 0
        _, log_bytes = daemon.raw("GET", f"/containers/{identity}/logs?stdout=1")
        assert log_bytes.splitlines()[0].endswith(b"0")
        assert log_bytes.endswith(b"hi\n")
    finally:
        daemon.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes networks away as a reboot does")
def test_after_a_reboot_what_is_to_run_runs_again(own: Make) -> None:
    """A reboot ends the daemon, shims and containers at once, and takes control groups, bridges and rules with it."""
    daemon = own()
    load_busybox(daemon)
    ids = {}
    for policy in ("always", "unless-stopped", "no"):
        body = {"Image": "busybox", "Cmd": ["sleep", "600"], "HostConfig": {"RestartPolicy": {"Name": policy}}}
        ids[policy] = daemon.request("POST", f"/containers/create?name={policy}", body)["Id"]
        daemon.request("POST", f"/containers/{policy}/start")
    daemon.request(
        "POST", "/containers/create?name=stopped", {**body, "HostConfig": {"RestartPolicy": {"Name": "always"}}}
    )
    daemon.request("POST", "/containers/stopped/start")
    daemon.request("POST", "/containers/stopped/kill")
    pids = [daemon.request("GET", f"/containers/{name}/json")["State"]["Pid"] for name in ids]
    shims = [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids]
    daemon.kill()
    for pid in shims:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    purge(daemon.data)

    daemon.start()

    def states() -> dict[str, tuple[str, int]]:
        listed = [daemon.request("GET", f"/containers/{name}/json") for name in (*ids, "stopped")]
        return {one["Name"][1:]: (one["State"]["Status"], one["State"]["ExitCode"]) for one in listed}

    expected = {
        "always": ("running", 0),
        "unless-stopped": ("running", 0),
        "no": ("exited", 255),
        "stopped": ("running", 0),
    }
    assert eventually(lambda: states() == expected), states()
    address = daemon.request("GET", "/containers/always/json")["NetworkSettings"]["IPAddress"]
    assert (
        address
        and subprocess.run(["busybox", "ping", "-c", "1", "-W", "3", address], capture_output=True).returncode == 0
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="connects as somebody else")
def test_what_others_change_is_logged_with_who_they_are(own: Make) -> None:
    daemon = own()
    os.chmod(daemon.root, 0o755)
    os.chmod(daemon.socket, 0o666)
    daemon.request("POST", "/volumes/create", {"Name": "mine"})
    request = b"POST /volumes/prune HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    code = (
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({daemon.socket!r}); s.sendall({request!r});"
        "assert b' 200 ' in s.recv(100)"
    )
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable  # ours may be out of reach
    subprocess.run([python, "-S", "-c", code], cwd="/", user=12345, group=12346, extra_groups=[], check=True)
    assert "POST /volumes/prune by pid " in daemon.log
    assert "uid 12345, gid 12346" in daemon.log
    assert "/volumes/create" not in daemon.log
