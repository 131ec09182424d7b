# ruff: noqa: PTH112
"""The mounts of a container: from the OCI spec's list to a root ready to pivot into.

Runs in the container's init process. Sources are opened as detached mounts while the host's tree is as it was;
destinations are resolved inside the root. Source: OCI runtime-spec v1.2, config.md, "Mounts"; mount_setattr(2).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from buildtool.runtime import syscalls as sc
from buildtool.runtime.rootpath import ensure_in_root, open_in_root

Spec = dict[str, Any]

# option -> (mount flags, mount attributes); what clears a flag is the default of a new mount and needs nothing
_FLAGS = {
    "ro": (sc.MS_RDONLY, sc.MOUNT_ATTR_RDONLY),
    "nosuid": (sc.MS_NOSUID, sc.MOUNT_ATTR_NOSUID),
    "nodev": (sc.MS_NODEV, sc.MOUNT_ATTR_NODEV),
    "noexec": (sc.MS_NOEXEC, sc.MOUNT_ATTR_NOEXEC),
    "noatime": (sc.MS_NOATIME, sc.MOUNT_ATTR_NOATIME),
    "nodiratime": (sc.MS_NODIRATIME, sc.MOUNT_ATTR_NODIRATIME),
    "relatime": (sc.MS_RELATIME, 0),
    "strictatime": (sc.MS_STRICTATIME, sc.MOUNT_ATTR_STRICTATIME),
    "sync": (sc.MS_SYNCHRONOUS, 0),
    "dirsync": (sc.MS_DIRSYNC, 0),
}
_CLEARING = frozenset(
    {"rw", "suid", "dev", "exec", "atime", "diratime", "norelatime", "nostrictatime", "async", "defaults"}
)
_PROPAGATION = {
    "private": sc.MS_PRIVATE,
    "slave": sc.MS_SLAVE,
    "shared": sc.MS_SHARED,
    "unbindable": sc.MS_UNBINDABLE,
}

_MODES = ("bind", "rbind", "rro", "tmpcopyup")


def option_names() -> list[str]:
    """The mount options that are not the file system's own."""
    propagation = [lead + name for name in _PROPAGATION for lead in ("", "r")]
    return sorted({*_FLAGS, *_CLEARING, *propagation, *_MODES})


class Options:
    """A mount's option list, sorted into flags, attributes, propagation and the file system's own data."""

    __slots__ = (
        "attributes",
        "bind",
        "copy_up",
        "data",
        "flags",
        "propagation",
        "propagation_recursive",
        "readonly_recursive",
        "recursive",
    )

    def __init__(self, options: list[str]) -> None:
        self.flags = 0
        self.attributes = 0
        self.bind = False
        self.copy_up = False
        self.recursive = False
        self.readonly_recursive = False
        self.propagation = 0
        self.propagation_recursive = False
        data: list[str] = []
        for option in options:
            if option in _FLAGS:
                flag, attribute = _FLAGS[option]
                self.flags |= flag
                self.attributes |= attribute
            elif option in ("bind", "rbind"):
                self.bind, self.recursive = True, option == "rbind"
            elif option in _PROPAGATION:
                self.propagation = _PROPAGATION[option]
            elif option[:1] == "r" and option[1:] in _PROPAGATION:
                self.propagation, self.propagation_recursive = _PROPAGATION[option[1:]], True
            elif option == "rro":
                self.attributes |= sc.MOUNT_ATTR_RDONLY
                self.readonly_recursive = True
            elif option == "tmpcopyup":
                self.copy_up = True
            elif option == "rw":
                self.flags &= ~sc.MS_RDONLY
                self.attributes &= ~sc.MOUNT_ATTR_RDONLY
            elif option not in _CLEARING:
                data.append(option)
        self.data = ",".join(data) or None


class MountError(Exception):
    """A mount of the spec that could not be made; the text says which and why."""


