"""Making a container's first process, and further ones, for a caller that holds their streams."""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from buildtool.runtime import syscalls as sc
from buildtool.runtime.cgroups import Cgroup, Hierarchies
from buildtool.runtime.child import tell_failure
from buildtool.runtime.exec import exec_init
from buildtool.runtime.init import become_container, enter_group, namespaces, report
from buildtool.runtime.oci import hooks
from buildtool.runtime.process import OTHER, Identity, StartError

Spec = dict[str, Any]
_MESSAGE_BYTES = 1 << 20


def launch_init(
    spec: Spec,
    rootfs: str,
    start_socket: str,
    cgroup: Cgroup,
    hierarchies: Hierarchies,
    console: str,
    created: Callable[[int], Spec],
) -> int:
    """Fork the first process, which waits at `start_socket` for its start; its pid. Raises StartError.

    `created` is called with the pid when the namespaces and mounts are there, before the pivot; it gives the state
    that the hooks within the container get.
    """
    seccomp = _filter(spec)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    with _short(start_socket) as name:
        listener.bind(name)
    os.chmod(start_socket, 0o600)
    listener.listen(1)

    def become(channel: socket.socket) -> None:
        speaker = channel
        state: Spec = {}

        def before_pivot() -> None:
            report(channel, {"mounted": True})
            answer = channel.recv(_MESSAGE_BYTES)
            if not answer:  # a hook outside has failed
                os._exit(1)
            state.update(json.loads(answer))
            hooks.run(spec, ("createContainer",), state)

        def gate() -> None:
            nonlocal speaker
            report(channel, {"ready": True})
            speaker, _ = listener.accept()
            if speaker.recv(16) != b"start":
                os._exit(1)
            hooks.run(spec, ("startContainer",), {**state, "status": "created", "pid": os.getpid()})

        try:
            enter_group(cgroup)
            become_container(
                spec,
                {"path": rootfs, "target": rootfs},
                seccomp,
                channel,
                None if spec["process"].get("terminal") else (0, 1, 2),
                cgroup,
                hierarchies,
                Identity(),
                {},
                gate=gate,
                before_pivot=before_pivot,
                kept=(listener.fileno(),),
            )
        except BaseException as error:  # noqa: BLE001 - it must neither go on as the caller nor die silent
            tell_failure(speaker, error)
            os._exit(127)

    with listener:
        pid_namespace = namespaces(spec).get("pid")
        return _fork(become, _enter(pid_namespace), console, created=created)


def start(start_socket: str) -> None:
    """Let the first process execute its program. Raises StartError, also when it was started before."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as gate:
        try:
            with _short(start_socket) as name:
                gate.connect(name)
        except OSError:
            raise StartError(OTHER, "cannot start a container that is not in the created state") from None
        gate.send(b"start")
        answer = gate.recv(_MESSAGE_BYTES)
    os.unlink(start_socket)
    if answer:
        _raise(json.loads(answer))


def launch_exec(process: Spec, spec: Spec, pid: int, cgroup: Cgroup, console: str) -> int:
    """Fork a further process in the container of the process `pid`; its pid, once it executes. Raises StartError."""
    seccomp = _filter(spec)
    init = os.pidfd_open(pid)

    def become(channel: socket.socket) -> None:
        stdio = None if process.get("terminal") else (0, 1, 2)
        try:
            exec_init(process, init, pid, spec, seccomp, channel, stdio, cgroup, Identity(), parent_signal=False)
        except BaseException as error:  # noqa: BLE001 - as above
            tell_failure(channel, error)
            os._exit(127)

    own = "pid" in namespaces(spec)
    return _fork(become, (lambda: sc.setns(init, sc.CLONE_NEWPID)) if own else (lambda: None), console, started=True)


@contextmanager
def _short(path: str) -> Iterator[str]:
    """The path by its directory's descriptor: it may be longer than a socket's name."""
    folder, _, name = path.rpartition("/")
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def _filter(spec: Spec) -> bytes:
    wanted = (spec.get("linux") or {}).get("seccomp")
    if not wanted:
        return b""
    from buildtool.runtime.seccomp import assemble

    return assemble(wanted)


def _enter(pid_namespace: str | None) -> Callable[[], None]:
    """What puts children of the calling process into the container's pid namespace."""

    def enter() -> None:
        if pid_namespace:
            fd = os.open(pid_namespace, os.O_RDONLY | os.O_CLOEXEC)
            sc.setns(fd, sc.CLONE_NEWPID)
            os.close(fd)
        elif pid_namespace == "":
            sc.unshare(sc.CLONE_NEWPID)

    return enter


def _fork(
    become: Callable[[socket.socket], None],
    enter: Callable[[], None],
    console: str,
    *,
    started: bool = False,
    created: Callable[[int], Spec] | None = None,
) -> int:
    """Fork `become` through a process in between, whose children are born in the container's pid namespace.

    It ends at once, so that the child is reaped by whoever called us. `started`: wait for the execution as well.
    `created` is called with the pid once all is mounted, and what it gives is sent.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    between = os.fork()
    if between == 0:
        ours.close()
        _between(become, enter, theirs)
    theirs.close()
    os.waitpid(between, 0)
    pid: int = 0
    ready = mounted = False
    with ours:
        while True:
            data, ancillary, _flags, _address = ours.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(4))
            if not data:
                if started and pid:
                    return pid
                raise StartError(OTHER, "the container's process died while it was set up")
            for _level, _kind, payload in ancillary:
                _hand_over(array.array("i", payload)[0], console)
            message = json.loads(data)
            if "error" in message:
                _raise(message)
            pid = int(message.get("pid", pid))
            mounted = mounted or bool(message.get("mounted"))
            if mounted and pid and created is not None:
                ours.send(json.dumps(created(pid)).encode())
                mounted = False
            if message.get("ready"):
                ready = True
                if started:
                    ours.send(b"start")
            if ready and pid and not started:
                return pid


def _between(become: Callable[[socket.socket], None], enter: Callable[[], None], channel: socket.socket) -> NoReturn:
    try:
        enter()
        pid = os.fork()
        if pid == 0:
            become(channel)
        report(channel, {"pid": pid})
    except BaseException as error:  # noqa: BLE001 - told to the caller
        tell_failure(channel, error)
    finally:
        os._exit(0)


def _raise(message: Spec) -> NoReturn:
    raise StartError(message["kind"], message["error"])


def _hand_over(master: int, console: str) -> None:
    """Send a terminal to who asked for it. Source: runc's documentation, "Terminals", "Detached pass-through"."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as receiver:
            with _short(os.path.abspath(console)) as name:
                receiver.connect(name)
            receiver.sendmsg([b"/dev/ptmx"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master]))])
    except OSError as error:
        raise StartError(OTHER, f"cannot hand the terminal over to {console}: {error.strerror}") from error
    finally:
        os.close(master)
