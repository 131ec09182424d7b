"""The runtime as the daemon sees it: starts the spawner, makes containers, finds them again."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

import buildtool
from buildtool.aio import offload
from buildtool.errors import BuildtoolError, NotFound
from buildtool.runtime import syscalls
from buildtool.runtime.bundle import Bundle, ExitStatus, Rootfs
from buildtool.runtime.cgroups import DEFAULT_PARENT, Cgroup, Hierarchies
from buildtool.runtime.control import Connection, connect_shim
from buildtool.runtime.task import Attachment, Task, exit_status

_CONFIG_NAME, _EXIT_NAME, _SOCKET_NAME, _GROUP_NAME = "config.json", "exit.json", "shim.sock", "cgroup"
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from buildtool.runtime.spawner import main; sys.exit(main())"
)


class Runtime:
    """Makes containers through a spawner process that is started anew when it dies.

    Containers do not depend on this object: after `close`, or a crash, `reattach` finds them from their bundle's
    directory.
    """

    def __init__(self, run_dir: Path, state_dir: Path) -> None:
        self._run_dir = run_dir
        self._state_dir = state_dir
        self._spawner: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._launching = asyncio.Lock()
        self._filters: dict[bytes, str] = {}

    @classmethod
    async def launch(cls, run_dir: Path, *, state_dir: Path) -> Runtime:
        """Start the spawner. `run_dir` gets its log; `state_dir` is where bundles usually live."""
        runtime = cls(run_dir, state_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        state_dir.mkdir(parents=True, exist_ok=True)
        await runtime._ensure_spawner()
        return runtime

    @property
    def spawner_pid(self) -> int | None:
        """The spawner's pid while it lives."""
        return self._spawner.pid if self._spawner is not None and self._spawner.poll() is None else None

    async def close(self) -> None:
        """Let the spawner end; containers go on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._spawner is not None:
            process, self._spawner = self._spawner, None
            await asyncio.to_thread(_reap, process)

    async def create(self, bundle: Bundle, *, attach: bool = False, start: bool = False) -> Task:
        """Make the container up to the moment before its program is executed, or (`start`) up to its execution.

        With `attach` the task's `stream` has all of its output from the beginning: one way to and fro instead
        of three. Raises CommandNotFound, CommandNotExecutable or BuildtoolError with the texts that clients
        know; nothing is left then but the bundle's directory. When it is cancelled, what was half made is ended
        first: whoever removes the directory afterwards finds nobody who still writes into it.
        """
        making = asyncio.create_task(self._make(bundle, attach=attach, start=start))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            if not making.done():
                await asyncio.wait([making])
            if not making.cancelled() and making.exception() is None:
                await asyncio.wait([asyncio.create_task(making.result().delete())])
            raise

    async def _make(self, bundle: Bundle, *, attach: bool, start: bool) -> Task:
        request = self._prepare(bundle) | {"start": start}
        try:
            return await self._create(bundle, request, attach=attach)
        except NotFound:  # the spawner died before it forked the shim
            pass
        try:
            return await self._create(bundle, request, attach=attach)
        except NotFound:
            log = self._run_dir / "spawner.log"
            raise BuildtoolError(f"the container's shim died while it made the container; see {log}") from None

    async def _create(self, bundle: Bundle, request: dict[str, Any], *, attach: bool) -> Task:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(1 + attach)]
        ours = [pair[0] for pair in pairs]
        try:
            for one in ours:
                one.setblocking(False)
            try:
                await self._send(request, [theirs for _, theirs in pairs])
            finally:
                for _, theirs in pairs:
                    theirs.close()
            connection = Connection(ours[0])
        except BaseException:
            for one in ours:
                one.close()
            raise
        stream = Attachment(ours[1]) if attach else None
        try:
            state = await connection.first_answer()
        except BaseException as error:
            if stream is not None:
                stream.close()
            if isinstance(error, BuildtoolError):
                await connection.ended  # the shim says why and ends
            connection.close()
            raise
        return Task(bundle.id, bundle.directory, connection, state, stream)

    async def reattach(self, bundle_dir: Path) -> Task | ExitStatus | None:
        """Find a started container again: a Task while it lives, else how it ended.

        None when it died with its shim without a record; what was left of it is killed and cleaned up then.
        """
        for _attempt in range(3):
            connection = connect_shim(bundle_dir)
            if connection is not None:
                try:
                    state = await connection.call("state")
                except BuildtoolError:
                    connection.close()
                    continue
                return Task(bundle_dir.name, bundle_dir, connection, state)
            record = bundle_dir / _EXIT_NAME
            if record.exists():
                return exit_status(json.loads(record.read_bytes()))
        await offload(_clean_up, bundle_dir)
        return None

    def _prepare(self, bundle: Bundle) -> dict[str, Any]:
        directory = bundle.directory
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _EXIT_NAME).unlink(missing_ok=True)
        (directory / _GROUP_NAME).unlink(missing_ok=True)
        encoded = msgspec.json.encode(bundle.spec)
        (directory / _CONFIG_NAME).write_bytes(encoded)
        spec = dict(bundle.spec)
        linux = dict(spec.get("linux") or {})
        seccomp = linux.pop("seccomp", None)
        spec["linux"] = linux
        spec["process"] = {**spec["process"], "terminal": bundle.tty}
        rootfs: dict[str, Any] = {"target": str(directory / "rootfs")}
        if isinstance(bundle.rootfs, Rootfs):
            rootfs["lower"] = [str(path) for path in reversed(bundle.rootfs.lower)]
            rootfs["upper"] = str(bundle.rootfs.upper) if bundle.rootfs.upper else None
            rootfs["work"] = str(bundle.rootfs.work) if bundle.rootfs.work else None
            rootfs["volatile"] = bundle.rootfs.volatile
        else:
            rootfs["path"] = str(bundle.rootfs)
        log = bundle.log
        return {
            "id": bundle.id,
            "directory": str(directory),
            "spec": spec,
            "rootfs": rootfs,
            "seccomp": self._filter(seccomp),
            "log": {
                "driver": log.driver,
                "path": str(log.path) if log.path else str(directory / f"{bundle.id}-json.log"),
                "max_size": log.max_size,
                "max_file": log.max_file,
                "sink": log.sink,
                "attributes": log.attributes,
                "compress": log.compress,
            },
            "stdin": bundle.stdin,
            "stdin_once": bundle.stdin_once,
            "detached": bundle.detached,
            "init": bundle.init,
            "runtime": bundle.runtime,
        }

    def _filter(self, seccomp: dict[str, Any] | None) -> str:
        """The BPF program of an OCI `linux.seccomp`, in hex; the last ones are remembered."""
        if not seccomp:
            return ""
        key = msgspec.json.encode(seccomp)
        program = self._filters.get(key)
        if program is None:
            from buildtool.runtime.seccomp import assemble

            program = assemble(seccomp).hex()
            if len(self._filters) >= 16:
                self._filters.pop(next(iter(self._filters)))
            self._filters[key] = program
        return program

    async def _send(self, request: dict[str, Any], connections: list[socket.socket]) -> None:
        memory = os.memfd_create("request", os.MFD_CLOEXEC)
        try:
            data = msgspec.json.encode(request)
            os.write(memory, data)
            os.lseek(memory, 0, os.SEEK_SET)
            fds = array.array("i", [memory, *(connection.fileno() for connection in connections)])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
            for _attempt in range(2):
                await self._ensure_spawner()
                assert self._socket is not None
                try:
                    self._socket.sendmsg([_kind(request)], rights)
                    return
                except OSError:
                    self._socket.close()
                    self._socket = None
            raise BuildtoolError("the spawner does not take requests; see spawner.log in the run directory")
        finally:
            os.close(memory)

    async def _ensure_spawner(self) -> None:
        async with self._launching:
            if self._socket is not None and self._spawner is not None and self._spawner.poll() is None:
                return
            if self._socket is not None:
                self._socket.close()
            if self._spawner is not None:
                await asyncio.to_thread(_reap, self._spawner)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._spawner = start_spawner(theirs, self._run_dir)
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            try:
                greeting = await asyncio.wait_for(loop.sock_recv(ours, 16), 30)
            except (TimeoutError, OSError):
                greeting = b""
            if greeting != b"ready":
                ours.close()
                raise BuildtoolError(f"the spawner does not start; see {self._run_dir / 'spawner.log'}")
            ours.setblocking(True)  # sends are one small message and must not fail for a full queue
            self._socket = ours


def _kind(request: dict[str, Any]) -> bytes:
    """What the spawner needs to know of it.

    A shim that was made in advance can take it when it wants the usual parent group and a pid namespace of its own.
    """
    linux = request["spec"]["linux"]
    namespaces = linux.get("namespaces", ())
    parent, _, _ = linux.get("cgroupsPath", "").rpartition("/")
    if request["runtime"] or parent != DEFAULT_PARENT or {"type": "pid"} not in namespaces:
        return b"create"
    return b"warm" if {"type": "network"} in namespaces else b"warm elsewhere"


def start_spawner(server: socket.socket, run_dir: Path) -> subprocess.Popen[bytes]:
    """Start the spawner process on its end of a socket pair; it writes to spawner.log in `run_dir`."""
    package = str(Path(buildtool.__file__).resolve().parent.parent)
    command = [sys.executable, "-S", "-E", "-X", "utf8", "-c", _BOOT, package, str(server.fileno()), str(run_dir)]
    executable = _guarded_interpreter()
    fds = [server.fileno()] if executable is None else [server.fileno(), executable]
    try:
        with (run_dir / "spawner.log").open("ab") as log:
            return subprocess.Popen(
                command,
                executable=None if executable is None else f"/proc/self/fd/{executable}",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=fds,
                start_new_session=True,
                cwd="/",
            )
    finally:
        if executable is not None:
            os.close(executable)


def _guarded_interpreter() -> int | None:
    """The interpreter through a read-only mount of its own, as a descriptor; None where that cannot be made.

    A container's process is this interpreter for a moment, before it executes its program. What a hostile image can
    reach of it (a script with the interpreter /proc/self/exe) must not be writable.
    """
    binary = Path(sys.executable).resolve()
    try:
        tree = syscalls.open_tree(str(binary), False)
    except OSError:
        return None
    try:
        syscalls.mount_setattr(tree, syscalls.MOUNT_ATTR_RDONLY, syscalls.MS_PRIVATE)
        if b"$ORIGIN" in binary.read_bytes():  # it finds its libraries by its place, which a mount of its own hides
            raise OSError
    except OSError:
        os.close(tree)
        return None
    return tree


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a spawner whose socket is closed."""
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _clean_up(bundle_dir: Path) -> None:
    """A shim died: its container's processes (killed with it, or about to be) and control groups go."""
    (bundle_dir / _SOCKET_NAME).unlink(missing_ok=True)
    try:
        spec = json.loads((bundle_dir / _CONFIG_NAME).read_bytes())
    except (OSError, ValueError):
        return
    paths = [(spec.get("linux") or {}).get("cgroupsPath")]
    with contextlib.suppress(OSError):
        paths.append(str((bundle_dir / _GROUP_NAME).readlink()))
    for path in filter(None, paths):
        _remove_group(Cgroup.find(Hierarchies.find(), path))


def _remove_group(group: Cgroup) -> None:
    with contextlib.suppress(OSError):
        group.freeze(False)
    deadline = time.monotonic() + 5
    while not group.remove() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            group.kill(signal.SIGKILL)
        time.sleep(0.005)
