"""What a create request mounts: `Binds`, `Mounts`, `Tmpfs`, `Volumes` and `VolumesFrom` as one list of mount points.

Pure but for `os.path` questions about bind sources, which Docker also asks at create time.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from buildtool.containers.model import Config, HostConfig, Mount, MountPoint
from buildtool.containers.names import new_id
from buildtool.errors import InvalidInput, NotFound, Unavailable

_LONGEST_NAME = 255  # it names a directory
_VOLUME_NAME = re.compile(rf"[a-zA-Z0-9][a-zA-Z0-9_.-]{{1,{_LONGEST_NAME - 1}}}")
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_TMPFS_VALUES = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"})
_TMPFS_PAIRS = ("exec", "suid", "dev", "atime", "diratime", "relatime", "strictatime", "mand")
_TMPFS_FLAGS = frozenset(
    {"ro", "rw", "sync", "async", "dirsync", "remount", "bind", "rbind", "defaults", "unbindable", "runbindable"}
    | set(_PROPAGATION)
    | {prefix + name for name in _TMPFS_PAIRS for prefix in ("", "no")}
)
_NOWHERE = Path("/nonexistent")
_LABELS, _CONSISTENCY = ("z", "Z"), ("consistent", "cached", "delegated")  # nothing to do for them here
_ONE_OF = (("ro", "rw"), _PROPAGATION, _LABELS, _CONSISTENCY, ("nocopy",))


def mount_points(
    config: Config, host: HostConfig, volumes_from: Callable[[str], Sequence[MountPoint]], root: Path = _NOWHERE
) -> list[MountPoint]:
    """All mounts of the container, later sources overriding earlier ones only where Docker lets them.

    Order of strength: VolumesFrom < Binds, Mounts, Tmpfs (which exclude each other per destination); the anonymous
    Volumes of image and request only fill destinations nobody else took. `volumes_from` gives another container's
    mounts; `root` is the daemon's data root.
    Raises InvalidInput with Docker's texts.
    """
    points: dict[str, MountPoint] = {}
    for text in host.volumes_from or ():
        reference, _, mode = text.partition(":")
        if mode not in ("", "ro", "rw", "z", "Z"):
            raise InvalidInput(f"invalid mode: {mode}", hint=f"in --volumes-from {text}: ro or rw")
        try:
            others = volumes_from(reference)
        except NotFound as error:  # a client would take it for a missing image
            raise InvalidInput(str(error)) from None
        for point in others:
            points[point.destination] = _copy(point, rw=point.rw and mode != "ro", mode=mode or point.mode)
    taken: set[str] = set()
    for text in host.binds or ():
        _add(points, taken, parse_bind(text, host.volume_driver))
    for mount in host.mounts or ():
        _add(points, taken, check_mount(mount))
    for destination, options in (host.tmpfs or {}).items():
        _add(points, taken, parse_tmpfs(destination, options))
    for path in config.volumes or ():
        destination = posixpath.normpath(path)
        if destination not in points:
            points[destination] = _volume("", destination, anonymous=True)
    for point in points.values():
        if point.type == "bind":
            _let_go(point, root)
            point.propagation = point.propagation or "rprivate"
    return sorted(points.values(), key=lambda point: point.destination.count("/"))


def _let_go(point: MountPoint, root: Path) -> None:
    """A container that sees the daemon's root must not keep a mount of the daemon's that has ended there."""
    source = Path(point.source)
    if not (source.is_relative_to(root) or root.is_relative_to(source)):
        return
    if not point.propagation:
        point.propagation = "rslave"
    elif point.propagation not in ("rslave", "rshared"):
        raise InvalidInput(
            'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is '
            f'within the daemon root, daemon root: "{root}", bind mount source: "{point.source}", propagation: '
            f'"{point.propagation}"'
        )


def check_volume_name(text: str) -> None:
    """Raises InvalidInput with Docker's text."""
    if not _VOLUME_NAME.fullmatch(text):
        raise InvalidInput(_bad_name(text))


