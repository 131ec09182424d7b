"""AppArmor: the profile that confines containers where the kernel has it.

`buildtool-default` lets a container do what its capabilities and mounts allow, but for writing where /proc and /sys
speak for the whole machine, mounting, and signals and tracing across its border. Source: AppArmor, apparmor.d(5) and
apparmor_parser(8); Docker's documentation, "AppArmor security profiles for Docker".
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from buildtool.errors import Unavailable

DEFAULT = "buildtool-default"
UNCONFINED = "unconfined"
_PARSER_PATH = f"{os.defpath}:/usr/sbin:/sbin"

PROFILE = f"""\
profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{
  capability,
  file,
  network,
  umount,
  deny mount,

  # signals and tracing: among themselves; the machine may end them
  signal (receive) peer=unconfined,
  signal (send,receive) peer={DEFAULT},
  ptrace (trace,read,tracedby,readby) peer={DEFAULT},

  # /proc: processes, and of sys only kernel/shm*
  deny /proc/* w,
  deny /proc/[^0-9s]*/** w,
  deny /proc/s[^y]*/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/kernel/[^s]** w,
  deny /proc/sys/kernel/s[^h]** w,
  deny /proc/sys/kernel/sh[^m]** w,
  deny /proc/kcore rwklx,
  deny /proc/sysrq-trigger rwklx,

  # /sys: nothing but fs/cgroup
  deny /sys/[^f]** wklx,
  deny /sys/f[^s]** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/fs/c[^g]** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
}}
"""


class AppArmor:
    """The kernel's AppArmor; `sys` is where sysfs is."""

    def __init__(self, sys: Path = Path("/sys"), uid_map: Path = Path("/proc/self/uid_map")) -> None:
        self._sys = sys
        self._uid_map = uid_map
        self._loaded = False

    def supported(self) -> bool:
        """Whether there is one, it is on, and profiles may be loaded (not from a user namespace)."""
        try:
            enabled = (self._sys / "module/apparmor/parameters/enabled").read_text().startswith("Y")
            whole = self._uid_map.read_text().split()[:3] == ["0", "0", "4294967295"]
        except OSError:
            return False
        return enabled and whole

    def effective(self, asked: str, *, privileged: bool) -> str:
        """The profile that a container has: the one asked for, else the default one, which is loaded then; "" where
        AppArmor is not. Raises Unavailable when the default one cannot be loaded."""
        if not self.supported():
            return ""
        profile = named(asked, privileged=privileged)
        if profile == DEFAULT:
            self.load()
        return profile

    def process(self, asked: str, *, privileged: bool) -> dict[str, str]:
        """The same as the part of an OCI process that says it; nothing for `unconfined`. Raises Unavailable."""
        profile = self.effective(asked, privileged=privileged)
        return {"apparmorProfile": profile} if profile not in ("", UNCONFINED) else {}

    def load(self) -> None:
        """Have the kernel know the default profile. Raises Unavailable."""
        if self._loaded or self._known():
            self._loaded = True
            return
        parser = shutil.which("apparmor_parser", path=os.environ.get("PATH", "") + ":" + _PARSER_PATH)
        if parser is None:
            raise _refused("there is no apparmor_parser: install the package apparmor")
        done = subprocess.run(
            [parser, "--replace", "--skip-cache"], input=PROFILE, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise _refused(
                done.stderr.strip() or done.stdout.strip() or f"apparmor_parser ended with {done.returncode}"
            )
        self._loaded = True

    def _known(self) -> bool:
        try:
            lines = (self._sys / "kernel/security/apparmor/profiles").read_text().splitlines()
        except OSError:
            return False
        return any(line.startswith(f"{DEFAULT} (") for line in lines)


def named(asked: str, *, privileged: bool) -> str:
    """The profile of a container where AppArmor is."""
    return asked or (UNCONFINED if privileged else DEFAULT)


def _refused(why: str) -> Unavailable:
    return Unavailable(
        f"AppArmor enabled on system but the {DEFAULT} profile could not be loaded: {why}",
        hint="--security-opt apparmor=unconfined starts the container without one.",
    )


KERNEL = AppArmor()
