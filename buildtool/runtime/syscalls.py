"""System calls that the standard library does not have, through ctypes.

Used in the spawner, the shims and the forked container processes: imports nothing but the lightest. Every function
raises OSError with the kernel's error number.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_DIRSYNC = 128
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MNT_DETACH = 2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_ATIME = 0x70
MOUNT_ATTR_NODIRATIME = 0x80

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_SET_MODE_FILTER = 1

_MACHINE = os.uname().machine
# These numbers are the same on every architecture; the second tuple differs (x86_64, the generic table).
_NR_OPEN_TREE, _NR_MOVE_MOUNT, _NR_OPENAT2, _NR_MOUNT_SETATTR = 428, 429, 437, 442
_NR_PIVOT_ROOT, _NR_CAPSET, _NR_SECCOMP, _NR_BPF, _NR_KEYCTL = (
    (155, 126, 317, 321, 250) if _MACHINE == "x86_64" else (41, 91, 277, 280, 219)
)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_long = ctypes.c_long


def _fail(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)


def default_reserved_signals() -> None:
    """Put signals 32 and 33 at their defaults, which the C library keeps for itself and lets nobody reset.

    Whoever started us may have ignored them, and ignored signals are inherited by every program below.
    """
    default = bytes(32)  # struct kernel_sigaction: handler, flags, restorer, mask
    for number in (32, 33):
        _syscall(_long(13 if _MACHINE == "x86_64" else 134), _long(number), default, None, _long(8))


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, fstype, data)]
    if _libc.mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]) != 0:
        raise _fail(target)


def exchange(one: str, other: str) -> None:
    """Let two files or directories of one file system take each other's name, at once (renameat2(2))."""
    number = _long(316 if _MACHINE == "x86_64" else 276)
    if _syscall(number, _long(-100), os.fsencode(one), _long(-100), os.fsencode(other), _long(2)) != 0:
        raise _fail(other)


def umount(target: str, flags: int) -> None:
    """umount2(2)."""
    if _libc.umount2(os.fsencode(target), flags) != 0:
        raise _fail(target)


def unshare(flags: int) -> None:
    """unshare(2)."""
    if _libc.unshare(flags) != 0:
        raise _fail("unshare")


def setns(fd: int, flags: int) -> None:
    """setns(2)."""
    if _libc.setns(fd, flags) != 0:
        raise _fail("setns")


def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> None:
    """prctl(2)."""
    if _libc.prctl(option, a, b, c, d) != 0:
        raise _fail(f"prctl {option}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    if _syscall(_long(_NR_PIVOT_ROOT), os.fsencode(new), os.fsencode(old)) != 0:
        raise _fail("pivot_root")


def open_tree(path: str, recursive: bool, directory: int = AT_FDCWD) -> int:
    """A detached copy of the mount at `path` (with those below it when `recursive`) as a descriptor."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    if not path:
        flags |= AT_EMPTY_PATH
    fd = int(_syscall(_long(_NR_OPEN_TREE), _long(directory), os.fsencode(path), _long(flags)))
    if fd < 0:
        raise _fail(path)
    return fd


def move_mount(tree: int, target: int) -> None:
    """Attach a detached mount onto the file or directory that `target` is a descriptor of."""
    flags = _long(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    if _syscall(_long(_NR_MOVE_MOUNT), _long(tree), b"", _long(target), b"", flags) != 0:
        raise _fail("move_mount")


def mount_setattr(
    tree: int, attributes: int, propagation: int = 0, *, clear: int = 0, recursive: bool = False
) -> None:
    """Add attributes (MOUNT_ATTR_*) to the mount that `tree` is a descriptor of; also set its propagation."""
    attr = struct.pack("QQQQ", attributes, clear, propagation, 0)
    flags = _long(AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0))
    if _syscall(_long(_NR_MOUNT_SETATTR), _long(tree), b"", flags, attr, _long(len(attr))) != 0:
        raise _fail("mount_setattr")


def openat2(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2), always close-on-exec."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    fd = int(_syscall(_long(_NR_OPENAT2), _long(directory), os.fsencode(path), how, _long(len(how))))
    if fd < 0:
        raise _fail(path)
    return fd


def close_all_but(*kept: int) -> None:
    """Close every descriptor from 3 on, except these."""
    first = 3
    for fd in sorted(kept):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, 1 << 30)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's capability sets, each a bit mask."""
    header = struct.pack("Ii", 0x20080522, 0)
    low, high = 0xFFFFFFFF, 32
    data = struct.pack(
        "IIIIII",
        *(effective & low, permitted & low, inheritable & low),
        *(effective >> high, permitted >> high, inheritable >> high),
    )
    if _syscall(_long(_NR_CAPSET), header, data) != 0:
        raise _fail("capset")


def seccomp_filter(program: bytes, flags: int = 0) -> None:
    """Install a classic BPF program (8 bytes an instruction) as this thread's system call filter."""
    buffer = ctypes.create_string_buffer(program, len(program))
    prog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    if _syscall(_long(_NR_SECCOMP), _long(SECCOMP_SET_MODE_FILTER), _long(flags), prog) != 0:
        raise _fail("seccomp")


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2); returns the descriptor or 0."""
    result = int(_syscall(_long(_NR_BPF), _long(command), attributes, _long(len(attributes))))
    if result < 0:
        raise _fail("bpf")
    return result


def bring_loopback_up() -> None:
    """Set the interface `lo` of this thread's network namespace up (netdevice(7))."""
    siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        answer = fcntl.ioctl(probe, siocgifflags, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack_from("16sh", answer)[1]
        fcntl.ioctl(probe, siocsifflags, struct.pack("16sh22x", b"lo", flags | iff_up))


def set_domain_name(name: str) -> None:
    """setdomainname(2)."""
    encoded = name.encode()
    if _libc.setdomainname(encoded, len(encoded)) != 0:
        raise _fail("setdomainname")


def join_new_session_keyring() -> None:
    """Leave the session keyring for a new anonymous one."""
    keyctl_join_session_keyring = 1
    if _syscall(_long(_NR_KEYCTL), _long(keyctl_join_session_keyring), None) < 0:
        raise _fail("keyctl")


def set_name(name: bytes) -> None:
    """The name that ps shows for this process (at most 15 bytes)."""
    buffer = ctypes.create_string_buffer(name, 16)
    prctl(PR_SET_NAME, ctypes.addressof(buffer))