def open_sources(mounts: list[Spec]) -> dict[int, int]:
    """Detached copies of the sources of all bind mounts, by index in `mounts`."""
    trees: dict[int, int] = {}
    for index, mount in enumerate(mounts):
        options = mount.get("options") or []
        if mount.get("type") == "bind" or "bind" in options or "rbind" in options:
            recursive = "rbind" in options
            try:
                trees[index] = sc.open_tree(mount["source"], recursive)
            except OSError as error:
                raise MountError(_text(mount, error)) from error
    return trees


def make_mounts(
    root: int, mounts: list[Spec], trees: dict[int, int], cgroup: CgroupMounts, created: list[str]
) -> None:
    """Make every mount of the spec, in order, below the directory `root` (a descriptor)."""
    for index, mount in enumerate(mounts):
        options = Options(mount.get("options") or [])
        try:
            if index in trees:
                _attach(root, trees[index], mount["destination"], options, created)
            elif mount.get("type") == "cgroup":
                cgroup.make(root, mount["destination"], options, created)
            else:
                _mount_new(root, mount, options, created)
        except OSError as error:
            raise MountError(_text(mount, error)) from error


def _text(mount: Spec, error: OSError) -> str:
    source = mount.get("source") or mount.get("type") or "none"
    reason = (error.strerror or str(error)).lower()
    return f'error mounting "{source}" to rootfs at "{mount["destination"]}": {reason}'


def _attach(root: int, tree: int, destination: str, options: Options, created: list[str]) -> None:
    directory = stat.S_ISDIR(os.fstat(tree).st_mode)
    target = ensure_in_root(root, destination, directory=directory, created=created)
    try:
        if directory != stat.S_ISDIR(os.fstat(target).st_mode):
            raise OSError(
                errno.ENOTDIR, "not a directory: are you trying to mount a directory onto a file (or vice-versa)?"
            )
        if options.attributes:
            clear = sc.MOUNT_ATTR_ATIME if options.attributes & sc.MOUNT_ATTR_ATIME else 0
            sc.mount_setattr(tree, options.attributes, clear=clear, recursive=options.readonly_recursive)
        propagation = options.propagation or sc.MS_PRIVATE
        recursive = options.propagation_recursive or not options.propagation
        sc.mount_setattr(tree, 0, propagation, recursive=recursive)
        sc.move_mount(tree, target)
    finally:
        os.close(target)
        os.close(tree)


def _mount_new(root: int, mount: Spec, options: Options, created: list[str]) -> None:
    kind = mount.get("type") or "none"
    target = ensure_in_root(root, mount["destination"], directory=True, created=created)
    place = f"/proc/self/fd/{target}"
    below = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if options.copy_up else -1
    try:
        sc.mount(mount.get("source") or kind, place, kind, options.flags, options.data)
    except OSError as error:
        if not _stand_in(kind, target, options, error):
            raise
    finally:
        os.close(target)
    if below >= 0:
        if not options.flags & sc.MS_RDONLY:
            _fill(below, root, mount["destination"])
        os.close(below)
    if options.propagation:
        mounted = open_in_root(root, mount["destination"])
        sc.mount_setattr(mounted, 0, options.propagation, recursive=options.propagation_recursive)
        os.close(mounted)


def _fill(below: int, root: int, destination: str) -> None:
    from buildtool.runtime.copyup import copy_tree

    mounted = open_in_root(root, destination, os.O_RDONLY | os.O_DIRECTORY)
    copy_tree(below, mounted)
    os.close(mounted)


