"""Real containers on a busybox tree, and a check that nothing of them is left."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildtool.runtime import Bundle, ExitStatus, LogConfig, Rootfs, Runtime, SpecOptions, Task, container_spec
from buildtool.runtime.cgroups import DEFAULT_PARENT

_APPLETS = """cat chmod chroot dd df echo env false grep head hostname id ip ls mkdir mkfifo mknod mount nc nice ps
pwd readlink rm sed seq setsid sh sleep stat stty sysctl tail test touch true tty umount unshare wc xargs yes"""
_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if "lab" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason="containers of these tests need root"))


@pytest.fixture(scope="session")
def busybox_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of busybox, readable by everybody."""
    root = tmp_path_factory.mktemp("busybox")
    root.chmod(0o755)
    for name in ("bin", "etc", "tmp", "root", "data", "proc", "sys", "dev"):
        (root / name).mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in _APPLETS.split():
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
    (root / "etc/hosts").write_text("")
    (root / "tmp").chmod(0o1777)
    return root


class Lab:
    """A runtime with a directory of its own, and shortcuts."""

    def __init__(self, base: Path, tree: Path, runtime: Runtime) -> None:
        self.base, self.tree, self.runtime = base, tree, runtime
        self.prefix = f"bt-test-{os.getpid()}-{next(_numbers)}-"
        self.tasks: list[Task] = []

    def bundle(self, args: list[str], *, detached: bool = True, **options: Any) -> Bundle:
        name = f"{self.prefix}{next(_numbers)}"
        place = self.base / name
        upper, work = place / "fs", place / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        tty = options.setdefault("tty", False)
        stdin, stdin_once = options.pop("stdin", False), options.pop("stdin_once", False)
        init, runtime = options.pop("init", False), options.pop("runtime", "")
        rootfs = options.pop("rootfs", None) or Rootfs([self.tree], upper, work)
        log = options.pop("log", None) or LogConfig("json-file", place / "log")
        options.setdefault("env", ["PATH=/bin"])
        spec = container_spec(SpecOptions(id=name, args=args, **options))
        return Bundle(
            id=name,
            directory=place / "bundle",
            spec=spec,
            rootfs=rootfs,
            log=log,
            tty=tty,
            stdin=stdin,
            stdin_once=stdin_once,
            detached=detached,
            init=init,
            runtime=runtime,
        )

    async def create(self, args: list[str], **options: Any) -> Task:
        task = await self.runtime.create(self.bundle(args, **options))
        self.tasks.append(task)
        return task

    async def start(self, args: list[str], **options: Any) -> Task:
        task = await self.create(args, **options)
        await task.start()
        return task

    async def run(self, args: list[str], **options: Any) -> tuple[ExitStatus, bytes, bytes]:
        """From create to delete: the exit status, stdout and stderr."""
        task = await self.create(args, **options)
        async with await task.attach(stdin=False, stdout=True, stderr=True) as stream:
            await task.start()
            frames = await read_all(stream)
        status = await task.wait()
        await task.delete()
        return status, *(demultiplex(frames) if not task.tty else (frames, b""))

    async def sh(self, script: str, **options: Any) -> str:
        """The output of a shell script that succeeds."""
        status, out, err = await self.run(["sh", "-c", script], **options)
        assert status.code == 0, (status, out, err)
        return out.decode()


async def read_all(stream: Any) -> bytes:
    data = b""
    while chunk := await stream.read():
        data += chunk
    return data


def demultiplex(frames: bytes) -> tuple[bytes, bytes]:
    streams = {1: b"", 2: b""}
    while frames:
        size = int.from_bytes(frames[4:8], "big")
        assert frames[1:4] == b"\0\0\0"
        assert len(frames) >= 8 + size
        streams[frames[0]] += frames[8 : 8 + size]
        frames = frames[8 + size :]
    return streams[1], streams[2]


def cgroup_directories(parent: str) -> list[Path]:
    return [Path("/sys/fs/cgroup", name) / parent.strip("/") for name in ["", *os.listdir("/sys/fs/cgroup")]]


def processes_naming(text: str, *, waiting: bool = False) -> list[int]:
    """Processes with this in their command line; those that only wait for a container count when `waiting`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                counts = waiting or Path("/proc", name, "comm").read_text() != "buildtool-warm\n"
                if counts and text.encode() in Path("/proc", name, "cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


@pytest.fixture
async def lab(tmp_path: Path, busybox_tree: Path) -> AsyncIterator[Lab]:
    """A fresh runtime; afterwards no process, mount, control group or socket of its containers may be there."""
    runtime = await Runtime.launch(tmp_path / "run", state_dir=tmp_path / "containers")
    lab = Lab(tmp_path, busybox_tree, runtime)
    yield lab
    for task in lab.tasks:
        await task.delete()
    await runtime.close()
    assert (tmp_path / "run/spawner.log").read_text() == ""
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert processes_naming(str(tmp_path), waiting=True) == []
    for directory in cgroup_directories(DEFAULT_PARENT):
        assert list(directory.glob(f"{lab.prefix}*")) == []
    assert list(tmp_path.glob("*/bundle/shim.sock")) == []


@pytest.fixture
def no_new_zombies() -> Iterator[None]:
    """No descendant of this process that ended during the test goes on waiting for its parent.

    Every process does so for a moment: what its parent never takes is still there seconds later.
    """
    yield
    deadline = time.monotonic() + 5
    while (zombies := _zombies()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert zombies == []


def _zombies() -> list[int]:
    parents: dict[int, tuple[str, int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                state, parent = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            parents[int(name)] = (state, int(parent))
    return [pid for pid, (state, _) in parents.items() if state == "Z" and _descends(pid, os.getpid(), parents)]


def _descends(pid: int, ancestor: int, parents: dict[int, tuple[str, int]]) -> bool:
    while pid in parents and pid != ancestor:
        pid = parents[pid][1]
    return pid == ancestor
