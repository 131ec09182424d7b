"""Work on a container's files as the container sees them, in a thread whose root directory is the container's.

Whatever symlinks a container makes while we read or write, a path never leads out of it. For a running container the
root is that of its first process; for another one the overlay and the mounts are set up in a mount namespace of the
thread's own, which ends with the thread.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from buildtool.cache.overlay import in_user_namespace, mount_overlay
from buildtool.runtime import syscalls
from buildtool.runtime.rootpath import ensure_in_root

R = TypeVar("R")

_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_MS_REC, _MS_PRIVATE = 16384, 1 << 18


@dataclass(frozen=True)
class Root:
    """Where a container's files are. With `pid` that process's root; else layers (bottom first) and its own.

    A plain `directory` may be one, too.
    """

    pid: int = 0
    directory: Path | None = None
    lower: Sequence[Path] = ()
    upper: Path | None = None
    work: Path | None = None
    binds: Sequence[tuple[Path, str]] = ()
    merged: Path | None = None


def run_in(root: Root, function: Callable[[], R]) -> Future[R]:
    """Run the function in a new thread whose `/` is the container's root.

    It must not import anything (it would come from the container): an import raises ImportError there.
    """

    def work() -> R:
        _enter(root)
        _jailed.add(threading.get_ident())
        try:
            return function()
        finally:
            _jailed.discard(threading.get_ident())

    _install_guard()
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jail")
    try:
        return thread.submit(work)
    finally:
        thread.shutdown(wait=False)


def _enter(root: Root) -> None:
    if root.pid:
        syscalls.unshare(_CLONE_FS)
        os.chdir(f"/proc/{root.pid}/root")
    elif root.directory is not None:
        syscalls.unshare(_CLONE_FS)
        os.chdir(root.directory)
    else:
        syscalls.unshare(_CLONE_FS | _CLONE_NEWNS)
        syscalls.mount(None, "/", None, _MS_REC | _MS_PRIVATE)
        _mount(root)
    os.chroot(".")
    os.chdir("/")


def _mount(root: Root) -> None:
    merged = root.merged
    if merged is None:
        raise ValueError("no directory to mount the container's root on")
    merged.mkdir(exist_ok=True)
    lower = [str(path) for path in reversed(root.lower)]
    upper = str(root.upper) if root.upper else None
    work = str(root.work) if root.work else None
    mount_overlay(str(merged), lower, upper, work, userxattr=in_user_namespace())
    os.chdir(merged)
    base = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for source, destination in root.binds:
            _bind(base, source, destination)
    finally:
        os.close(base)


def _bind(base: int, source: Path, destination: str) -> None:
    try:
        tree = syscalls.open_tree(str(source), True)
    except FileNotFoundError:
        return
    try:
        target = ensure_in_root(base, destination, directory=source.is_dir())
        try:
            syscalls.move_mount(tree, target)
        finally:
            os.close(target)
    finally:
        os.close(tree)


_jailed: set[int] = set()


class _NoImports(importlib.abc.MetaPathFinder):
    """Refuses imports in jailed threads."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if _jailed and threading.get_ident() in _jailed:
            raise ImportError(f"{fullname} cannot be imported inside a container's root")
        return None


def _install_guard() -> None:
    if not any(isinstance(finder, _NoImports) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoImports())