def _stand_in(kind: str, target: int, options: Options, error: OSError) -> bool:
    """What a user namespace may not mount itself is bound from the host; whether that was done."""
    place = f"/proc/self/fd/{target}"
    host = {"sysfs": "/sys", "proc": "/proc", "mqueue": "/dev/mqueue"}.get(kind)
    if host is not None and error.errno in (errno.EPERM, errno.EBUSY):
        if not os.path.isdir(host):
            return kind == "mqueue"
        tree = sc.open_tree(host, True)
        sc.mount_setattr(tree, options.attributes, sc.MS_PRIVATE)
        if kind == "sysfs":
            sc.mount_setattr(tree, sc.MOUNT_ATTR_RDONLY, recursive=True)
        sc.move_mount(tree, target)
        os.close(tree)
        return True
    if kind == "devpts" and error.errno == errno.EINVAL and "gid=" in (options.data or ""):  # group 5 is not mapped
        data = ",".join(part for part in (options.data or "").split(",") if not part.startswith("gid="))
        sc.mount("devpts", place, kind, options.flags, data)
        return True
    return False


class CgroupMounts:
    """How a mount of type `cgroup` is made: from the container's own cgroup directories on the host."""

    def __init__(self, directories: dict[str, str], *, unified: bool, namespaced: bool) -> None:
        self._directories = directories
        self._unified = unified
        self._namespaced = namespaced

    def make(self, root: int, destination: str, options: Options, created: list[str]) -> None:
        target = ensure_in_root(root, destination, directory=True, created=created)
        place = f"/proc/self/fd/{target}"
        try:
            if self._unified:
                self._make_unified(target, place, options)
            else:
                sc.mount("tmpfs", place, "tmpfs", options.flags & ~sc.MS_RDONLY, "mode=755,size=64k")
        finally:
            os.close(target)
        if not self._unified:
            self._bind_controllers(root, destination, options)

    def _make_unified(self, target: int, place: str, options: Options) -> None:
        if self._namespaced:
            try:
                sc.mount("cgroup", place, "cgroup2", options.flags, None)
            except PermissionError:
                pass
            else:
                return
        tree = sc.open_tree(self._directories.get("", "/sys/fs/cgroup"), True)
        sc.mount_setattr(tree, options.attributes, sc.MS_PRIVATE)
        sc.move_mount(tree, target)
        os.close(tree)

    def _bind_controllers(self, root: int, destination: str, options: Options) -> None:
        base = open_in_root(root, destination)
        for name, directory in self._directories.items():
            os.mkdir(name or "unified", 0o755, dir_fd=base)
            target = open_in_root(base, name or "unified")
            tree = sc.open_tree(directory, False)
            sc.mount_setattr(tree, options.attributes, sc.MS_PRIVATE)
            sc.move_mount(tree, target)
            os.close(tree)
            os.close(target)
        if options.attributes & sc.MOUNT_ATTR_RDONLY:
            sc.mount_setattr(base, sc.MOUNT_ATTR_RDONLY)
        os.close(base)


def mask_paths(root: int, paths: list[str]) -> None:
    """Hide these paths: directories under an empty read-only one, everything else under /dev/null."""
    empty = -1
    null = -1
    for path in paths:
        try:
            target = open_in_root(root, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISDIR(os.fstat(target).st_mode):
            if empty < 0:
                sc.mount(
                    "tmpfs", f"/proc/self/fd/{target}", "tmpfs", sc.MS_RDONLY, "nr_blocks=1,nr_inodes=1,mode=755"
                )
                empty = open_in_root(root, path)
                os.close(target)
                continue
            tree = sc.open_tree("", False, empty)
        else:
            if null < 0:
                null = open_in_root(root, "/dev/null")
            tree = sc.open_tree("", False, null)
        sc.move_mount(tree, target)
        os.close(tree)
        os.close(target)
    for fd in (empty, null):
        if fd >= 0:
            os.close(fd)


def make_readonly_paths(root: int, paths: list[str]) -> None:
    """Make these paths read-only where they exist."""
    for path in paths:
        try:
            target = open_in_root(root, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        tree = sc.open_tree("", True, target)
        sc.mount_setattr(tree, sc.MOUNT_ATTR_RDONLY)
        sc.move_mount(tree, target)
        os.close(tree)
        os.close(target)
