"""`RUN --mount=type=cache`: directories that outlive their steps, and who uses them.

An id's directories are numbered; one is made when there is none that may be used:

shared   any number of steps in one directory
private  one step in a directory; when all are used, a new one
locked   one step in the id's first directory; the others wait for it in the order they came
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from buildtool.cache import SnapshotId, Store, Tree
from buildtool.errors import NotFound
from buildtool.graph import Exec, Node, StepMount
from buildtool.oci import sha256
from buildtool.solve.threads import to_end


def cache_mount_name(id: str) -> str:
    """The name of the (first) directory of a cache mount."""
    return sha256(id.encode())[7:39]


@dataclass
class _Directory:
    """Who has a directory: a number of steps that share it, or one alone."""

    shared: int = 0
    alone: bool = False
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    @property
    def free(self) -> bool:
        return not self.shared and not self.alone

    def leave(self, *, alone: bool) -> None:
        """Give it back; who has waited longest gets it."""
        if alone:
            self.alone = False
        else:
            self.shared -= 1
        while self.free and self.waiting:
            first = self.waiting.popleft()
            if not first.done():
                self.alone = True
                first.set_result(None)


@dataclass
class CacheMounts:
    """The directories of cache mounts, below `<root>/mounts`.

    Who removes one holds `guard` and sees that it is not `busy`.
    """

    root: Path
    _directories: dict[str, _Directory] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def busy(self, name: str) -> bool:
        """Whether a step has the directory of this name now."""
        directory = self._directories.get(name)
        return directory is not None and not directory.free

    async def acquire_all(
        self, store: Store, node: Node, chains: Sequence[Sequence[SnapshotId]], stack: AsyncExitStack
    ) -> dict[str, Path]:
        """The directories of all cache mounts of a step, by target; the step has them until the stack closes.

        They are taken in the order of their names, so that no two steps wait for each other; what is mounted twice
        is taken once.
        """
        step = node.step
        assert isinstance(step, Exec)
        mounts = [(_identity(mount, chains), mount) for mount in step.mounts if mount.type == "cache"]
        taken: dict[tuple[str, str], Path] = {}
        found: dict[str, Path] = {}
        for identity, mount in sorted(mounts, key=lambda each: (each[0], each[1].sharing)):
            key = (identity, mount.sharing)
            alone = next((path for (same, how), path in taken.items() if same == identity and how == "locked"), None)
            if key not in taken:
                if alone is not None:  # the same step has it already, locked: it need not wait for itself
                    taken[key] = alone
                else:
                    name = await self._take(cache_mount_name(identity), mount.sharing, stack)
                    seed = chains[mount.input] if mount.input is not None else None
                    taken[key] = await to_end(self._make, store, name, identity, mount, seed, node)
            found[mount.target] = taken[key]
        return found

    async def _take(self, name: str, sharing: str, stack: AsyncExitStack) -> str:
        if sharing == "locked":
            await self._lock(self._directories.setdefault(name, _Directory()), stack)
            return name
        number = 0
        while True:
            chosen = f"{name}.{number}" if number else name
            directory = self._directories.setdefault(chosen, _Directory())
            if sharing == "private" and directory.free:
                directory.alone = True
                stack.callback(directory.leave, alone=True)
                return chosen
            if sharing == "shared" and not directory.alone:
                directory.shared += 1
                stack.callback(directory.leave, alone=False)
                return chosen
            number += 1

    async def _lock(self, directory: _Directory, stack: AsyncExitStack) -> None:
        if directory.free:
            directory.alone = True
        else:
            turn = asyncio.get_running_loop().create_future()
            directory.waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    directory.leave(alone=True)
                raise
        stack.callback(directory.leave, alone=True)

    def _make(
        self, store: Store, name: str, identity: str, mount: StepMount, seed: Sequence[SnapshotId] | None, node: Node
    ) -> Path:
        directory = self.root / name
        data = directory / "data"
        with self.guard:
            if not data.is_dir():
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                (directory / "id").write_text(identity)
                fresh = directory / "fresh"
                shutil.rmtree(fresh, ignore_errors=True)
                fresh.mkdir(mode=0o755)
                fresh.chmod(0o755)
                if seed is not None:
                    _fill(fresh, Tree([store.snapshots.fs(snapshot) for snapshot in seed]), mount.source, node)
                if mount.mode is not None:
                    fresh.chmod(mount.mode)
                if os.geteuid() == 0 and (mount.uid is not None or mount.gid is not None):
                    os.chown(fresh, mount.uid or 0, mount.gid or 0)
                fresh.rename(data)
            os.utime(directory / "id")  # when it was last used
        return data


def _identity(mount: StepMount, chains: Sequence[Sequence[SnapshotId]]) -> str:
    """The id; a cache that begins as another tree has that in it: a changed tree is another cache."""
    if mount.input is None:
        return mount.id
    layers = ",".join(str(int(snapshot)) for snapshot in chains[mount.input])
    return f"{mount.id} from {layers}:{mount.source}"


def _fill(target: Path, tree: Tree, source: str, node: Node) -> None:
    """Copy a directory of a tree. Raises NotFound when there is no such directory."""
    root = "/" if source in ("", ".") else f"/{source}"
    try:
        root = tree.resolve(root)
        top = tree.lstat(root)
    except OSError:
        raise NotFound(f"RUN --mount: no such file or directory: {root}", where=node.span) from None
    if not stat.S_ISDIR(top.st_mode):
        raise NotFound(f"RUN --mount: a cache mount begins as a directory, and {root} is none", where=node.span)
    times: list[tuple[Path, os.stat_result]] = [(target, top)]
    for path, status in tree.walk(root):
        relative = path[len(root) :].strip("/") if path.startswith(root) else path.strip("/")
        if not relative:
            continue
        place, kind = target / relative, stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            place.mkdir()
        elif kind == stat.S_IFLNK:
            place.symlink_to(tree.readlink(path))
        elif kind == stat.S_IFREG:
            shutil.copyfile(tree.real(path), place)
        else:
            os.mknod(place, status.st_mode, status.st_rdev)
        times.append((place, status))
    for place, status in reversed(times):
        if os.geteuid() == 0:
            os.chown(place, status.st_uid, status.st_gid, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            place.chmod(stat.S_IMODE(status.st_mode))
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
