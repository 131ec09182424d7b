"""RUN by chroot alone: for a daemon in a container that may neither mount nor unshare.

The tree is copied, the command runs in it as a child of the daemon, and what has changed becomes the layer. It sees
the processes and the network of the container that the daemon is in; limits, read-only mounts and the seccomp filter
are not there; /proc and /sys are empty. Steps run one at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path

from buildtool.cache import SnapshotId, Store
from buildtool.errors import StepFailed, Unavailable
from buildtool.graph import Exec, Node
from buildtool.runtime import ExitStatus
from buildtool.runtime.capabilities import NUMBERS, SYS_ADMIN
from buildtool.solve.chroot_room import ChrootRoom, drop_tree
from buildtool.solve.flights import Listener
from buildtool.solve.prepare import Prepared
from buildtool.solve.request import BuildRequest
from buildtool.solve.run_output import Mask, failure
from buildtool.solve.run_room import RunContext
from buildtool.solve.threads import to_end

WARNING = (
    "RUN steps are isolated by chroot only: they have the processes, the network and the powers of the container "
    "that this daemon is in; /proc and /sys are empty, limits and read-only mounts are not kept, secrets lie on the "
    "disk while their step runs, and steps run one at a time (containers need CAP_SYS_ADMIN or user namespaces, and "
    "a data root that is not on an overlay)"
)
NO_COMMANDS = (
    "this user may make no user namespaces: RUN steps cannot be executed, and every file of the image belongs to root"
)
_SYS_CHROOT = 1 << NUMBERS["CAP_SYS_CHROOT"]
_NO_UPPER = ("overlay", "nfs", "nfs4")
_CHUNK = 1 << 16
_one_at_a_time: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}


def only_chroot_is_possible(directory: Path) -> bool:
    """Whether this process is root without the capability to mount and unshare, as in a plain container, or what it
    keeps in the directory cannot be mounted as the upper layer of an overlay: it lies on one, or on NFS."""
    if os.geteuid() != 0:
        return False
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            can_mount = effective & SYS_ADMIN and _file_system(directory) not in _NO_UPPER
            return not can_mount and bool(effective & _SYS_CHROOT)
    return False


def _file_system(directory: Path) -> str:
    """The type of the file system that a directory is on; "" when it is not told."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return ""


def refuse_commands(prepared: Prepared) -> None:
    """Raise Unavailable, before anything is done, for a RUN of a user who has neither namespaces nor chroot(2)."""
    for node in map(prepared.node, prepared.plan.graph):
        if isinstance(node.step, Exec) and node.id not in prepared.hits:
            raise Unavailable(
                "RUN cannot be executed: a plain user can make no user namespaces here, and chroot(2) is root's",
                where=node.span,
                hint="in a container, be root (docker run -u 0: RUN then has a chroot), or let it make user "
                "namespaces (--security-opt seccomp=unconfined); or take the step from a cache (--cache-from)",
            )


async def execute_chroot(
    context: RunContext,
    request: BuildRequest,
    node: Node,
    chains: Sequence[Sequence[SnapshotId]],
    listener: Listener,
) -> SnapshotId:
    """Run the command on a copy of the tree of `chains[0]` and commit what it changed. Raises StepFailed."""
    step = node.step
    assert isinstance(step, Exec)
    _refuse(node, step, request)
    lock = _one_at_a_time.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with lock, AsyncExitStack() as stack:
        caches = await context.cache_mounts.acquire_all(context.store, node, chains, stack)
        room = ChrootRoom(context.store, node, chains, request, caches)
        try:
            await to_end(room.open)
            status = await _run(room, node, listener)
            if status.code != 0:
                raise failure(node, status, room.tail, 0)
            return await to_end(room.commit)
        finally:
            await to_end(room.close)


def _refuse(node: Node, step: Exec, request: BuildRequest) -> None:
    unable = None
    if step.network == "none":
        unable = "--network=none"
    elif step.devices:
        unable = "--device"
    elif any(mount.type == "ssh" and (mount.required or mount.id in request.agents) for mount in step.mounts):
        unable = "--mount=type=ssh"
    if unable is not None:
        raise StepFailed(
            f"RUN {unable} is not possible with chroot isolation",
            where=node.span,
            hint="build where namespaces are allowed (a privileged container, or a plain user with user namespaces)",
        )


async def forget_tree(store: Store) -> None:
    """Remove the copy that the last step left for the next one."""
    lock = _one_at_a_time.get(asyncio.get_running_loop())
    if lock is not None:
        async with lock:
            await to_end(drop_tree, store)


async def _run(room: ChrootRoom, node: Node, listener: Listener) -> ExitStatus:
    spec = os.memfd_create("spec")
    status, theirs = os.pipe()
    try:
        _write(spec, json.dumps(room.command()).encode())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "buildtool.runtime.chroot_child", str(spec), str(theirs)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(spec, theirs),
            cwd="/",
        )
    except BaseException:
        os.close(status)
        raise
    finally:
        os.close(theirs)
        os.close(spec)
    with closing(os.fdopen(status, "rb")) as told:
        try:
            await asyncio.gather(
                _follow(process.stdout, "stdout", room, listener), _follow(process.stderr, "stderr", room, listener)
            )
            await process.wait()
        except BaseException:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await process.wait()
            raise
        text = told.read()
    if not text:
        raise StepFailed("the command's process was killed", where=node.span)
    answer = json.loads(text)
    if answer["error"]:
        raise StepFailed(answer["error"], exit_code_of_step=answer["code"], where=node.span)
    return ExitStatus(answer["code"], answer["signal"])


def _write(fd: int, data: bytes) -> None:
    """Fill a file in memory, for who reads it from its beginning."""
    while data:
        data = data[os.write(fd, data) :]
    os.lseek(fd, 0, os.SEEK_SET)


async def _follow(stream: asyncio.StreamReader | None, name: str, room: ChrootRoom, listener: Listener) -> None:
    assert stream is not None
    mask = Mask(room.hidden)
    while True:
        data = await stream.read(_CHUNK)
        shown = mask.feed(data) if data else mask.end()
        if shown:
            room.tail.add(shown)
            listener(name, shown)
        if not data:
            return
