"""What every test may use: a real daemon, an image in it, our CLI and the stock docker CLI.

Each xdist worker has a daemon of its own, with a root and a socket of its own below /tmp. At the end its containers
are removed, it is ended
by its pid, and whatever a crash left (processes, mounts, control groups, files) goes too.
"""

from __future__ import annotations

import contextlib
import glob
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from buildtool.networks.purge import purge

PROJECT = Path(__file__).resolve().parents[1]
BUILDTOOL = str(Path(sys.executable).parent / "buildtool")
BUSYBOX = "busybox:latest"
_START_SECONDS = 20.0
_STOP_SECONDS = 15.0

# A shell without job control starts `make test &` with Ctrl-C ignored, and what tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("suite", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("suite")


class Http(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("daemon", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Daemon:
    """A daemon on a root of its own. It can be stopped, killed and started again; `close` removes every trace."""

    def __init__(self, *flags: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="bt-test-", dir="/tmp"))
        self.socket = str(self.root / "d.sock")
        self.host = f"unix://{self.socket}"
        self.log_path = self.root / "daemon.log"
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        self.environment |= {"BUILDTOOL_HOST": self.host, "BUILDTOOL_ROOT": str(self.data)}
        self.environment["XDG_CACHE_HOME"] = str(self.data.parent / "client-cache")

    @property
    def data(self) -> Path:
        """The data root."""
        return self.root / "data"

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def command(self) -> list[str]:
        """What starts it."""
        return [sys.executable, "-m", "buildtool.daemon.main", *self.flags]

    def start(self) -> float:
        """Start it and wait until it answers; the seconds that took."""
        begin = time.monotonic()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=PROJECT,
                start_new_session=True,
            )
        while not self.answers():
            code = self.process.poll()
            if code is not None or time.monotonic() - begin > _START_SECONDS:
                raise RuntimeError(f"the daemon did not start (code {code}):\n{self.log}")
            time.sleep(0.01)
        return time.monotonic() - begin

    def answers(self) -> bool:
        """Whether something listens on its socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(self.socket) == 0

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(_STOP_SECONDS)

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """One API call; the decoded JSON of the answer. Raises RuntimeError for an error answer."""
        status, data = self.raw(method, path, body, headers)
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {data.decode(errors='replace')}")
        return json.loads(data) if data.strip() else None

    def raw(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One API call; status and body. A body that is not bytes is sent as JSON."""
        fields = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body, fields = json.dumps(body).encode(), {"Content-Type": "application/json", **fields}
        connection = Http(self.socket)
        try:
            connection.request(method, path, body, fields)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def close(self) -> None:
        """Remove its containers, end it, and remove what is left."""
        with contextlib.suppress(OSError, RuntimeError, http.client.HTTPException):
            for container in self.request("GET", "/containers/json?all=1"):
                self.raw("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        _clean(self.root)


def _clean(root: Path) -> None:
    """End the processes, remove the networks, mounts, control groups and files that belong to this root."""
    mark = str(root).encode()
    for _ in range(3):
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and _belongs(int(name), mark)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not pids:
            break
        time.sleep(0.1)
    if os.geteuid() == 0:
        purge(root / "data")
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((point for point in mounts if point.startswith(f"{root}/")), reverse=True):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)
    containers = root / "data" / "containers"
    for identity in os.listdir(containers) if containers.is_dir() else []:
        if len(identity) != 64:
            continue
        for group in sorted(glob.glob(f"/sys/fs/cgroup/**/*{identity}*/", recursive=True), reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(group)
    shutil.rmtree(root, ignore_errors=True)
    if root.exists():
        subprocess.run(["rm", "-rf", str(root)], check=False, capture_output=True)


def _belongs(pid: int, mark: bytes) -> bool:
    """Whether the process was started for this root, or lives in a mount namespace with its file systems."""
    if pid == os.getpid():
        return False
    try:
        if mark in Path(f"/proc/{pid}/cmdline").read_bytes():
            return True
        if os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            return False
        return mark in Path(f"/proc/{pid}/mountinfo").read_bytes()
    except OSError:
        return False


def busybox_rootfs() -> bytes:
    """A root file system's tar with the host's static busybox, its applets, and the usual users."""
    applets = subprocess.run(["/bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, data: bytes = b"", **fields: Any) -> None:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1_700_000_000
            for key, value in fields.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))

        for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var", "var/tmp"):
            add(name, type=tarfile.DIRTYPE, mode=0o755)
        add("tmp", type=tarfile.DIRTYPE, mode=0o1777)
        add("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
        for applet in applets:
            if applet != "busybox":
                add(f"bin/{applet}", type=tarfile.LNKTYPE, linkname="bin/busybox", mode=0o755)
        add(
            "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n", mode=0o644
        )
        add("etc/group", b"root:x:0:\nstaff:x:50:nobody\nnobody:x:65534:\n", mode=0o644)
    return out.getvalue()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long bytes have their argument's name: archives hold the time, and all workers must name a case alike."""
    return argname if isinstance(val, bytes) and len(val) > 32 else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out, for a plain user, the areas whose tests do in their own process what takes root.

    What a plain user's daemon does is tested through the daemon, which makes its user namespace.
    """
    if os.geteuid() == 0:
        return
    areas = tuple(f"tests/unit/{area}/" for area in ("cache", "containers", "solve"))
    for item in items:
        if item.nodeid.startswith(areas):
            item.add_marker(pytest.mark.skip(reason="owners, devices and mounts in this very process take root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    """In CI a test that skips has failed: CI has every tool, and a silent skip would hide that it lost one."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def make_daemon() -> Iterator[Callable[..., Daemon]]:
    """`make_daemon(*flags)` starts one more daemon; all are closed at the end of the session (close earlier
    yourself)."""
    made: list[Daemon] = []

    def make(*flags: str) -> Daemon:
        daemon = Daemon(*flags)
        made.append(daemon)
        daemon.start()
        return daemon

    yield make
    for daemon in made:
        daemon.close()


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """This worker's daemon."""
    daemon = Daemon()
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.close()


@pytest.fixture(scope="session")
def busybox_image(daemon: Daemon) -> str:
    """The name of an image with the host's busybox, imported once."""
    load_busybox(daemon)
    return BUSYBOX


def load_busybox(daemon: Daemon, name: str = "busybox") -> None:
    """Import the host's busybox as an image with `sh` as its command."""
    path = f"/images/create?fromSrc=-&repo={name}&tag=latest&changes=CMD%20%5B%22sh%22%5D"
    status, answer = daemon.raw("POST", path, busybox_rootfs(), {"Content-Type": "application/x-tar"})
    assert status == 200 and b"errorDetail" not in answer, answer


def docker_compose() -> str | None:
    """Docker's stock compose plugin, where it is installed."""
    return next(iter(docker_composes().values()), None)


def docker_composes() -> dict[str, str]:
    """Docker's stock compose plugins by version, where they are installed (the older ones in Python do not count)."""
    places = ["/usr/libexec/docker", "/usr/lib/docker", "/usr/local/lib/docker", os.path.expanduser("~/.docker")]
    folders = [*(f"{place}/cli-plugins" for place in places), *os.environ.get("PATH", "").split(os.pathsep)]
    found: dict[str, str] = {}
    for folder in folders:
        path = shutil.which("docker-compose", path=folder)
        if path:
            told = subprocess.run([path, "version", "--short"], capture_output=True, text=True, check=False).stdout
            version = told.strip().lstrip("v")
            if version[:2] not in ("", "1."):
                found.setdefault(version, path)
    return found


class Program:
    """A command line client of one daemon: `program("ps", "-a")`.

    Checks for exit code 0 unless `check=False`. `text` (the default) decodes the output. `program` and `environment`
    are
    for tests that start the client by themselves.
    """

    def __init__(self, program: str, environment: dict[str, str]) -> None:
        self.program = program
        self.environment = environment

    def __call__(
        self,
        *arguments: str | os.PathLike[str],
        input: str | bytes | None = None,
        check: bool = True,
        timeout: float = 60,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        text: bool = True,
        autostart: bool = True,
    ) -> subprocess.CompletedProcess[Any]:
        environment = {**self.environment, **(env or {})}
        if not autostart:
            environment["BUILDTOOL_AUTOSTART"] = "0"
        command = [self.program, *map(os.fspath, arguments)]
        stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        done = subprocess.run(
            command, capture_output=True, text=text, timeout=timeout, cwd=cwd, env=environment, check=False, **stdin
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done


@pytest.fixture(scope="session")
def cli(daemon: Daemon) -> Program:
    """Our CLI, talking to `daemon`."""
    return Program(BUILDTOOL, {**daemon.environment, "NO_COLOR": "1", "COLUMNS": "200"})


@pytest.fixture(scope="session")
def docker(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The stock docker CLI, talking to `daemon`; skips where there is none."""
    program = shutil.which("docker")
    if program is None:
        pytest.skip("there is no docker CLI on this machine")
    config = tmp_path_factory.mktemp("docker-config")
    environment = {**daemon.environment, "DOCKER_HOST": daemon.host, "DOCKER_CONFIG": str(config)}
    return Program(program, {**environment, "DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"})
