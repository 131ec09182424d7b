"""Mount points made real: volumes created and filled from the image, bind sources, and the runtime's mount list."""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from buildtool.cache.trees import Tree
from buildtool.containers import etcfiles, propagation
from buildtool.containers.model import DriverConfig, MountPoint, Record, VolumeOptions
from buildtool.containers.volumes import Volumes
from buildtool.errors import InvalidInput

Json = dict[str, Any]
Layers = Callable[[MountPoint], list[Path]]
"""The layers of an image mount's image, bottom first."""


def create_sources(record: Record, volumes: Volumes, tree: Tree) -> None:
    """At create: make missing volumes and fill empty ones with what the image has at their destination (blocking)."""
    asked = {posixpath.normpath(m.target): m.volume_options for m in record.host.mounts or () if m.volume_options}
    for point in record.mounts:
        if point.type != "volume":
            continue
        wanted = asked.get(point.destination) or VolumeOptions()
        driver = wanted.driver_config or DriverConfig()
        volume = volumes.create(point.name, options=driver.options, labels=wanted.labels, anonymous=point.anonymous)
        point.source = volume["Mountpoint"]
        if not point.no_copy and not point.subpath:
            user = f"copy {record.id}"
            volumes.hold(point.name, user)
            try:
                copy_up(tree, point.destination, Path(point.source))
            finally:
                volumes.release(user)


def copy_up(tree: Tree, source: str, target: Path) -> None:
    """Copy the image's directory into an empty volume, with owners, modes, times and attributes."""
    with os.scandir(target) as entries:
        if next(entries, None) is not None:
            return
    try:
        inside = tree.resolve(source, strict=True)
        status = tree.lstat(inside)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(status.st_mode):
        return
    links: dict[tuple[int, int], Path] = {}
    directories: list[tuple[Path, os.stat_result]] = []
    for path, entry in tree.walk(inside):
        destination = target / path[len(inside) :].lstrip("/")
        if stat.S_ISDIR(entry.st_mode):
            destination.mkdir(exist_ok=True)
            directories.append((destination, entry))
        else:
            copy_entry(tree.real(path), destination, entry, links)
        copy_owner_and_attributes(tree.real(path), destination, entry)
    for destination, entry in reversed(directories):
        os.utime(destination, ns=(entry.st_atime_ns, entry.st_mtime_ns))


def copy_entry(source: Path, destination: Path, entry: os.stat_result, links: dict[tuple[int, int], Path]) -> None:
    if entry.st_nlink > 1:
        first = links.setdefault((entry.st_dev, entry.st_ino), destination)
        if first != destination:
            os.link(first, destination, follow_symlinks=False)
            return
    if stat.S_ISLNK(entry.st_mode):
        destination.symlink_to(source.readlink())
    elif stat.S_ISREG(entry.st_mode):
        shutil.copyfile(source, destination, follow_symlinks=False)
    elif not stat.S_ISSOCK(entry.st_mode):
        os.mknod(destination, entry.st_mode, entry.st_rdev)


def copy_owner_and_attributes(source: Path, destination: Path, entry: os.stat_result) -> None:
    """Give a copy its source's owner, extended attributes, mode and times."""
    try:
        os.chown(destination, entry.st_uid, entry.st_gid, follow_symlinks=False)
    except OSError as error:  # EINVAL: an owner that this user namespace does not map
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith(("trusted.overlay.", "user.overlay.")):
            value = os.getxattr(source, name, follow_symlinks=False)
            try:
                os.setxattr(destination, name, value, follow_symlinks=False)
            except OSError:
                continue
    if not stat.S_ISLNK(entry.st_mode):
        destination.chmod(stat.S_IMODE(entry.st_mode))
        os.utime(destination, ns=(entry.st_atime_ns, entry.st_mtime_ns))


def runtime_mounts(record: Record, directory: Path, layers: Layers, root: Path) -> list[Json]:
    """At start: the mounts on top of the default ones, in the order to make them (blocking).

    Bind sources of `-v` that do not exist are made, as Docker does; those of `--mount` must exist (InvalidInput), and
    hand on mounts where that is asked for (BuildtoolError); `root` is the daemon's, where it is asked for by default.
    """
    mounts = [_etc(name, directory) for name in etcfiles.FILES]
    destinations = {point.destination for point in record.mounts}
    mounts = [mount for mount in mounts if mount["destination"] not in destinations]
    strict = {m.target for m in record.host.mounts or () if m.type == "bind"}
    for point in record.mounts:
        mounts.append(_mount(point, layers, strict=point.destination in strict))
        source = Path(point.source)
        if point.type == "bind" and not (source.is_relative_to(root) or root.is_relative_to(source)):
            propagation.check(source, point.propagation)
    return mounts


def _mount(point: MountPoint, layers: Layers, *, strict: bool) -> Json:
    if point.type == "tmpfs":
        flags = [flag for flag in point.mode.split(",") if flag]
        options = ["noexec", "nosuid", "nodev"]
        options = [o for o in options if o.removeprefix("no") not in flags and o not in flags] + flags
        return {"destination": point.destination, "type": "tmpfs", "source": "tmpfs", "options": options}
    if point.type == "image":
        return _image(point, layers(point))
    source = Path(point.source)
    if point.type == "bind" and not source.exists():
        if strict:
            raise InvalidInput(
                f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
            )
        source.mkdir(parents=True, exist_ok=True)
    if point.subpath:
        source = _inside(source, point.subpath)
    options = [
        "bind" if point.non_recursive else "rbind",
        point.propagation or "rprivate",
        "rw" if point.rw else "ro" if point.writable_below else "rro",
    ]
    return {"destination": point.destination, "type": "bind", "source": str(source), "options": options}


def _image(point: MountPoint, layers: list[Path]) -> Json:
    """The image's tree, or what is at the subpath of it, read-only."""
    lower = [str(layer) for layer in reversed(layers)]
    if point.subpath:
        tree = Tree(layers, immutable=True)
        try:
            inside = tree.resolve(point.subpath, strict=True)
            plain = not stat.S_ISDIR(tree.lstat(inside).st_mode)
            lower = [str(tree.real(inside))] if plain else list(tree.directories(inside))
        except OSError as error:
            raise InvalidInput(
                f"cannot access path {point.subpath} of the image {point.source}: {error.strerror}"
            ) from None
    if len(lower) == 1:
        options = ["bind", "rprivate", "ro"]
        return {"destination": point.destination, "type": "bind", "source": lower[0], "options": options}
    options = ["ro", f"lowerdir={':'.join(lower)}"]
    return {"destination": point.destination, "type": "overlay", "source": "overlay", "options": options}


def _inside(root: Path, subpath: str) -> Path:
    """A directory below a volume, never through a symlink out of it."""
    tree = Tree([root])
    try:
        resolved = tree.resolve(subpath, strict=True)
    except OSError as error:
        raise InvalidInput(f"cannot access path {root / subpath}: {error.strerror}") from None
    return root / resolved.lstrip("/")


def _etc(name: str, directory: Path) -> Json:
    return {
        "destination": f"/etc/{name}",
        "type": "bind",
        "source": str(directory / name),
        "options": ["rbind", "rprivate", "rw"],
    }
