"""A further process in a running container, from its fork to its exec.

The shim's children are born in the container's pid namespace; the other namespaces are joined from its init process.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from buildtool.runtime import process as program
from buildtool.runtime import syscalls as sc
from buildtool.runtime.cgroups import Cgroup
from buildtool.runtime.init import NAMESPACE_FLAGS, namespaces, open_terminal, report, take_terminal, wait_for_start
from buildtool.runtime.process import Identity, StartError


def exec_init(
    process: dict[str, Any],
    init: int,
    pid: int,
    spec: dict[str, Any],
    seccomp: bytes,
    channel: socket.socket,
    stdio: tuple[int, int, int] | None,
    cgroup: Cgroup,
    identity: Identity,
    *,
    parent_signal: bool = True,
) -> None:
    """Join the container of the process `init` (a pidfd, and `pid`) and become `process`. Returns only by raising.

    `parent_signal`: it dies with its parent.
    """
    flags = 0
    for kind in namespaces(spec):
        flags |= NAMESPACE_FLAGS[kind]
    program.reset_signals()
    os.setsid()
    cgroup.join()
    root = _root_of(pid)
    try:
        sc.setns(init, flags & ~sc.CLONE_NEWPID)
        if root is not None:
            os.fchdir(root)
            os.chroot(".")
    except OSError as error:
        raise StartError(program.OTHER, f"cannot join the container's namespaces: {error.strerror}") from error
    uid = (process.get("user") or {}).get("uid", 0)
    if stdio is None:
        ptmx = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        master, slave = open_terminal(ptmx, process)
        take_terminal(slave, process, uid)
        report(channel, {}, master)
        os.close(master)
    else:
        program.take_stdio(*stdio, uid)
    sc.close_all_but(channel.fileno())
    program.set_limits(process, identity)
    program.run(
        process,
        identity,
        seccomp,
        lambda: wait_for_start(channel),
        prepare_directory=False,
        parent_signal=parent_signal,
    )


def _root_of(pid: int) -> int | None:
    """The container's root directory; None when its program may not be looked into.

    Joining a mount namespace leads to the root of that namespace, which is the container's only where the daemon is
    not itself in a changed root (chroot).
    """
    try:
        return os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
