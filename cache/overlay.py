# ruff: noqa: PTH100, PTH123
"""Overlay mounts of snapshot chains, also of more than the option string of mount(2) holds.

Imports nothing but the standard library's lightest: forked container processes use it. Always redirect_dir=off,
metacopy=off, index=off: an upper directory is then a plain layer that can be read without the kernel's help.
"""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LOWER = 500  # OVL_MAX_STACK
_PAGE = 4096

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = (
    428,
    429,
    430,
    431,
    432,
)  # the same on every architecture we know
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_MS_RDONLY, _MS_REMOUNT, _MS_BIND = 1, 32, 4096
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_AT_FDCWD = -100
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_RDONLY = 1


_in_user_namespace: bool | None = None
_library: ctypes.CDLL | None = None


def in_user_namespace() -> bool:
    """Whether this process lacked the initial user namespace's root when it first asked: overlays then need
    `userxattr`.
    """
    global _in_user_namespace
    if _in_user_namespace is None:
        _in_user_namespace = _look_for_user_namespace()
    return _in_user_namespace


def _look_for_user_namespace() -> bool:
    if os.geteuid() != 0 or not _has_sys_admin():
        return True
    try:
        with open("/proc/self/uid_map", "rb") as table:
            return table.read().split() != [b"0", b"0", b"4294967295"]
    except OSError:
        return False


def _has_sys_admin() -> bool:
    """Whether root has the capability that trusted attributes take: in plain containers it has not."""
    try:
        with open("/proc/self/status", "rb") as status:
            line = next((line for line in status if line.startswith(b"CapEff:")), b"CapEff: 200000")
    except OSError:
        return True
    return bool(int(line.split()[1], 16) & 1 << 21)


def opaque_xattr() -> str:
    """The extended attribute ("y") that makes a directory hide those below it."""
    return "user.overlay.opaque" if in_user_namespace() else "trusted.overlay.opaque"


def overlay_mount_data(
    lower: Sequence[str], upper: str | None, work: str | None, *, userxattr: bool, volatile: bool
) -> list[tuple[str, str | None]]:
    """The mount's parameters in order, as fsconfig(2) takes them (None = a flag). `lower` is top first.

    Raises ValueError when there is nothing to mount or more layers than the kernel stacks.
    """
    if not lower or len(lower) > MAX_LOWER:
        raise ValueError(f"an overlay has 1 to {MAX_LOWER} lower directories, not {len(lower)}")
    if (upper is None) != (work is None):
        raise ValueError("an overlay has an upper and a work directory, or neither")
    data: list[tuple[str, str | None]] = [("lowerdir+", path) for path in lower]
    if upper is not None:
        data += [("upperdir", upper), ("workdir", work)]
        if volatile:
            data.append(("volatile", None))
    data.append(("index", "off"))
    if userxattr:
        data.append(("userxattr", None))  # implies redirect_dir=nofollow, metacopy=off
    else:
        data += [("redirect_dir", "off"), ("metacopy", "off")]
    return data


def option_string(data: Sequence[tuple[str, str | None]]) -> tuple[str, str]:
    """The same parameters for mount(2): the directory to stand in, and an option string relative to it.

    Raises ValueError when even so it is longer than a page.
    """
    paths = [value for key, value in data if value is not None and key in ("lowerdir+", "upperdir", "workdir")]
    common = os.path.commonpath(paths) if all(path.startswith("/") for path in paths) else ""
    lower, rest = [], []
    for key, value in data:
        if value is None:
            rest.append(key)
            continue
        if key in ("lowerdir+", "upperdir", "workdir"):
            value = os.path.relpath(value, common) if common else value
            value = value.replace("\\", "\\\\").replace(",", "\\,")
        if key == "lowerdir+":
            lower.append(value.replace(":", "\\:"))
        else:
            rest.append(f"{key}={value}")
    options = ",".join(["lowerdir=" + ":".join(lower), *rest])
    if len(os.fsencode(options)) >= _PAGE:
        raise ValueError(f"{len(lower)} layers do not fit into a mount's options on this kernel (it needs Linux 6.7)")
    return common, options


def mount_overlay(
    target: str,
    lower: Sequence[str],
    upper: str | None,
    work: str | None,
    *,
    userxattr: bool,
    volatile: bool = False,
) -> None:
    """Mount an overlay of `lower` (top first) and, when writable, `upper` and `work`, on `target`.

    A single lower directory without an upper one is bind-mounted read-only: the kernel takes no such overlay. Raises
    OSError with the kernel's own explanation. On kernels before 6.7 it changes the working directory for a moment.
    """
    if upper is None and len(lower) == 1:
        _bind_readonly(lower[0], target)
        return
    data = overlay_mount_data(lower, upper, work, userxattr=userxattr, volatile=volatile)
    try:
        _mount_by_fsconfig(target, data, readonly=upper is None)
    except _NotSupportedError:
        _mount_by_options(target, data, readonly=upper is None)


