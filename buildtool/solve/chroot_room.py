# ruff: noqa: PTH101, PTH102, PTH103, PTH104, PTH106, PTH108, PTH112, PTH114, PTH120, PTH123, PTH211
"""What one RUN by chroot needs on disk: a copy of its tree, what is put into it in place of mounts, its layer.

Blocking. The copy stays for the next step: after a RUN it is what the layer makes of it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildtool.cache import Draft, SnapshotId, Store, Tree
from buildtool.errors import BuildtoolError, NotFound, StepFailed
from buildtool.graph import Exec, Node, StepMount
from buildtool.networks.hostdns import ResolvConf
from buildtool.runtime import resolve_user
from buildtool.solve.chroot_tree import State, copy_tree, state_of, take_changes
from buildtool.solve.redaction import named_secrets
from buildtool.solve.request import BuildRequest
from buildtool.solve.run_mounts import HOSTNAME, script_target
from buildtool.solve.run_output import Tail

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


@dataclass
class _Kept:
    """The copy of a tree, as it is between two steps: the next step on the same tree need not copy it again."""

    chain: tuple[SnapshotId, ...]
    draft: Draft

    @property
    def root(self) -> str:
        return str(self.draft.work / "tree")


_kept: dict[Path, _Kept] = {}
"""By the root of the store."""


def drop_tree(store: Store) -> None:
    """Remove the copy that the last step left for the next one."""
    kept = _kept.pop(store.root, None)
    if kept is not None:
        kept.draft.discard()


class ChrootRoom:
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
        self.hidden = [*named_secrets(node.step.build_args)]
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
        self._made: list[str] = []
        self._moved: list[tuple[str, Path]] = []
        self._aside: list[tuple[str, str]] = []
        self._secrets: dict[str, int] = {}
        self._copy: _Kept | None = None
        self._tree = self._tree_of(0)

    def _tree_of(self, index: int) -> Tree:
        return Tree([self._store.snapshots.fs(snapshot) for snapshot in self._chains[index]], immutable=True)

    def open(self) -> None:
        """Copy the tree and put everything in its place."""
        self._draft = self._store.snapshots.prepare(self._chains[0])
        self._take_tree()
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

    def _take_tree(self) -> None:
        """The copy that the step before left, when it is of this tree; else a new one."""
        kept = _kept.pop(self._store.root, None)
        if kept is not None and kept.chain != tuple(self._chains[0]):
            kept.draft.discard()
            kept = None
        self._copy = kept or _Kept(tuple(self._chains[0]), self._store.snapshots.prepare())
        self._root = self._copy.root
        if kept is None:
            os.mkdir(self._root, 0o755)
            copy_tree(self._tree, self._root)

    def _missing_directories(self, path: str) -> list[str]:
        """Directories of the working directory that the image has not: they are in the layer, as with any runtime."""
        parts = [part for part in path.split("/") if part]
        paths = ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        return [each for each in paths if not self._tree.exists(each)]

    def _place(self, path: str) -> str:
        """Where a path of the step lies on this machine; links of the tree are followed inside it."""
        return self._root + (self._tree.resolve(path) if path != "/" else "")

    def _is_own(self, place: str) -> bool:
        """Whether a path still lies in the copy: a link that a mount or the command made may lead out of it."""
        parent = place if place == self._root else os.path.dirname(place)
        return os.path.realpath(parent) == os.path.realpath(self._root) + parent[len(self._root) :]

    def _point(self, target: str) -> str:
        """A free place at the target: what the image has there is put aside; nothing of it counts as a change, nor do
        the directories that lead there when the image has none.
        """
        place = self._place(target)
        if not self._is_own(place):
            raise StepFailed(f"RUN --mount: {target} lies below a symlink of another mount", where=self._node.span)
        parent = os.path.dirname(place)
        while not os.path.lexists(parent):
            self._made.append(parent)
            parent = os.path.dirname(parent)
        status = os.lstat(parent)
        self._times.setdefault(parent, (status.st_atime_ns, status.st_mtime_ns))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if os.path.lexists(place):
            aside = f"{self._root}.aside{len(self._aside)}"
            os.rename(place, aside)
            self._aside.append((place, aside))
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
            place = self._root + self._points[-1]
            self._secrets[place] = os.lstat(place).st_ino

    def _check_secrets(self) -> None:
        """Elsewhere a secret is a mount, which no command moves or links: its layer must not have it here either."""
        for place, inode in self._secrets.items():
            status = os.lstat(place) if self._is_own(place) and os.path.lexists(place) else None
            if status is None or (status.st_ino, status.st_nlink) != (inode, 1):
                target = place[len(self._root) :]
                raise StepFailed(f"the command moved, linked or removed the secret {target}", where=self._node.span)

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
        """Take what has changed as the layer, and leave the tree as it is with that to the next step."""
        assert self._draft is not None and self._copy is not None
        self._check_secrets()
        changed = take_changes(self._root, self._before, self._draft.fs, self._points)
        self._give_back()
        intact = all(self._is_own(self._root + point) for point in self._points)
        self._clear_points(changed)
        snapshot = self._draft.commit()
        if intact:
            _kept[self._store.root] = _Kept((*self._copy.chain, snapshot), self._copy.draft)
            self._copy = None
        return snapshot

    def _give_back(self) -> None:
        """Cache mounts go back to where they belong."""
        while self._moved:
            place, home = self._moved.pop()
            if self._is_directory(place):
                os.rename(place, home)
            else:
                home.mkdir()

    def _clear_points(self, changed: set[str]) -> None:
        """Remove what was put into the tree, and put back what the image has there."""
        parents = {os.path.dirname(self._root + point) for point in self._points}
        times = {path: os.lstat(path) for path in (*parents, *self._times) if self._is_directory(path)}
        for point in reversed(self._points):
            if self._is_own(self._root + point):
                _remove(self._root + point)
        for place, aside in self._aside:
            if self._is_directory(os.path.dirname(place)):
                os.rename(aside, place)
            else:
                _remove(aside)
        for path in sorted(self._made, key=len, reverse=True):
            if path[len(self._root) :] not in changed and self._is_own(path):
                with suppress(OSError):  # the command made something in it: it stays
                    os.rmdir(path)
        for path, status in times.items():
            if self._is_directory(path):
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _is_directory(self, path: str) -> bool:
        return self._is_own(path) and not os.path.islink(path) and os.path.isdir(path)

    def close(self) -> None:
        """Remove what is left; after a commit that is nothing."""
        self._give_back()
        for draft in (self._draft, self._copy.draft if self._copy is not None else None):
            if draft is not None:
                draft.discard()


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
