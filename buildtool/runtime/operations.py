"""What a shim does on request: start, signal, resize, freeze, update, exec, attach."""

from __future__ import annotations

import errno
import json
import signal
import socket
from typing import TYPE_CHECKING, Any

from buildtool.runtime.child import Child, Stdio
from buildtool.runtime.exec import exec_init
from buildtool.runtime.process import OTHER, StartError
from buildtool.runtime.shim_server import Control
from buildtool.runtime.streams import Client, Input

if TYPE_CHECKING:
    from buildtool.runtime.shim import Shim

Spec = dict[str, Any]
_FREEZE_TRIES, _FREEZE_PAUSE = 200, 0.005


class Operations:
    """The operations on one container, by name; each returns its answer, or None when it answers later."""

    def __init__(self, shim: Shim) -> None:
        self._shim = shim
        self._table = {
            "state": self._state,
            "start": self._start,
            "signal": self._signal,
            "resize": self._resize,
            "close_stdin": self._close_stdin,
            "freeze": self._freeze,
            "update": self._update,
            "exec": self._exec,
            "attach": self._attach,
            "end": self._end,
        }

    def handle(self, control: Control, request: Spec) -> Spec | None:
        operation = self._table.get(request["op"])
        if operation is None:
            raise StartError(OTHER, f"the shim does not know the operation {request['op']!r}")
        return operation(control, request)

    def state(self) -> Spec:
        shim = self._shim
        return {
            "pid": shim.main.pid,
            "started": shim.main.started,
            "paused": shim.paused,
            "exit": shim.exit,
            "cgroups": shim.cgroup.directories,
            "unified": shim.hierarchies.is_v2,
            "warnings": shim.cgroup.warnings,
            "tty": shim.main.tty,
        }

    def tell_created(self, creator: Control) -> None:
        """Answer the creation; when it asks for the start as well, once the program is executed."""

        def done(error: StartError | None) -> None:
            if error is None:
                creator.answer({"id": 0}, self.state() | {"created": self._shim.main.created})
            else:
                creator.refuse({"id": 0}, error)

        if self._shim.request.get("start"):
            self._shim.main.start(done)
        else:
            done(None)

    def _process(self, request: Spec) -> Child:
        name = request.get("process") or ""
        child = self._shim.main if not name else self._shim.execs.get(name)
        if child is None:
            raise StartError("gone", "the process has ended")
        return child

    def _state(self, control: Control, _request: Spec) -> Spec:
        control.subscribed = True
        return self.state()

    def _start(self, control: Control, request: Spec) -> None:
        def done(error: StartError | None) -> None:
            if error is None:
                control.answer(request, {})
            else:
                control.refuse(request, error)

        self._process(request).start(done)

    def _signal(self, _control: Control, request: Spec) -> Spec:
        shim, number = self._shim, request["signal"]
        if request.get("all"):
            shim.cgroup.kill(number)
        else:
            self._process(request).signal(number)
        if number == signal.SIGKILL and shim.paused and "" not in shim.cgroup.directories:
            shim.cgroup.freeze(False)  # version 1 delivers nothing to a frozen process
        return {}

    def _resize(self, _control: Control, request: Spec) -> Spec:
        self._process(request).resize(request["height"], request["width"])
        return {}

    def _close_stdin(self, _control: Control, request: Spec) -> Spec:
        child = self._process(request)
        if child.input is not None:
            child.input.close()
        return {}

    def _freeze(self, control: Control, request: Spec) -> Spec | None:
        frozen = bool(request["frozen"])
        try:
            self._shim.cgroup.freeze(frozen)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            raise StartError("unavailable", error.strerror or str(error)) from error
        self._shim.paused = frozen
        if frozen:
            self._await_frozen(control, request, _FREEZE_TRIES)
            return None
        return {}

    def _await_frozen(self, control: Control, request: Spec, tries: int) -> None:
        shim = self._shim
        if shim.cgroup.frozen() or shim.exit is not None:
            control.answer(request, {})
        elif tries == 0:
            shim.cgroup.freeze(False)
            shim.paused = False
            control.refuse(request, StartError(OTHER, "the container's processes do not freeze"))
        else:
            shim.loop.later(_FREEZE_PAUSE, lambda: self._await_frozen(control, request, tries - 1))

    def _update(self, _control: Control, request: Spec) -> Spec:
        cgroup = self._shim.cgroup
        cgroup.warnings.clear()
        cgroup.update(request["resources"])
        return {"warnings": cgroup.warnings, "cgroups": cgroup.directories}

    def _exec(self, control: Control, request: Spec) -> None:
        shim, name, process = self._shim, request["process"], request["spec"]
        if shim.exit is not None or not shim.main.started or shim.main.over:
            raise StartError("gone", "the container is not running")
        if not name or name in shim.execs:
            raise StartError("state", f"the process id {name!r} is taken")
        stdio = Stdio(tty=bool(process.get("terminal")), stdin=bool(request.get("stdin")))

        def become(channel: socket.socket) -> None:
            if shim.foreign is not None:
                shim.foreign.drive_exec(name, process, channel, stdio.inner)
            exec_init(
                process,
                shim.init,
                shim.main.pid,
                shim.spec,
                shim.seccomp,
                channel,
                stdio.inner,
                shim.cgroup,
                shim.identity,
            )

        child = Child.fork(shim.loop, name, become, stdio, None)
        child.creator = control
        shim.expect_pid(child)
        if shim.foreign is not None and stdio.tty and stdio.has_stdin:
            child.input = Input(shim.loop)  # its terminal comes with the start
        shim.execs[name] = child
        child.on_exit = lambda: shim.exec_exited(child)

        def ready(error: StartError | None) -> None:
            if error is None:
                control.answer(request, {"pid": child.pid})
                return
            shim.execs.pop(name, None)
            child.on_exit = lambda: None
            child.finish_streams()
            control.refuse(request, error)
            shim.end_when_done()

        child.when_ready(ready)

    def _attach(self, control: Control, request: Spec) -> None:
        """The connection becomes the stream; bytes that followed the request are its first input."""
        shim, child = self._shim, self._process(request)
        if child.finished:
            raise StartError("gone", "the process has ended")
        streams = {number for number, key in ((1, "stdout"), (2, "stderr")) if request.get(key)}
        stdin = child.input if request.get("stdin") else None
        client = self.join(shim.server.release(control), child, stdin, streams)
        if stdin is not None and not child.tty and (child is not shim.main or shim.request.get("stdin_once")):
            client.on_stdin_end = stdin.close
        client.greet(json.dumps({"id": request["id"], "ok": {}}).encode() + b"\n")
        client.feed(control.buffer)

    def join(self, connection: socket.socket, child: Child, stdin: Input | None, streams: set[int]) -> Client:
        """Make a connection one of a process's streams."""
        connection.setblocking(False)
        self._shim.clients += 1
        client = Client(self._shim.loop, connection, child.output, stdin, streams)
        client.on_gone = self._client_gone
        return client

    def _client_gone(self) -> None:
        self._shim.clients -= 1
        self._shim.end_when_done()

    def _end(self, control: Control, request: Spec) -> None:
        if self._shim.exit is None:
            raise StartError("state", "the container has not ended")
        control.answer(request, {"lingering": self._shim.end()})