def parse_bind(text: str, driver: str = "") -> MountPoint:
    """`source:destination[:mode]`, `destination` alone for an anonymous volume. Raises InvalidInput."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidInput(f"invalid volume specification: '{text}'")
    if driver not in ("", "local"):
        raise Unavailable(f'plugin "{driver}" not found: only the local volume driver exists')
    if len(parts) == 1:
        return _volume("", _destination(parts[0], text), anonymous=True)
    source = parts[0]
    destination = _destination(parts[1], text, "bind" if source.startswith("/") else "volume")
    point = _bind(source, destination) if source.startswith("/") else _volume(_name(source), destination)
    if len(parts) == 3:
        _apply_mode(point, parts[2], text)
    return point


def check_mount(mount: Mount) -> MountPoint:
    """One entry of `HostConfig.Mounts`. Raises InvalidInput ("invalid mount config for type …"), Unavailable."""
    fail = f'invalid mount config for type "{mount.type}": '
    if mount.type not in ("bind", "volume", "tmpfs", "image"):
        raise InvalidInput(fail + "mount type unknown")
    if not mount.target:
        raise InvalidInput(fail + "field Target must not be empty")
    if not mount.target.startswith("/"):
        raise InvalidInput(f"{fail}invalid mount path: '{mount.target}' mount path must be absolute")
    if posixpath.normpath(mount.target) == "/":
        raise InvalidInput(f"{fail}invalid specification: destination can't be '/'")
    destination = posixpath.normpath(mount.target)
    for kind, options in (
        ("bind", mount.bind_options),
        ("volume", mount.volume_options),
        ("tmpfs", mount.tmpfs_options),
        ("image", mount.image_options),
    ):
        if options is not None and kind != mount.type:
            raise InvalidInput(f"{fail}field {kind.capitalize()}Options must not be specified")
    match mount.type:
        case "bind":
            return _bind_mount(mount, destination, fail)
        case "volume":
            return _volume_mount(mount, destination, fail)
        case "tmpfs":
            if mount.source:
                raise InvalidInput(fail + "field Source must not be specified")
            return parse_tmpfs(destination, _tmpfs_text(mount))
        case _:
            if not mount.source:
                raise InvalidInput(fail + "field Source must not be empty")
            subpath = mount.image_options.subpath if mount.image_options else ""
            return MountPoint("image", mount.source, destination, rw=False, subpath=_subpath(subpath, fail))


def parse_tmpfs(destination: str, options: str) -> MountPoint:
    """A tmpfs with mount(8) options: `rw,noexec,size=64m,mode=1777`. Raises InvalidInput."""
    if not destination.startswith("/"):
        raise InvalidInput(f"invalid mount path: '{destination}' mount path must be absolute")
    if posixpath.normpath(destination) == "/":
        raise InvalidInput("invalid specification: destination can't be '/'")
    flags = [option for option in options.split(",") if option]
    for option in flags:
        name, equals, value = option.partition("=")
        if (name not in _TMPFS_VALUES if equals else name not in _TMPFS_FLAGS) or (equals and not value):
            raise InvalidInput(f'invalid tmpfs option ["{option}"]')
    return MountPoint("tmpfs", "", posixpath.normpath(destination), mode=",".join(flags), rw="ro" not in flags)


def _bind_mount(mount: Mount, destination: str, fail: str) -> MountPoint:
    if not mount.source:
        raise InvalidInput(fail + "field Source must not be empty")
    if not mount.source.startswith("/"):
        raise InvalidInput(f"{fail}invalid mount path: '{mount.source}' mount path must be absolute")
    point = _bind(mount.source, destination)
    options = mount.bind_options
    if options is not None:
        if options.propagation and options.propagation not in _PROPAGATION:
            raise InvalidInput(f"{fail}invalid propagation mode: {options.propagation}")
        point.propagation = options.propagation or point.propagation
        point.non_recursive = options.non_recursive
        point.writable_below = options.read_only_non_recursive
        _check_recursion(mount, fail)
    if not (options and options.create_mountpoint) and not Path(mount.source).exists():
        raise InvalidInput(f"{fail}bind source path does not exist: {mount.source}")
    point.rw = not mount.read_only
    return point


def _check_recursion(mount: Mount, fail: str) -> None:
    options = mount.bind_options
    assert options is not None
    for name, asked in (
        ("ReadOnlyNonRecursive", options.read_only_non_recursive),
        ("ReadOnlyForceRecursive", options.read_only_force_recursive),
    ):
        if asked and not mount.read_only:
            raise InvalidInput(f"{fail}BindOptions.{name} needs ReadOnly")
        if asked and options.non_recursive:
            raise InvalidInput(f"{fail}BindOptions.{name} and NonRecursive exclude each other")
    if options.read_only_non_recursive and options.read_only_force_recursive:
        raise InvalidInput(f"{fail}ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other")


def _volume_mount(mount: Mount, destination: str, fail: str) -> MountPoint:
    options = mount.volume_options
    driver = options.driver_config.name if options and options.driver_config else ""
    if driver not in ("", "local"):
        raise Unavailable(f'plugin "{driver}" not found: only the local volume driver exists')
    if mount.source and not _VOLUME_NAME.fullmatch(mount.source):
        raise InvalidInput(f"{fail}{_bad_name(mount.source)}")
    point = _volume(mount.source, destination, anonymous=not mount.source)
    point.rw = not mount.read_only
    if options is not None:
        point.no_copy = options.no_copy
        point.subpath = _subpath(options.subpath, fail)
    point.mode = "z" if mount.source else ""
    return point


def _tmpfs_text(mount: Mount) -> str:
    options = mount.tmpfs_options
    flags = ["ro"] if mount.read_only else []
    if options is not None:
        if options.size_bytes < 0:
            raise InvalidInput('invalid mount config for type "tmpfs": SizeBytes must not be negative')
        if options.size_bytes:
            flags.append(f"size={options.size_bytes}")
        if options.mode:
            flags.append(f"mode={options.mode:o}")
        flags += ["=".join(option) for option in options.options or ()]
    return ",".join(flags)


def _subpath(text: str, fail: str) -> str:
    if text and (text.startswith("/") or ".." in text.split("/")):
        raise InvalidInput(f"{fail}subpath must be a relative path within the volume: {text}")
    return posixpath.normpath(text) if text else ""


def _destination(text: str, whole: str, kind: str = "volume") -> str:
    fail = f"invalid volume specification: '{whole}': invalid mount config for type \"{kind}\": "
    if not text.startswith("/"):
        raise InvalidInput(f"{fail}invalid mount path: '{text}' mount path must be absolute")
    destination = posixpath.normpath(text)
    if destination == "/":
        raise InvalidInput(f"{fail}invalid specification: destination can't be '/'")
    return destination


def _apply_mode(point: MountPoint, mode: str, whole: str) -> None:
    flags = [flag for flag in mode.split(",") if flag]
    if any(sum(flag in kind for flag in flags) > 1 for kind in _ONE_OF):
        raise InvalidInput(f"invalid mode: {mode}", hint=f"in the volume {whole}: flags that exclude each other")
    for flag in flags:
        if flag in ("ro", "rw"):
            point.rw = flag == "rw"
        elif flag == "nocopy" and point.type == "volume":
            point.no_copy = True
        elif flag in _PROPAGATION and point.type == "bind":
            point.propagation = flag
        elif flag not in (*_LABELS, *_CONSISTENCY):
            raise InvalidInput(f"invalid mode: {mode}", hint=f"in the volume {whole}")
    point.mode = mode


def _name(text: str) -> str:
    if not _VOLUME_NAME.fullmatch(text):
        raise InvalidInput(_bad_name(text))
    return text


def _bad_name(text: str) -> str:
    if len(text) == 1:
        return f"create {text}: volume name is too short, names should be at least two alphanumeric characters"
    if len(text) > _LONGEST_NAME:
        return f'"{text[:40]}…" is longer than {_LONGEST_NAME} characters, too long for a local volume name'
    return (
        f'create {text}: "{text}" includes invalid characters for a local volume name, only '
        '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
    )


def _bind(source: str, destination: str) -> MountPoint:
    return MountPoint("bind", posixpath.normpath(source), destination)


def _volume(name: str, destination: str, *, anonymous: bool = False) -> MountPoint:
    return MountPoint(
        "volume",
        "",
        destination,
        mode="z" if name else "",
        name=name or new_id(),
        driver="local",
        anonymous=anonymous,
    )


def _copy(point: MountPoint, *, rw: bool, mode: str) -> MountPoint:
    return MountPoint(
        point.type,
        point.source,
        point.destination,
        mode=mode,
        rw=rw,
        propagation=point.propagation,
        name=point.name,
        driver=point.driver,
        no_copy=True,
        non_recursive=point.non_recursive,
        subpath=point.subpath,
        writable_below=point.writable_below,
    )


def _add(points: dict[str, MountPoint], taken: set[str], point: MountPoint) -> None:
    if point.destination in taken:
        raise InvalidInput(f"Duplicate mount point: {point.destination}")
    taken.add(point.destination)
    points[point.destination] = point
