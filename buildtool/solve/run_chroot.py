# ruff: noqa: PTH101, PTH102, PTH103, PTH104, PTH112, PTH120, PTH123, PTH211
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
import stat
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

from buildtool.cache import Draft, SnapshotId, Store, Tree
from buildtool.errors import BuildtoolError, NotFound, StepFailed
from buildtool.graph import Exec, Node, StepMount
from buildtool.networks.hostdns import ResolvConf
from buildtool.runtime import ExitStatus, resolve_user
from buildtool.runtime.capabilities import NUMBERS, SYS_ADMIN
from buildtool.solve.chroot_tree import State, copy_tree, state_of, take_changes
from buildtool.solve.flights import Listener
from buildtool.solve.request import BuildRequest
from buildtool.solve.run_mounts import HOSTNAME, script_target
from buildtool.solve.run_output import Mask, Tail, failure
from buildtool.solve.run_room import RunContext
from buildtool.solve.threads import to_end

WARNING = (
    "RUN steps are isolated by chroot only: they have the processes, the network and the powers of the container "
    "that this daemon is in; /proc and /sys are empty, limits and read-only mounts are not kept, secrets lie on the "
    "disk while their step runs, and steps run one at a time"
)
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_SYS_CHROOT = 1 << NUMBERS["CAP_SYS_CHROOT"]
_CHUNK = 1 << 16
_one_at_a_time: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}


def only_chroot_is_possible() -> bool:
    """Whether this process is root without the capability to mount and unshare, as in a plain container."""
    if os.geteuid() != 0:
        return False
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return not effective & SYS_ADMIN and bool(effective & _SYS_CHROOT)
    return False


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
        room = _Room(context.store, node, chains, request, caches)
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


async def _run(room: _Room, node: Node, listener: Listener) -> ExitStatus:
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


async def _follow(stream: asyncio.StreamReader | None, name: str, room: _Room, listener: Listener) -> None:
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


