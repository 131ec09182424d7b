"""Programs of other processors: which ones this machine's kernel executes, by itself or through binfmt_misc.

Source: Linux, Documentation/admin-guide/binfmt-misc.rst; the ELF header (gabi, chapter 4).
"""

from __future__ import annotations

import struct
from pathlib import Path

from buildtool.oci import Platform, host_platform

BINFMT = Path("/proc/sys/fs/binfmt_misc")
_NATIVE = {("amd64", "386"), ("arm64", "arm")}
_HEADERS = {  # class (1: 32 bits, 2: 64), byte order (1: little), e_machine
    "386": (1, 1, 3),
    "amd64": (2, 1, 62),
    "arm": (1, 1, 40),
    "arm64": (2, 1, 183),
    "loong64": (2, 1, 258),
    "mips64le": (2, 1, 8),
    "mipsle": (1, 1, 8),
    "ppc64le": (2, 1, 21),
    "riscv64": (2, 1, 243),
    "s390x": (2, 2, 22),
}


def runs_here(platform: Platform, binfmt: Path = BINFMT) -> bool:
    """Whether the kernel executes the platform's programs: its own, or by an emulator that is registered."""
    host = host_platform()
    if platform.os != host.os:
        return False
    if platform.architecture == host.architecture or (host.architecture, platform.architecture) in _NATIVE:
        return True
    return bool(emulator(platform, binfmt))


def emulator(platform: Platform, binfmt: Path = BINFMT) -> str:
    """The binfmt_misc entry, whatever its name, that executes the platform's programs; "" when none that is enabled
    does.
    """
    header = _program(platform.architecture)
    if not header:
        return ""
    try:
        entries = sorted(binfmt.iterdir())
    except OSError:
        return ""
    return next((entry.name for entry in entries if _takes(entry, header)), "")


def how_to_run(platform: Platform, binfmt: Path = BINFMT) -> str:
    """What makes this machine execute the platform's programs, as advice; "" when nothing does."""
    if platform.os != host_platform().os or platform.architecture not in _HEADERS:
        return ""
    first = "" if (binfmt / "status").exists() else "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && "
    return f"register an emulator: `{first}apt-get install qemu-user-static binfmt-support`"


def _program(architecture: str) -> bytes:
    """The beginning of an ELF program for it."""
    if architecture not in _HEADERS:
        return b""
    width, order, machine = _HEADERS[architecture]
    numbers = struct.pack("<HHI" if order == 1 else ">HHI", 2, machine, 1)
    return (b"\x7fELF" + bytes([width, order, 1]) + bytes(9) + numbers).ljust(128, b"\0")


def _takes(entry: Path, header: bytes) -> bool:
    """Whether the kernel gives a program that begins so to this entry's interpreter."""
    if entry.name in ("register", "status"):
        return False
    try:
        first, *lines = entry.read_text().splitlines()
        fields = dict(line.partition(" ")[::2] for line in lines)
        offset, magic = int(fields.get("offset", "0")), bytes.fromhex(fields.get("magic", ""))
        mask = bytes.fromhex(fields["mask"]) if "mask" in fields else b"\xff" * len(magic)
    except (OSError, ValueError):
        return False
    begin = header[offset : offset + len(magic)]
    if first != "enabled" or not magic or len(begin) != len(magic):
        return False
    return all((a ^ b) & keep == 0 for a, b, keep in zip(begin, magic, mask, strict=False))
