# ruff: noqa: PTH123
"""The container's first process, from its fork to its exec: namespaces, mounts, pivot, identity.

Runs in a child of the shim that is already pid 1 of the new pid namespace. It reports over `channel` (a
SOCK_SEQPACKET socket that exec closes) and waits there for "start".
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any

from buildtool.cache.overlay import mount_overlay
from buildtool.runtime import devices, mounts
from buildtool.runtime import process as program
from buildtool.runtime import syscalls as sc
from buildtool.runtime.cgroups import Cgroup, Hierarchies
from buildtool.runtime.process import Identity, StartError
from buildtool.runtime.reaper import fork_program
from buildtool.runtime.rootpath import open_in_root

Spec = dict[str, Any]
NAMESPACE_FLAGS = {
    "mount": sc.CLONE_NEWNS,
    "uts": sc.CLONE_NEWUTS,
    "ipc": sc.CLONE_NEWIPC,
    "network": sc.CLONE_NEWNET,
    "cgroup": sc.CLONE_NEWCGROUP,
    "pid": sc.CLONE_NEWPID,
}


def namespaces(spec: Spec) -> dict[str, str]:
    """The spec's namespaces: kind to path ("" = a new one)."""
    return {one["type"]: one.get("path") or "" for one in (spec.get("linux") or {}).get("namespaces") or []}


def enter_group(cgroup: Cgroup) -> None:
    """What the init process does whatever the container will be."""
    program.reset_signals()
    os.setsid()
    os.umask(0)
    cgroup.join()


def become_container(
    spec: Spec,
    rootfs: Spec,
    seccomp: bytes,
    channel: socket.socket,
    stdio: tuple[int, int, int] | None,
    cgroup: Cgroup,
    hierarchies: Hierarchies,
    identity: Identity,
    before: dict[str, int],
    *,
    reaper: bool = False,
    gate: Callable[[], None] | None = None,
    before_pivot: Callable[[], None] | None = None,
    kept: tuple[int, ...] = (),
) -> None:
    """Set the container up and become its program, or with `reaper` the init that runs it below itself.

    Returns only by raising; StartError is for the user. `gate` waits for the start in another way than at the channel
    (and may use the descriptors `kept`); the process does not die with its parent then. `before_pivot` is called when
    all is mounted and the host's files are still there.

    The process is in its control groups (`enter_group`); `before` is what `leave_namespaces` gave, or nothing.
    """
    process = spec["process"]
    _enter_namespaces(spec, before)
    created: list[str] = []
    root, terminal = _build_root(spec, rootfs, cgroup, hierarchies, identity, created)
    _configure(spec)
    if before_pivot is not None:
        before_pivot()
    _pivot(root, readonly=bool((spec.get("root") or {}).get("readonly")))
    _new_keyring()
    uid = (process.get("user") or {}).get("uid", 0)
    if terminal is not None:
        master, slave = terminal
        take_terminal(slave, process, uid)
        report(channel, {"created": created}, master)
        os.close(master)
    else:
        assert stdio is not None
        program.take_stdio(*stdio, uid)
        report(channel, {"created": created})
    sc.close_all_but(channel.fileno(), *kept)
    program.set_limits(process, identity)
    program.run(
        process,
        identity,
        seccomp,
        gate or (lambda: wait_for_start(channel)),
        prepare_directory=True,
        parent_signal=gate is None,
        before_exec=(lambda arguments: fork_program(channel.fileno(), arguments)) if reaper else None,
    )