class _Room:
    """The copy of the tree with what the step sees besides, and the draft of its layer. Blocking."""

    def __init__(
        self,
        store: Store,
        node: Node,
        chains: Sequence[Sequence[SnapshotId]],
        request: BuildRequest,
        caches: dict[str, Path],
    ) -> None:
        assert isinstance(node.step, Exec)
        self.tail = Tail()
        self.hidden: list[bytes] = []
        self._store = store
        self._node = node
        self._step = node.step
        self._chains = chains
        self._request = request
        self._caches = caches
        self._draft: Draft | None = None
        self._root = ""
        self._before: State = {}
        self._env: list[str] = []
        self._points: list[str] = []
        self._times: dict[str, tuple[int, int]] = {}
        self._moved: list[tuple[str, Path]] = []
        self._aside = 0
        self._tree = self._tree_of(0)

    def _tree_of(self, index: int) -> Tree:
        return Tree([self._store.snapshots.fs(snapshot) for snapshot in self._chains[index]], immutable=True)

    def open(self) -> None:
        """Copy the tree and put everything in its place."""
        self._draft = self._store.snapshots.prepare(self._chains[0])
        self._root = str(self._draft.work / "tree")
        os.mkdir(self._root, 0o755)
        copy_tree(self._tree, self._root)
        cwd = self._place(self._step.cwd)
        os.makedirs(cwd, exist_ok=True)
        self._add_names()
        self._add_devices()
        for mount in self._step.mounts:
            self._add_mount(mount)
        if self._step.script is not None:
            self._add_file(script_target(self._step), self._step.script.content.encode(), 0o755)
        for directory, times in self._times.items():
            os.utime(directory, ns=times)
        self._before = state_of(self._root)
        for path in self._missing_directories(self._step.cwd):
            self._before.pop(path, None)

    def _missing_directories(self, path: str) -> list[str]:
        """Directories of the working directory that the image has not: they are in the layer, as with any runtime."""
        parts = [part for part in path.split("/") if part]
        paths = ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        return [each for each in paths if not self._tree.exists(each)]

    def _place(self, path: str) -> str:
        """Where a path of the step lies on this machine; links of the tree are followed inside it."""
        return self._root + (self._tree.resolve(path) if path != "/" else "")

    def _point(self, target: str) -> str:
        """A free place at the target: what the image has there is put aside; nothing of it counts as a change, nor do
        the directories that lead there when the image has none.
        """
        place = self._place(target)
        parent = os.path.dirname(place)
        while not os.path.lexists(parent):
            parent = os.path.dirname(parent)
        status = os.lstat(parent)
        self._times.setdefault(parent, (status.st_atime_ns, status.st_mtime_ns))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if os.path.lexists(place):
            os.rename(place, f"{self._root}.aside{self._aside}")
            self._aside += 1
        self._points.append(place[len(self._root) :])
        return place

    def _add_file(self, target: str, content: bytes, mode: int, owner: tuple[int, int] = (0, 0)) -> None:
        place = self._point(target)
        with open(place, "xb") as file:
            file.write(content)
        os.chown(place, *owner)
        os.chmod(place, mode)

    def _add_names(self) -> None:
        lines = ["127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"]
        for host in self._step.extra_hosts:
            name, _, address = host.partition("=" if "=" in host.partition(":")[0] else ":")
            lines.append(f"{'127.0.0.1' if address == 'host-gateway' else address.strip('[]')}\t{name}\n")
        hostname = self._step.hostname or HOSTNAME
        texts = {"resolv.conf": ResolvConf.of_host().text(), "hosts": "".join(lines), "hostname": f"{hostname}\n"}
        for name, text in texts.items():
            self._add_file(f"/etc/{name}", text.encode(), 0o644)

    def _add_devices(self) -> None:
        """The usual devices, as far as the container may make them."""
        place = self._point("/dev")
        os.mkdir(place, 0o755)
        for name, (major, minor) in _DEVICES.items():
            try:
                os.mknod(f"{place}/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
                os.chmod(f"{place}/{name}", 0o666)
            except PermissionError:
                continue
        for name, target in _LINKS.items():
            os.symlink(target, f"{place}/{name}")
        os.mkdir(f"{place}/shm")
        os.chmod(f"{place}/shm", 0o1777)
        for path in ("/proc", "/sys"):
            os.mkdir(self._point(path), 0o555)

    def _add_mount(self, mount: StepMount) -> None:
        if mount.type == "secret":
            self._add_secret(mount)
        elif mount.type == "cache":
            place = self._point(mount.target)
            os.rename(self._caches[mount.target], place)
            self._moved.append((place, self._caches[mount.target]))
        elif mount.type == "tmpfs":
            place = self._point(mount.target)
            os.mkdir(place)
            os.chmod(place, 0o1777)
        elif mount.input is not None:
            tree = self._tree_of(mount.input)
            source = "/" if mount.source == "." else "/" + mount.source
            try:
                start = tree.resolve(source, strict=True)
            except (FileNotFoundError, NotADirectoryError):
                raise NotFound(f"RUN --mount: no such file or directory: {source}", where=self._node.span) from None
            copy_tree(tree, self._point(mount.target), start)

    def _add_secret(self, mount: StepMount) -> None:
        value = self._request.secrets.get(mount.id)
        if value is None:
            if mount.required:
                hint = f"give it with --secret id={mount.id}"
                raise NotFound(f"secret {mount.id}: not found", where=self._node.span, hint=hint)
            return
        self.hidden.append(value)
        if mount.env:
            self._env.append(f"{mount.env}={value.decode(errors='surrogateescape')}")
        if mount.target:
            mode = 0o400 if mount.mode is None else mount.mode
            self._add_file(mount.target, value, mode, (mount.uid or 0, mount.gid or 0))

    def command(self) -> dict[str, Any]:
        """What the child is told."""
        step = self._step
        try:
            passwd, group = self._tree.read_text("/etc/passwd"), self._tree.read_text("/etc/group")
            user = resolve_user(step.user, passwd, group)
        except BuildtoolError as error:
            raise StepFailed(error.message, where=self._node.span) from error
        args = [f"{name}={value}" for name, value in (*step.hidden_args, *step.build_args)]
        env = [*step.env, *args, *self._env]
        names = {pair.partition("=")[0] for pair in env}
        env += [f"HOME={user.home}"] if "HOME" not in names else []
        limits = [
            (f"RLIMIT_{str(limit.get('Name', '')).upper()}", int(limit.get("Soft", 0)), int(limit.get("Hard", 0)))
            for limit in self._request.ulimits
        ]
        return {
            "root": self._root,
            "cwd": step.cwd,
            "args": list(step.args),
            "env": env,
            "uid": user.uid,
            "gid": user.gid,
            "groups": list(user.additional_gids),
            "limits": limits,
        }

    def commit(self) -> SnapshotId:
        """Take what has changed as the layer."""
        assert self._draft is not None
        take_changes(self._root, self._before, self._draft.fs, self._points)
        self._give_back()
        return self._draft.commit()

    def _give_back(self) -> None:
        """Cache mounts go back to where they belong."""
        while self._moved:
            place, home = self._moved.pop()
            if os.path.isdir(place):
                os.rename(place, home)
            else:
                home.mkdir()

    def close(self) -> None:
        """Remove what is left."""
        self._give_back()
        if self._draft is not None:
            self._draft.discard()
