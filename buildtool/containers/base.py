"""What all containers of one image share: its layers, the init layer above them, its user database."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildtool.cache import Store
from buildtool.cache.snapshots import SnapshotId
from buildtool.cache.trees import Tree
from buildtool.oci import sha256

_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "proc", "sys", "etc")
_FILES = (".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "dev/console")


@dataclass(frozen=True)
class Base:
    """The read-only part of a container's root, bottom first, and what is known about it."""

    lower: list[Path]
    tree: Tree
    passwd: str
    group: str
    root_mode: int
    root_owner: tuple[int, int]


class Bases:
    """Bases by their snapshots, computed once. Used from worker threads; computing one twice does no harm."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store = store
        self._directory = directory
        self._known: dict[tuple[int, ...], Base] = {}

    def get(self, snapshots: Sequence[int]) -> Base:
        """The base of these layers, bottom first."""
        key = tuple(snapshots)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._compute(key)
        return found

    def known(self, snapshots: Sequence[int]) -> Base | None:
        """The base of these layers when it was computed before; looks at nothing."""
        return self._known.get(tuple(snapshots))

    def lower(self, snapshots: Sequence[int]) -> list[Path]:
        """The directories of a base's layers, bottom first, without looking at them."""
        layers = [self._store.snapshots.fs(SnapshotId(number)) for number in snapshots]
        return [*layers, self._directory / _init_name(tuple(snapshots))]

    def sweep(self, used: set[tuple[int, ...]]) -> None:
        """Remove the init layers that no container has (when the service opens)."""
        kept = {_init_name(key) for key in used}
        if self._directory.is_dir():
            for path in self._directory.iterdir():
                if path.name not in kept:
                    shutil.rmtree(path, ignore_errors=True)

    def _compute(self, snapshots: tuple[int, ...]) -> Base:
        layers = [self._store.snapshots.fs(SnapshotId(number)) for number in snapshots]
        tree = Tree(layers)
        init = self._directory / _init_name(snapshots)
        if not init.is_dir():
            _make_init_layer(init, tree if layers else None)
        top = layers[-1].stat() if layers else init.stat()
        whole = Tree([*layers, init])
        return Base(
            lower=[*layers, init],
            tree=whole,
            passwd=_text(whole, "/etc/passwd"),
            group=_text(whole, "/etc/group"),
            root_mode=stat.S_IMODE(top.st_mode),
            root_owner=(top.st_uid, top.st_gid),
        )


def _init_name(snapshots: tuple[int, ...]) -> str:
    return sha256(repr(snapshots).encode())[7:39]


def _make_init_layer(target: Path, tree: Tree | None) -> None:
    """The mount points that every container has, so that mounting changes nothing in its own layer.

    Only what the image lacks is made; directories the image has are repeated with its attributes.
    """
    temporary = target.with_name(f"{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
    temporary.mkdir(parents=True)
    temporary.chmod(0o755)
    for name in _DIRECTORIES:
        _repeat(temporary, name, tree, directory=True)
    for name in _FILES:
        _repeat(temporary, name, tree, directory=False)
    if tree is not None:
        _copy_attributes(tree.lstat("/"), temporary)
    try:
        temporary.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _repeat(root: Path, name: str, tree: Tree | None, *, directory: bool) -> None:
    parent, _, _ = name.rpartition("/")
    if parent and not (root / parent).is_dir():
        return
    try:
        status = tree.lstat("/" + name) if tree is not None else None
    except (FileNotFoundError, NotADirectoryError):
        status = None
    if status is None:
        if directory:
            (root / name).mkdir()
            (root / name).chmod(0o1777 if name == "dev/shm" else 0o755)
        else:
            (root / name).touch(0o755 if name == ".dockerenv" else 0o644)
    elif directory and stat.S_ISDIR(status.st_mode):
        (root / name).mkdir()
        _copy_attributes(status, root / name)


def _copy_attributes(status: os.stat_result, path: Path) -> None:
    try:
        os.chown(path, status.st_uid, status.st_gid)
    except OSError as error:  # EINVAL: an owner that this user namespace does not map
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise
    path.chmod(stat.S_IMODE(status.st_mode))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _text(tree: Tree, path: str) -> str:
    try:
        return tree.read_text(path)
    except OSError:
        return ""