def report(channel: socket.socket, message: Spec, fd: int = -1) -> None:
    """Send one message, perhaps with a descriptor."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
    channel.sendmsg([json.dumps(message).encode()], ancillary)


def wait_for_start(channel: socket.socket) -> None:
    """Tell that everything is set and block until the shim says "start"; end when the shim is gone."""
    report(channel, {"ready": True})
    if channel.recv(16) != b"start":
        os._exit(1)


def open_terminal(ptmx: int, process: Spec) -> tuple[int, int]:
    """A new terminal of the devpts that `ptmx` (the open multiplexer) belongs to: master and slave descriptors."""
    fcntl.ioctl(ptmx, termios.TIOCSPTLCK if hasattr(termios, "TIOCSPTLCK") else 0x40045431, struct.pack("i", 0))
    tiocgptpeer = 0x5441
    slave = fcntl.ioctl(ptmx, tiocgptpeer, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    size = process.get("consoleSize") or {}
    if size.get("height") or size.get("width"):
        set_size(ptmx, size.get("height", 0), size.get("width", 0))
    return ptmx, slave


def set_size(fd: int, height: int, width: int) -> None:
    """Set a terminal's size in characters."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def take_terminal(slave: int, process: Spec, uid: int) -> None:
    """Make the terminal this session's controlling one and its standard streams."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    program.take_stdio(slave, slave, slave, uid)


def leave_namespaces(*, own_network: bool) -> dict[str, int]:
    """Enter new namespaces of the kinds that most containers have of their own and that show nothing of the host.

    Returns descriptors of the ones left, by kind. (A mount namespace is a copy of the host's at its time, so it is
    made when the container is.)
    """
    kinds = ("network", "ipc", "uts") if own_network else ("ipc", "uts")
    before = {kind: os.open(f"/proc/self/ns/{kind[:3]}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds}
    sc.unshare(sc.CLONE_NEWIPC | sc.CLONE_NEWUTS | (sc.CLONE_NEWNET if own_network else 0))
    if own_network:
        sc.bring_loopback_up()
    return before


def _enter_namespaces(spec: Spec, before: dict[str, int]) -> None:
    flags = 0
    wanted = namespaces(spec)
    for kind, fd in before.items():
        if kind not in wanted:
            sc.setns(fd, NAMESPACE_FLAGS[kind])
        os.close(fd)
    for kind, path in wanted.items():
        if kind == "user":
            raise StartError(
                program.OTHER, "a user namespace for one container is not supported; run the daemon rootless instead"
            )
        if kind not in NAMESPACE_FLAGS:
            raise StartError(program.OTHER, f"namespace type {kind!r} is not supported")
        if kind == "pid":  # the shim has entered it: its children are born there
            continue
        if not path:
            flags |= 0 if kind in before else NAMESPACE_FLAGS[kind]
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            sc.setns(fd, NAMESPACE_FLAGS[kind])
            os.close(fd)
        except OSError as error:
            raise StartError(
                program.OTHER, f"cannot join the {kind} namespace at {path}: {error.strerror}"
            ) from error
    try:
        sc.unshare(flags)
    except OSError as error:
        raise StartError(program.OTHER, f"cannot make namespaces: {error.strerror}") from error
    if flags & sc.CLONE_NEWNET:
        sc.bring_loopback_up()


def _build_root(
    spec: Spec, rootfs: Spec, cgroup: Cgroup, hierarchies: Hierarchies, identity: Identity, created: list[str]
) -> tuple[int, tuple[int, int] | None]:
    """Mount everything below the bundle's rootfs directory; its descriptor, and the terminal when there is one."""
    linux = spec.get("linux") or {}
    wanted = spec.get("mounts") or []
    if "mount" not in namespaces(spec):
        raise StartError(program.OTHER, "a container without a mount namespace of its own is not supported")
    try:
        trees = mounts.open_sources(wanted)
        sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)  # the sources keep the propagation they had
        root = mount_root(rootfs, identity)
        groups = mounts.CgroupMounts(
            cgroup.directories, unified=hierarchies.is_v2, namespaced="cgroup" in namespaces(spec)
        )
        mounts.make_mounts(root, wanted, trees, groups, created)
        terminal = None
        if not any(mount["destination"] == "/dev" and mount.get("type") == "bind" for mount in wanted):
            devices.fill_dev(root, linux.get("devices") or [], bind=identity.in_user_namespace)
        if spec["process"].get("terminal"):
            ptmx = open_in_root(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
            terminal = open_terminal(ptmx, spec["process"])
            devices.bind_console(root, f"/proc/self/fd/{terminal[1]}")
        _set_sysctls(linux.get("sysctl") or {})
        mounts.mask_paths(root, linux.get("maskedPaths") or [])
        mounts.make_readonly_paths(root, linux.get("readonlyPaths") or [])
    except mounts.MountError as error:
        raise StartError(program.OTHER, str(error)) from error
    except OSError as error:
        what = f" {error.filename}" if error.filename else ""
        raise StartError(
            program.OTHER, f"cannot set up the root file system:{what}: {error.strerror or error}"
        ) from error
    return root, terminal


def mount_root(rootfs: Spec, identity: Identity) -> int:
    """Mount the root file system of a request at its target; a descriptor of it."""
    target = rootfs["target"]
    if "path" in rootfs:
        tree = sc.open_tree(rootfs["path"], True)
        sc.mount_setattr(tree, 0, sc.MS_PRIVATE, recursive=True)
        place = os.open(target, os.O_PATH | os.O_CLOEXEC)
        sc.move_mount(tree, place)
        os.close(place)
        os.close(tree)
    else:
        mount_overlay(
            target,
            rootfs["lower"],
            rootfs.get("upper"),
            rootfs.get("work"),
            userxattr=identity.in_user_namespace,
            volatile=bool(rootfs.get("volatile")),
        )
    return os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _set_sysctls(values: dict[str, str]) -> None:
    for name, value in values.items():
        try:
            with open("/proc/sys/" + name.replace(".", "/"), "w", encoding="utf-8") as file:
                file.write(value)
        except OSError as error:
            raise StartError(program.OTHER, f"cannot set sysctl {name} to {value!r}: {error.strerror}") from error


def _configure(spec: Spec) -> None:
    kinds = namespaces(spec)
    if "uts" in kinds and not kinds["uts"]:
        if spec.get("hostname"):
            socket.sethostname(spec["hostname"])
        if spec.get("domainname"):
            sc.set_domain_name(spec["domainname"])


def _pivot(root: int, *, readonly: bool) -> None:
    os.fchdir(root)
    sc.pivot_root(".", ".")
    sc.umount(".", sc.MNT_DETACH)
    os.chdir("/")
    if readonly:
        tree = os.open("/", os.O_PATH | os.O_CLOEXEC)
        sc.mount_setattr(tree, sc.MOUNT_ATTR_RDONLY)
        os.close(tree)
    os.close(root)


def _new_keyring() -> None:
    """Keyrings are not namespaced: leave the daemon's session keyring."""
    try:
        sc.join_new_session_keyring()
    except OSError:  # a quota, or a kernel without keyrings: nothing is shared then that matters
        return
