# ruff: noqa: PTH101, PTH103, PTH104, PTH108, PTH123
"""The shim: parent of one container. Holds its streams, reaps it, answers on a unix socket, writes how it ended.

Forked by the spawner for each container; outlives spawner and daemon and ends when the container has ended and every
client has its output. Protocol: docs/runtime.md, "The shim's protocol".
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from typing import Any, NoReturn

from buildtool.runtime import syscalls as sc
from buildtool.runtime.cgroups import Cgroup, Hierarchies
from buildtool.runtime.child import Child, Stdio
from buildtool.runtime.exec import exec_init
from buildtool.runtime.init import container_init, namespaces
from buildtool.runtime.jsonlog import JsonLog
from buildtool.runtime.loop import IN, Loop
from buildtool.runtime.process import Identity, StartError
from buildtool.runtime.streams import Client

Spec = dict[str, Any]
SOCKET_NAME = "shim.sock"
EXIT_NAME = "exit.json"
_LEFTOVER_SECONDS = 2.0  # how long a process left behind may hold the streams after the program's end


class Shim:
    """One container's parent process; `run` never returns."""

    def __init__(self, request: Spec, control: socket.socket, hierarchies: Hierarchies, identity: Identity) -> None:
        self._request = request
        self._spec: Spec = request["spec"]
        self._directory: str = request["directory"]
        self._hierarchies = hierarchies
        self._identity = identity
        self._seccomp = bytes.fromhex(request.get("seccomp") or "")
        self._loop = Loop()
        self._listener: socket.socket | None = None
        self._controls: dict[int, Control] = {}
        self._first_control = control
        self._execs: dict[str, Child] = {}
        self._clients = 0
        self._paused = False
        self._exit: Spec | None = None
        self._gone = False

    def run(self) -> NoReturn:
        """Create the container, answer on the control socket, serve until the end."""
        try:
            self._create()
        except (StartError, OSError) as error:
            kind = error.kind if isinstance(error, StartError) else "other"
            text = str(error) if isinstance(error, StartError) else _os_text(error)
            _send(self._first_control, {"id": 0, "error": {"kind": kind, "message": text}})
            os._exit(1)
        self._loop.run()
        os._exit(0)

    # -- creation

    def _create(self) -> None:
        linux = self._spec.get("linux") or {}
        self._watch_children()
        self._cgroup = Cgroup.create(
            self._hierarchies,
            linux.get("cgroupsPath") or "/buildtool/" + self._request["id"],
            linux.get("resources") or {},
        )
        try:
            self._enter_pid_namespace()
            self._listen()
            self._main = self._start_init()
        except (StartError, OSError):
            self._stop_listening()
            self._remove_cgroup()
            raise
        self._main.on_exit = self._main_exited
        self._init = os.pidfd_open(self._main.pid)
        self._creator = self._add_control(self._first_control)
        self._creator.subscribed = True
        _send(self._first_control, {"id": 0, "ok": self._state() | {"created": self._main.created}})

    def _enter_pid_namespace(self) -> None:
        """Children of this process are born in the container's pid namespace: the first is its pid 1."""
        path = namespaces(self._spec).get("pid")
        self._own_pid_namespace = path == ""
        if path is None:
            sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
        elif path:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            sc.setns(fd, sc.CLONE_NEWPID)
            os.close(fd)
            sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
        else:
            sc.unshare(sc.CLONE_NEWPID)

    def _start_init(self) -> Child:
        request, process = self._request, self._spec["process"]
        tty = bool(process.get("terminal"))
        log = request.get("log") or {}
        writer = None
        if log.get("driver") == "json-file":
            writer = JsonLog(log["path"], log.get("max_size"), log.get("max_file") or 1)
        stdio = Stdio(tty=tty, stdin=bool(request.get("stdin")))
        os.makedirs(request["rootfs"]["target"], 0o700, exist_ok=True)

        def become(channel: socket.socket) -> None:
            container_init(
                self._spec,
                request["rootfs"],
                self._seccomp,
                channel,
                stdio.inner,
                self._cgroup,
                self._hierarchies,
                self._identity,
            )

        child = Child.fork(self._loop, "", become, stdio, writer)
        child.wait_ready()
        return child

    def _listen(self) -> None:
        path = f"{self._directory}/{SOCKET_NAME}"
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._listener.bind(f"/proc/self/fd/{fd}/{SOCKET_NAME}")  # the path itself may be longer than a socket's name
        os.close(fd)
        os.chmod(path, 0o600)
        self._listener.listen(64)
        self._loop.watch(self._listener.fileno(), IN, self._accept)

    def _stop_listening(self) -> None:
        if self._listener is None:
            return
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        try:
            os.unlink(f"{self._directory}/{SOCKET_NAME}")
        except FileNotFoundError:
            pass

    def _watch_children(self) -> None:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

        def on_signal(_events: int) -> None:
            os.read(read, 512)
            self._reap()

        self._loop.watch(read, IN, on_signal)

    # -- the end of processes

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._main.pid:
                self._main.ended(status)
                continue
            for child in list(self._execs.values()):
                if child.pid == pid:
                    child.ended(status)

    def _main_exited(self) -> None:
        """pid 1 is dead: whatever else was in the container goes, then the rest of its output is taken."""
        if not self._own_pid_namespace:
            self._kill_leftovers()
        self._main.drain(self._main_drained, _LEFTOVER_SECONDS)

    def _kill_leftovers(self) -> None:
        """Without its own pid namespace the container's other processes go on; they are children of this one now."""
        deadline = time.monotonic() + _LEFTOVER_SECONDS
        while time.monotonic() < deadline:
            self._cgroup.kill(signal.SIGKILL)
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
        oom = self._cgroup.oom_kills() > 0
        self._exit = self._main.status() | {"oom_killed": oom}
        self._write_exit()
        self._broadcast({"event": "exit", "process": "", **self._exit})
        self._end_when_done()

    def _write_exit(self) -> None:
        path = f"{self._directory}/{EXIT_NAME}"
        try:
            fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.write(fd, json.dumps(self._exit).encode())
            os.close(fd)
            os.rename(path + ".new", path)
        except OSError as error:  # a full disk: the daemon still hears it over the socket
            _complain(f"cannot write {path}: {error}")

    def _exec_exited(self, child: Child) -> None:
        def drained() -> None:
            child.finished = True
            child.finish_streams()
            self._broadcast({"event": "exit", "process": child.id, **child.status(), "oom_killed": False})
            self._end_when_done()

        child.drain(drained, _LEFTOVER_SECONDS)

    def _end_when_done(self) -> None:
        """End once the container is over and every client has its output."""
        if self._exit is None or self._gone:
            return
        if self._clients or any(not child.finished for child in self._execs.values()):
            return
        self._gone = True
        self._stop_listening()
        self._remove_cgroup()
        self._loop.stop()

    def _remove_cgroup(self) -> None:
        deadline = time.monotonic() + 5
        while not self._cgroup.remove():
            if time.monotonic() > deadline:
                _complain(f"cannot remove the control groups of {self._request['id']}")
                return
            try:
                self._cgroup.kill(signal.SIGKILL)
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except (ChildProcessError, OSError):
                pass
            time.sleep(0.002)

    # -- connections

    def _accept(self, _events: int) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        self._add_control(connection)

    def _add_control(self, connection: socket.socket) -> Control:
        connection.setblocking(False)
        control = Control(connection)
        self._controls[connection.fileno()] = control
        self._loop.watch(connection.fileno(), IN, lambda _events: self._on_control(control))
        return control

    def _drop_control(self, control: Control) -> None:
        fd = control.connection.fileno()
        self._loop.forget(fd)
        self._controls.pop(fd, None)
        control.connection.close()
        orphaned = not self._main.started or not self._request.get("detached", True)
        if control is self._creator and orphaned and not self._main.over:
            self._main.signal(signal.SIGKILL)
            if self._paused:
                self._cgroup.freeze(False)

    def _on_control(self, control: Control) -> None:
        try:
            data = control.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop_control(control)
            return
        control.buffer += data
        while b"\n" in control.buffer:
            line, control.buffer = control.buffer.split(b"\n", 1)
            request = json.loads(line)
            if request["op"] == "attach":
                self._attach(control, request)
                return
            self._answer(control, request)

    def _answer(self, control: Control, request: Spec) -> None:
        try:
            handler = getattr(self, "_op_" + request["op"], None)
            if handler is None:
                raise StartError("other", f"the shim does not know the operation {request['op']!r}")
            answer = handler(control, request)
        except StartError as error:
            control.send({"id": request["id"], "error": {"kind": error.kind, "message": str(error)}})
        except OSError as error:
            control.send({"id": request["id"], "error": {"kind": "other", "message": _os_text(error)}})
        else:
            if answer is not None:
                control.send({"id": request["id"], "ok": answer})

    def _broadcast(self, event: Spec) -> None:
        for control in list(self._controls.values()):
            if control.subscribed:
                control.send(event)

    def _attach(self, control: Control, request: Spec) -> None:
        """The connection becomes the stream; bytes that followed the request are its first input."""
        name = request.get("process") or ""
        child = self._main if not name else self._execs.get(name)
        if child is None or child.finished or child.output.closed:
            control.send({"id": request["id"], "error": {"kind": "gone", "message": "the process has ended"}})
            return
        fd = control.connection.fileno()
        self._loop.forget(fd)
        self._controls.pop(fd)
        streams = {number for number, key in ((1, "stdout"), (2, "stderr")) if request.get(key)}
        stdin = child.input if request.get("stdin") else None
        self._clients += 1
        client = Client(self._loop, control.connection, child.output, stdin, streams)
        client.on_gone = self._client_gone
        if stdin is not None and not child.tty and (name or self._request.get("stdin_once")):
            client.on_stdin_end = stdin.close
        client.greet(json.dumps({"id": request["id"], "ok": {}}).encode() + b"\n")
        client.feed(control.buffer)

    def _client_gone(self) -> None:
        self._clients -= 1
        self._end_when_done()

    # -- operations; each returns the answer, or None when it answers later

    def _process(self, request: Spec) -> Child:
        name = request.get("process") or ""
        child = self._main if not name else self._execs.get(name)
        if child is None:
            raise StartError("gone", f"no such process: {name}")
        return child

    def _state(self) -> Spec:
        return {
            "pid": self._main.pid,
            "started": self._main.started,
            "paused": self._paused,
            "exit": self._exit,
            "cgroups": self._cgroup.directories,
            "unified": self._hierarchies.is_v2,
            "warnings": self._cgroup.warnings,
            "tty": self._main.tty,
        }

    def _op_state(self, control: Control, _request: Spec) -> Spec:
        control.subscribed = True
        return self._state()

    def _op_start(self, control: Control, request: Spec) -> None:
        def done(error: StartError | None) -> None:
            if error is None:
                control.send({"id": request["id"], "ok": {}})
            else:
                control.send({"id": request["id"], "error": {"kind": error.kind, "message": str(error)}})

        self._process(request).start(done)

    def _op_signal(self, _control: Control, request: Spec) -> Spec:
        number = request["signal"]
        if request.get("all"):
            self._cgroup.kill(number)
        else:
            self._process(request).signal(number)
        if number == signal.SIGKILL and self._paused and "" not in self._cgroup.directories:
            self._cgroup.freeze(False)  # version 1 delivers nothing to a frozen process
        return {}

    def _op_resize(self, _control: Control, request: Spec) -> Spec:
        self._process(request).resize(request["height"], request["width"])
        return {}

    def _op_close_stdin(self, _control: Control, request: Spec) -> Spec:
        child = self._process(request)
        if child.input is not None:
            child.input.close()
        return {}

    def _op_freeze(self, control: Control, request: Spec) -> Spec | None:
        frozen = bool(request["frozen"])
        self._cgroup.freeze(frozen)
        self._paused = frozen
        if frozen:
            self._await_frozen(control, request, 200)
            return None
        return {}

    def _await_frozen(self, control: Control, request: Spec, tries: int) -> None:
        if self._cgroup.frozen() or self._exit is not None:
            control.send({"id": request["id"], "ok": {}})
        elif tries == 0:
            self._cgroup.freeze(False)
            self._paused = False
            text = "the container's processes do not freeze"
            control.send({"id": request["id"], "error": {"kind": "other", "message": text}})
        else:
            self._loop.later(0.005, lambda: self._await_frozen(control, request, tries - 1))

    def _op_update(self, _control: Control, request: Spec) -> Spec:
        self._cgroup.update(request["resources"])
        return {"warnings": self._cgroup.warnings}

    def _op_exec(self, control: Control, request: Spec) -> None:
        name, process = request["process"], request["spec"]
        if self._exit is not None or not self._main.started or self._main.over:
            raise StartError("gone", "the container is not running")
        if name in self._execs:
            raise StartError("other", f"the process id {name!r} is taken")
        stdio = Stdio(tty=bool(process.get("terminal")), stdin=bool(request.get("stdin")))

        def become(channel: socket.socket) -> None:
            exec_init(process, self._init, self._seccomp, channel, stdio.inner, self._cgroup, self._identity)

        child = Child.fork(self._loop, name, become, stdio, None)
        self._execs[name] = child
        child.on_exit = lambda: self._exec_exited(child)

        def ready(error: StartError | None) -> None:
            if error is None:
                control.send({"id": request["id"], "ok": {"pid": child.pid}})
            else:
                self._execs.pop(name, None)
                child.on_exit = lambda: None
                child.finish_streams()
                control.send({"id": request["id"], "error": {"kind": error.kind, "message": str(error)}})

        child.when_ready(ready)

    def _op_forget(self, _control: Control, request: Spec) -> Spec:
        """Drop what is kept of an ended exec."""
        child = self._execs.get(request["process"])
        if child is not None and child.finished:
            del self._execs[request["process"]]
        return {}


class Control:
    """One control connection: JSON lines in both directions; events once it has asked for the state."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = b""
        self.subscribed = False

    def send(self, message: Spec) -> None:
        """Send without ever blocking the shim: a peer that does not read its answers is cut off."""
        if self.connection.fileno() < 0:
            return
        data = json.dumps(message).encode() + b"\n"
        try:
            if self.connection.send(data) != len(data):
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


def _send(connection: socket.socket, message: Spec) -> None:
    Control(connection).send(message)


def _os_text(error: OSError) -> str:
    what = f"{error.filename}: " if error.filename else ""
    return f"{what}{(error.strerror or str(error)).lower()}"


def _complain(text: str) -> None:
    os.write(2, f"shim {os.getpid()}: {text}\n".encode())
