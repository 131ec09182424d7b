# ruff: noqa: PTH106
"""A shim and an init process made before anyone asked for a container.

The first process that enters a control group waits there for the kernel (several milliseconds, while every processor
passes a quiescent state), longer than all else that a start needs. So the spawner keeps a few pairs: the init process
is pid 1 of its pid namespace, in control groups and some namespaces of its own; when a request comes the groups get
the container's name (version 1; version 2 knows no renaming) and its limits, and the init process hears what it is to
become.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

from buildtool.runtime import process as program
from buildtool.runtime import syscalls as sc
from buildtool.runtime.cgroup_limits import NO_DEVICES
from buildtool.runtime.cgroups import DEFAULT_PARENT, Cgroup, Hierarchies
from buildtool.runtime.child import child_main
from buildtool.runtime.init import become_container, enter_group, leave_namespaces
from buildtool.runtime.process import Identity, StartError

Spec = dict[str, Any]
_PREFIX = "warm-"
_STALE_SECONDS = 60.0
_MESSAGE_BYTES = 64 * 1024
_MOST_FDS = 4  # the request, and the standard streams
_JOINED = b"joined"


class Warm:
    """The waiting init process, as the shim that is its parent holds it."""

    def __init__(self, hierarchies: Hierarchies, identity: Identity, *, own_network: bool = True) -> None:
        path = f"{DEFAULT_PARENT}/{_PREFIX}{secrets.token_hex(16)}"
        self.cgroup = Cgroup.create(hierarchies, path, {"devices": [NO_DEVICES]})
        try:
            sc.unshare(sc.CLONE_NEWPID)
            self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.pid = os.fork()
            if self.pid == 0:
                self.channel.close()
                child_main(
                    lambda channel: _wait_as_init(channel, self.cgroup, hierarchies, identity, own_network), theirs
                )
            theirs.close()
            if self.channel.recv(_MESSAGE_BYTES) != _JOINED:
                raise OSError("the init process did not get into its control groups")
        except OSError:
            self._remove_cgroup()
            raise

    def become(self, request_fd: int, stdio: tuple[int, int, int] | None) -> None:
        """Let it become the container of the request; it reports on the channel as any init process does."""
        fds = array.array("i", [request_fd, *(stdio or ())])
        message = json.dumps(self.cgroup.directories).encode()
        try:
            self.channel.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        except OSError as error:
            raise StartError(program.OTHER, "the container's init process died before it was needed") from error

    def discard(self) -> None:
        """Nobody needs it any more."""
        self.channel.close()
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self._remove_cgroup()

    def _remove_cgroup(self) -> None:
        deadline = time.monotonic() + 2
        while not self.cgroup.remove() and time.monotonic() < deadline:
            time.sleep(0.002)


def _wait_as_init(
    channel: socket.socket, cgroup: Cgroup, hierarchies: Hierarchies, identity: Identity, own_network: bool
) -> None:
    """The init process until its exec."""
    sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
    enter_group(cgroup)
    # The root of a user namespace cannot come back into the host's namespaces, which --network host asks for.
    before = {} if identity.in_user_namespace else leave_namespaces(own_network=own_network)
    channel.send(_JOINED)
    data, ancillary, _flags, _address = channel.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(4 * _MOST_FDS))
    if not data:
        os._exit(0)
    fds = descriptors(ancillary)
    cgroup.directories = json.loads(data)
    request = read_request(fds[0])
    stdio = (fds[1], fds[2], fds[3]) if len(fds) == _MOST_FDS else None
    seccomp = bytes.fromhex(request.get("seccomp") or "")
    become_container(
        request["spec"],
        request["rootfs"],
        seccomp,
        channel,
        stdio,
        cgroup,
        hierarchies,
        identity,
        before,
        reaper=bool(request.get("init")),
    )


def read_request(fd: int) -> Spec:
    """The request in a memory file, wherever its position is."""
    request: Spec = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
    return request


def descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came with a message; no program that is executed gets them."""
    fds = array.array("i")
    for _level, _kind, payload in ancillary:
        fds.frombytes(payload)
    for fd in fds:
        os.set_inheritable(fd, False)
    return list(fds)


def sweep(hierarchies: Hierarchies) -> None:
    """Remove the control groups of waiting shims that were killed; those that something lives in stay."""
    horizon = time.time() - _STALE_SECONDS
    for place in {hierarchies.unified, *hierarchies.v1.values()} - {""}:
        with contextlib.suppress(OSError), os.scandir(place + DEFAULT_PARENT) as entries:
            for entry in entries:
                if entry.name.startswith(_PREFIX) and entry.stat().st_mtime < horizon:
                    with contextlib.suppress(OSError):
                        os.rmdir(entry.path)
