"""The contents of a container's /dev: device nodes, links and the console.

Runs in the container's init process. In a user namespace nodes cannot be made: the host's are bound instead.
Source: OCI runtime-spec v1.2, config-linux.md, "Default Devices".
"""

from __future__ import annotations

import os
import stat
from typing import Any

from buildtool.runtime import syscalls as sc
from buildtool.runtime.rootpath import ensure_in_root

DEFAULT_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def fill_dev(root: int, devices: list[dict[str, Any]], *, bind: bool) -> None:
    """Make the default devices, the spec's `linux.devices` and the usual links in the root's /dev."""
    dev = ensure_in_root(root, "/dev", directory=True)
    try:
        for name, major, minor in DEFAULT_DEVICES:
            if bind:
                _bind_node(root, f"/dev/{name}", f"/dev/{name}")
            else:
                _node(dev, name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        for name, target in _LINKS:
            try:
                os.symlink(target, name, dir_fd=dev)
            except FileExistsError:
                continue
    finally:
        os.close(dev)
    for device in devices:
        if bind:
            _bind_node(root, _source_of(device), device["path"])
        else:
            _make_device(root, device)


def bind_console(root: int, slave: str) -> None:
    """Put the container's terminal on /dev/console."""
    tree = sc.open_tree(slave, False)
    target = ensure_in_root(root, "/dev/console", directory=False)
    sc.move_mount(tree, target)
    os.close(tree)
    os.close(target)


def _node(directory: int, name: str, mode: int, device: int) -> None:
    try:
        os.mknod(name, mode, device, dir_fd=directory)
    except FileExistsError:  # a mount of the spec is there
        return


def _make_device(root: int, device: dict[str, Any]) -> None:
    directory, _, name = device["path"].rpartition("/")
    parent = ensure_in_root(root, directory, directory=True)
    try:
        mode = _KINDS[device["type"]] | device.get("fileMode", 0o666)
        _node(parent, name, mode, os.makedev(device.get("major", 0), device.get("minor", 0)))
        uid, gid = device.get("uid", 0), device.get("gid", 0)
        if uid or gid:
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def _source_of(device: dict[str, Any]) -> str:
    """The host's node for a device that may have another name in the container; its own path when none is found."""
    number = os.makedev(device.get("major", 0), device.get("minor", 0))
    kind = _KINDS[device["type"]]

    def is_it(path: str) -> bool:
        try:
            status = os.lstat(path)
        except OSError:
            return False
        return stat.S_IFMT(status.st_mode) == kind and status.st_rdev == number

    path: str = device["path"]
    if is_it(path):
        return path
    candidates = (f"{folder}/{name}" for folder, _, names in os.walk("/dev") for name in names)
    return next(filter(is_it, candidates), path)


def _bind_node(root: int, source: str, path: str) -> None:
    try:
        tree = sc.open_tree(source, False)
    except FileNotFoundError:
        return
    target = ensure_in_root(root, path, directory=False)
    sc.move_mount(tree, target)
    os.close(tree)
    os.close(target)
