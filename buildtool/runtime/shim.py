# ruff: noqa: PTH103, PTH104, PTH123, PTH211
"""The shim: parent of one container. Holds its streams, reaps it, answers on a unix socket, writes how it ended.

Forked by the spawner for each container; outlives spawner and daemon and ends when the container has ended and every
client has its output. Protocol: docs/runtime.md, "The shim's protocol".
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, NoReturn

from buildtool.runtime import syscalls as sc
from buildtool.runtime.cgroups import DEFAULT_PARENT, Cgroup, Hierarchies
from buildtool.runtime.child import Child, Stdio
from buildtool.runtime.init import become_container, enter_group, namespaces
from buildtool.runtime.jsonlog import JsonLog
from buildtool.runtime.loop import IN, Loop
from buildtool.runtime.operations import Operations
from buildtool.runtime.process import Identity, StartError
from buildtool.runtime.shim_server import Control, Server
from buildtool.runtime.streams import Log
from buildtool.runtime.warm import Warm, read_request

if TYPE_CHECKING:
    from buildtool.runtime.foreign import Foreign

Spec = dict[str, Any]
EXIT_NAME, GROUP_NAME = "exit.json", "cgroup"
_COLLECT_EVERY = 32
_LEFTOVER_SECONDS = 2.0  # how long a process left behind may hold the streams after the program's end


class Shim:
    """One container's parent process; `run` never returns."""

    main: Child
    cgroup: Cgroup
    init: int
    """A pidfd of the container's first process."""

    def __init__(
        self,
        request_fd: int,
        control: socket.socket,
        hierarchies: Hierarchies,
        identity: Identity,
        warm: Warm | None = None,
        stream: socket.socket | None = None,
    ) -> None:
        self.request = request = read_request(request_fd)
        self._request_fd = request_fd
        self._warm = warm
        self.spec: Spec = request["spec"]
        self.hierarchies = hierarchies
        self.identity = identity
        self.seccomp = bytes.fromhex(request.get("seccomp") or "")
        self.loop = Loop()
        self.execs: dict[str, Child] = {}
        self.paused = False
        self.exit: Spec | None = None
        self.clients = 0
        self._directory: str = request["directory"]
        self.server = Server(self.loop, self._directory)
        self._first_control = control
        self._stream = stream
        self.foreign: Foreign | None = None
        self._strays: dict[int, int] = {}
        self._drivers: set[int] = set()
        self._own_pid_namespace = True
        self._gone = False
        self._endings = 0

    def run(self) -> NoReturn:
        """Create the container, answer on the control socket, serve until the end."""
        try:
            self._create()
        except (StartError, OSError) as error:
            Control(self._first_control).refuse({"id": 0}, error)
            os._exit(1)
        self.loop.run()
        os._exit(0)

    def _create(self) -> None:
        linux = self.spec.get("linux") or {}
        self._watch_children()
        path = linux.get("cgroupsPath") or f"{DEFAULT_PARENT}/{self.request['id']}"
        resources = linux.get("resources") or {}
        program = self.request.get("runtime")
        if program:  # which sets limits and device rules itself
            from buildtool.runtime.foreign import Foreign

            self.foreign, resources = Foreign(program, self._directory, self.request["id"]), {}
        self.cgroup = self._warm.cgroup if self._warm else Cgroup.create(self.hierarchies, path, resources)
        try:
            if self.foreign is not None:
                self._own_pid_namespace = namespaces(self.spec).get("pid") == ""
                sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
            elif self._warm:
                self._adopt_cgroup(path, resources)
            else:
                self._enter_pid_namespace()
            self.server.listen()
            self.main = self._start_init()
        except (StartError, OSError):
            self.server.stop()
            self._remove_cgroup()
            raise
        self.main.on_exit = self._main_exited
        self.init = os.pidfd_open(self.main.pid)
        operations = Operations(self)
        self.server.handle = operations.handle
        self.server.dropped = self._on_dropped
        self._creator = self.server.add(self._first_control)
        self._creator.subscribed = True
        if self._stream is not None:
            operations.join(self._stream, self.main, None, {1, 2})
        operations.tell_created(self._creator)

    def _adopt_cgroup(self, path: str, resources: Spec) -> None:
        self.cgroup.adopt(path, resources)
        if self.cgroup.unified_path not in ("", path):  # whoever cleans up after a killed shim must find it
            os.symlink(self.cgroup.unified_path, f"{self._directory}/{GROUP_NAME}")

    def _enter_pid_namespace(self) -> None:
        """Children of this process are born in the container's pid namespace: the first is its pid 1."""
        path = namespaces(self.spec).get("pid")
        self._own_pid_namespace = path == ""
        if self._own_pid_namespace:
            sc.unshare(sc.CLONE_NEWPID)
            return
        if path:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            sc.setns(fd, sc.CLONE_NEWPID)
            os.close(fd)
        sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)

    def _start_init(self) -> Child:
        request = self.request
        writer = _open_log(request.get("log") or {})
        stdio = Stdio(tty=bool(self.spec["process"].get("terminal")), stdin=bool(request.get("stdin")))
        os.makedirs(request["rootfs"]["target"], 0o700, exist_ok=True)

        def become(channel: socket.socket) -> None:
            if self.foreign is not None:
                self.foreign.drive_init(request["rootfs"], self.identity, channel, stdio.inner)
            enter_group(self.cgroup)
            become_container(
                self.spec,
                request["rootfs"],
                self.seccomp,
                channel,
                stdio.inner,
                self.cgroup,
                self.hierarchies,
                self.identity,
                {},
                reaper=bool(request.get("init")),
            )

        if self._warm:
            self._warm.become(self._request_fd, stdio.inner)
            stdio.close_inner()
            child = Child(self.loop, "", self._warm.pid, self._warm.channel, stdio, writer)
        else:
            child = Child.fork(self.loop, "", become, stdio, writer)
            self.expect_pid(child)
        os.close(self._request_fd)
        child.wait_ready(self._first_control)
        return child

    def expect_pid(self, child: Child) -> None:
        """With another runtime a child is a driver until it tells the pid of what it made, which may have ended."""
        if self.foreign is None:
            return
        self._drivers.add(child.pid)

        def told() -> None:
            status = self._strays.pop(child.pid, None)
            if status is not None:
                self.loop.later(0, lambda: child.ended(status))

        child.on_pid = told

    def _watch_children(self) -> None:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

        def on_signal(_events: int) -> None:
            os.read(read, 512)
            self._reap()

        self.loop.watch(read, IN, on_signal)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in (self.main, *self.execs.values()):
                if child.pid == pid and not child.over:
                    child.ended(status)
                    break
            else:
                if self.foreign is not None and pid not in self._drivers:
                    self._strays[pid] = status
                self._drivers.discard(pid)

    def _on_dropped(self, control: Control) -> None:
        """A creator's connection ended: what it has not started, or what is bound to it, ends too."""
        for child in self.execs.values():
            if child.creator is control and not child.started and not child.over:
                child.signal(signal.SIGKILL)
        orphaned = not self.main.started or not self.request.get("detached", True)
        if control is self._creator and orphaned and not self.main.over:
            self.main.signal(signal.SIGKILL)
            if self.paused:
                self.cgroup.freeze(False)

    def _main_exited(self) -> None:
        if not self._own_pid_namespace:
            self._kill_leftovers()
        self.main.drain(self._main_drained, _LEFTOVER_SECONDS)

    def _kill_leftovers(self) -> None:
        """Without its own pid namespace the container's other processes go on; they are children of this one now."""
        deadline = time.monotonic() + _LEFTOVER_SECONDS
        while time.monotonic() < deadline:
            self.cgroup.kill(signal.SIGKILL)
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as table:
                children = table.read().split()
            if not children:
                return
            for child in children:
                try:
                    os.kill(int(child), signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.002)
            self._reap()

    def _main_drained(self) -> None:
        self.exit = self.main.status() | {"oom_killed": self.cgroup.oom_kills() > 0}
        self._write_exit()
        self.server.broadcast({"event": "exit", "process": "", **self.exit})
        self.end_when_done()

    def _write_exit(self) -> None:
        path = f"{self._directory}/{EXIT_NAME}"
        try:
            fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.write(fd, json.dumps(self.exit).encode())
            os.close(fd)
            os.rename(path + ".new", path)
        except OSError as error:  # a full disk: the daemon still hears it over the socket
            _complain(f"cannot write {path}: {error}")

    def exec_exited(self, child: Child) -> None:
        """A further process ended: take its output, then tell."""

        def drained() -> None:
            self.server.broadcast({"event": "exit", "process": child.id, **child.status(), "oom_killed": False})
            self.execs.pop(child.id, None)
            self.end_when_done()

        child.drain(drained, _LEFTOVER_SECONDS)

    def end(self) -> int:
        """The container is over and deleted: leave nothing behind but clients that still get output; how many."""
        self.server.stop()
        self._remove_cgroup()
        self.end_when_done()
        return self.clients

    def end_when_done(self) -> None:
        """A process or a client ended: end once the container is over and every client has its output."""
        self._endings += 1
        if self._endings % _COLLECT_EVERY == 0:
            gc.collect()  # the spawner switched the collector off; only what this shim made is looked at
        if self.exit is None or self._gone or self.clients or self.execs:
            return
        self._gone = True
        self.server.stop()
        self._remove_cgroup()
        self.loop.stop()

    def _remove_cgroup(self) -> None:
        if self.foreign is not None:
            self.foreign.delete()
        deadline = time.monotonic() + 5
        while not self.cgroup.remove():
            if time.monotonic() > deadline:
                _complain(f"cannot remove the control groups of {self.request['id']}")
                return
            try:
                self.cgroup.kill(signal.SIGKILL)
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except OSError:  # no children any more
                pass
            time.sleep(0.002)


def _open_log(log: Spec) -> Log | None:
    """Where the output is logged. Raises StartError when a destination elsewhere cannot be reached."""
    writer = None
    if log.get("driver") == "json-file":
        compress = bool(log.get("compress"))
        writer = JsonLog(
            log["path"], log.get("max_size"), log.get("max_file") or 1, log.get("attributes"), compress=compress
        )
    sink = log.get("sink")
    if not sink:
        return writer
    from buildtool.runtime.logsinks import open_sink

    try:
        return open_sink(sink, writer)
    except OSError as error:
        raise StartError("other", f"failed to initialize logging driver: {error.strerror or error}") from error


def _complain(text: str) -> None:
    os.write(2, f"shim {os.getpid()}: {text}\n".encode())
