"""Facts about the machine, read from /proc and /etc, for `info` and `version`."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def architecture() -> str:
    """The machine's architecture as OCI names it."""
    machine = os.uname().machine
    return _GO_ARCHITECTURES.get(machine, machine)


def operating_system() -> tuple[str, str]:
    """The distribution's pretty name and its version."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "Linux", ""
    return release.get("PRETTY_NAME", "Linux"), release.get("VERSION_ID", "")


def memory_bytes() -> int:
    """Physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def ip_forwarding() -> bool:
    """Whether the kernel forwards IPv4."""
    try:
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    except OSError:
        return False


def open_files() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def cgroup_version() -> str:
    """`2` on a pure cgroup v2 system, else `1` (also hybrid, whose controllers are v1's)."""
    return "2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1"


def controllers() -> frozenset[str]:
    """The names of the cgroup controllers that containers can be limited by."""
    try:
        if cgroup_version() == "2":
            return frozenset(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
        lines = Path("/proc/cgroups").read_text().splitlines()[1:]
    except OSError:
        return frozenset()
    return frozenset(line.split()[0] for line in lines if line.split()[-1] == "1")


def swap_limit() -> bool:
    """Whether swap can be limited."""
    if cgroup_version() == "2":
        return "memory" in controllers()
    return Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()


def backing_file_system(path: Path) -> str:
    """The type of the file system that holds `path`."""
    best, kind = "", "unknown"
    target = str(path.resolve())
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return kind
    for line in lines:
        _, where, type_ = line.split()[:3]
        where = where.encode().decode("unicode_escape")
        inside = target == where or target.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best):
            best, kind = where, type_
    return kind


def in_user_namespace() -> bool:
    """Whether we are not root of the whole machine."""
    try:
        fields = Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return False
    return fields != ["0", "0", "4294967295"]