def unmount(target: str) -> None:
    """Detach the mount at `target`; what still uses it keeps it until it is done."""
    if _libc().umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
        raise _error(f"umount {target}")


class _NotSupportedError(Exception):
    """This kernel has no fsopen, or its overlay no `lowerdir+`."""


def _libc() -> ctypes.CDLL:
    global _library
    if _library is None:
        _library = ctypes.CDLL(None, use_errno=True)
        _library.syscall.restype = ctypes.c_long
    return _library


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    converted = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    return int(_libc().syscall(ctypes.c_long(number), *converted))


def _error(what: str, number: int | None = None) -> OSError:
    number = ctypes.get_errno() if number is None else number
    return OSError(number, f"{what}: {os.strerror(number)}")


def _mount_by_fsconfig(target: str, data: Sequence[tuple[str, str | None]], *, readonly: bool) -> None:
    context = _syscall(_FSOPEN, b"overlay", 1)
    if context < 0:
        if ctypes.get_errno() in (errno.ENOSYS, errno.EPERM):  # EPERM: a seccomp filter that does not know it
            raise _NotSupportedError
        raise _error("overlay")
    opened: list[int] = [context]
    try:
        _configure(context, data, opened)
        if _syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0) != 0:
            raise _explained(context, f"overlay on {target}")
        mount = _syscall(_FSMOUNT, context, 1, _MOUNT_ATTR_RDONLY if readonly else 0)
        if mount < 0:
            raise _explained(context, f"overlay on {target}")
        opened.append(mount)
        if _syscall(_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH) != 0:
            raise _error(f"overlay on {target}")
    finally:
        for fd in opened:
            os.close(fd)


def _configure(context: int, data: Sequence[tuple[str, str | None]], opened: list[int]) -> None:
    for key, value in data:
        if value is None:
            result = _syscall(_FSCONFIG, context, _FSCONFIG_SET_FLAG, key.encode(), None, 0)
        else:
            encoded = os.fsencode(value)
            if len(encoded) > 255:  # the kernel's limit for one value
                opened.append(os.open(value, os.O_PATH | os.O_DIRECTORY))
                encoded = b"/proc/self/fd/%d" % opened[-1]
            result = _syscall(_FSCONFIG, context, _FSCONFIG_SET_STRING, key.encode(), encoded, 0)
        if result != 0:
            if key == "lowerdir+" and ctypes.get_errno() == errno.EINVAL and _unknown_parameter(context):
                raise _NotSupportedError
            raise _explained(context, f"overlay: {key}={value}" if value else f"overlay: {key}")


def _messages(context: int) -> list[str]:
    found = []
    while True:
        try:
            found.append(os.read(context, 4096).decode(errors="replace").strip())
        except OSError:
            return found


def _unknown_parameter(context: int) -> bool:
    return any("Unknown parameter" in message for message in _messages(context))


def _explained(context: int, what: str) -> OSError:
    number = ctypes.get_errno()
    text = "; ".join(_messages(context))
    return OSError(number, f"{what}: {os.strerror(number)}" + (f" ({text})" if text else ""))


def _mount_by_options(target: str, data: Sequence[tuple[str, str | None]], *, readonly: bool) -> None:
    directory, options = option_string(data)
    target = os.path.abspath(target)
    before = os.open(".", os.O_PATH | os.O_DIRECTORY) if directory else -1
    try:
        if directory:
            os.chdir(directory)
        flags = ctypes.c_ulong(_MS_RDONLY if readonly else 0)
        if _libc().mount(b"overlay", os.fsencode(target), b"overlay", flags, os.fsencode(options)) != 0:
            raise _error(f"overlay on {target}")
    finally:
        if directory:
            os.fchdir(before)
            os.close(before)


def _bind_readonly(source: str, target: str) -> None:
    libc = _libc()
    if libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(_MS_BIND), None) != 0:
        raise _error(f"bind {source} on {target}")
    flags = ctypes.c_ulong(_MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    if libc.mount(None, os.fsencode(target), None, flags, None) != 0:
        error = _error(f"bind {source} on {target} read-only")
        unmount(target)
        raise error
