# ruff: noqa: PTH102, PTH104, PTH106, PTH110, PTH112, PTH120, PTH123
"""Control groups of a container: version 1, hybrid and version 2.

Only the hierarchies that something needs get a directory: memory, pids and devices always (accounting, OOM, device
rules), cpu, cpuset and blkio when limited. Freezing uses the version 2 core when a unified hierarchy is mounted,
with or without controllers. Source: kernel documentation, admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from typing import Any

from buildtool.runtime import cgroup_limits as limits

Spec = dict[str, Any]
_V1_CONTROLLERS = frozenset({"memory", "pids", "devices", "cpu", "cpuacct", "cpuset", "blkio", "freezer"})
_ALWAYS = ("memory", "pids", "devices")
DEFAULT_PARENT = "/buildtool"


class Hierarchies:
    """Where control groups are mounted: `v1` maps a controller to its mount point; `unified` is version 2's or ""."""

    def __init__(self, v1: dict[str, str], unified: str) -> None:
        self.v1 = v1
        self.unified = unified

    @property
    def is_v2(self) -> bool:
        """Whether version 2 carries the controllers."""
        return bool(self.unified) and not self.v1

    @classmethod
    def find(cls) -> Hierarchies:
        """What this process's mounts offer."""
        v1: dict[str, str] = {}
        unified = ""
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            for line in table:
                before, _, after = line.partition(" - ")
                kind, _, options = after.split(" ", 2)
                place = before.split(" ")[4]
                if kind == "cgroup2" and not unified:
                    unified = place
                elif kind == "cgroup":
                    for option in options.strip().split(","):
                        if option in _V1_CONTROLLERS:
                            v1.setdefault(option, place)
        return cls(v1, unified)


class Cgroup:
    """One container's control group. `directories` maps a controller ("" for version 2) to its directory."""

    def __init__(self, hierarchies: Hierarchies, path: str, directories: dict[str, str]) -> None:
        self._hierarchies = hierarchies
        self._path = path
        self.directories = directories
        self.warnings: list[str] = []
        self._devices: list[tuple[bool, str]] = []

    @classmethod
    def create(cls, hierarchies: Hierarchies, path: str, resources: Spec) -> Cgroup:
        """Make the directories and set the limits. What this user may not do is left out, with a warning if wanted.

        Raises OSError when the kernel refuses a value.
        """
        cgroup = cls(hierarchies, path, {})
        for controller in cgroup._needed(resources):
            cgroup._make(controller)
        try:
            cgroup.update(resources)
            cgroup._restrict_devices(resources.get("devices"))
        except OSError:
            cgroup.remove()
            raise
        return cgroup

    def adopt(self, path: str, resources: Spec) -> None:
        """Take another path, where groups can be renamed (version 1), and set the limits of a container.

        Raises OSError when the kernel refuses a value.
        """
        for controller, directory in self.directories.items():
            if controller:
                wanted = directory.removesuffix(self._path) + path
                with contextlib.suppress(OSError):  # one of that name was left behind: this one keeps its own
                    os.rename(directory, wanted)
                    self.directories[controller] = wanted
        self._path = path
        self.update(resources)
        self._restrict_devices(resources.get("devices"))

    @property
    def unified_path(self) -> str:
        """Its path in the version 2 hierarchy; "" when it is not in one."""
        return self.directories.get("", "").removeprefix(self._hierarchies.unified)

    @classmethod
    def find(cls, hierarchies: Hierarchies, path: str) -> Cgroup:
        """The control group of that path as far as it exists (left by a runtime that died)."""
        places = {"": hierarchies.unified, **hierarchies.v1} if hierarchies.unified else dict(hierarchies.v1)
        found = {name: place + path for name, place in places.items() if os.path.isdir(place + path)}
        return cls(hierarchies, path, found)

    def join(self) -> None:
        """Move the calling process in."""
        for directory in self.directories.values():
            _write(directory + "/cgroup.procs", "0")

    def update(self, resources: Spec) -> None:
        """Set limits, also on a running container; controllers not joined yet are joined then."""
        wanted = limits.v2_settings(resources) if self._hierarchies.is_v2 else limits.v1_settings(resources)
        for controller, settings in wanted.items():
            directory = self.directories.get("" if self._hierarchies.is_v2 else controller)
            if directory is None:
                directory = self._join_late(controller)
                if directory is None:
                    continue
            again: list[limits.Setting] = []
            for setting in settings:
                try:
                    self._set(directory, *setting)
                except OSError as error:
                    if error.errno != errno.EINVAL or len(settings) == 1:
                        raise
                    again.append(setting)
            for setting in again:  # a limit may have to wait for another one: memory above memory with swap
                self._set(directory, *setting)

    def _needed(self, resources: Spec) -> list[str]:
        if self._hierarchies.is_v2:
            return [""]
        extra = [name for name in limits.v1_settings(resources) if name not in _ALWAYS]
        if not self._hierarchies.unified:
            extra += [name for name in ("freezer", "cpuacct") if name not in extra]
        names = [*_ALWAYS, *extra]
        return [
            *([""] if self._hierarchies.unified else []),
            *(name for name in names if name in self._hierarchies.v1),
        ]

    def _make(self, controller: str) -> str | None:
        mount_point = self._hierarchies.v1[controller] if controller else self._hierarchies.unified
        directory = mount_point + self._path
        if directory in self.directories.values():  # cpu and cpuacct mounted together
            return None
        try:
            try:
                os.mkdir(directory, 0o755)
            except FileNotFoundError:
                self._make_parents(mount_point, controller)
                os.mkdir(directory, 0o755)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return None
        if controller == "cpuset":
            _inherit_cpuset(directory)
        self.directories[controller] = directory
        return directory

    def _make_parents(self, mount_point: str, controller: str) -> None:
        here = mount_point
        for part in self._path.strip("/").split("/")[:-1]:
            if self._hierarchies.is_v2:
                limits.enable_controllers(here)
            here = f"{here}/{part}"
            try:
                os.mkdir(here, 0o755)
            except FileExistsError:
                pass
            if controller == "cpuset":
                _inherit_cpuset(here)
        if self._hierarchies.is_v2:
            limits.enable_controllers(here)

    def _join_late(self, controller: str) -> str | None:
        known = "" if self._hierarchies.is_v2 else controller
        present = known == "" or known in self._hierarchies.v1
        directory = self._make(known) if present else None
        if directory is None:
            self.warnings.append(f"the {controller} limit is not applied: this daemon cannot use that control group")
            return None
        for pid in self.pids():
            _write(directory + "/cgroup.procs", str(pid), missing_ok=True)
        return directory

    def _set(self, directory: str, name: str, value: str, optional: bool) -> None:
        try:
            _write(f"{directory}/{name}", value)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.ENOENT, errno.EOPNOTSUPP) or optional:
                self.warnings.append(f"{name} is not applied: {error.strerror}")
                return
            raise OSError(
                error.errno, f"failed to write {value!r} to {name}: {(error.strerror or '').lower()}"
            ) from error

    def _restrict_devices(self, rules: list[Spec] | None) -> None:
        wanted = limits.device_rules(rules or [])
        if rules is None or wanted == self._devices:
            return
        self._devices = wanted
        if not self._hierarchies.is_v2 and "devices" not in self._hierarchies.v1:
            self.warnings.append("the device rules are not applied: no devices control group is mounted")
        if self._hierarchies.is_v2:
            if "" in self.directories:
                from buildtool.runtime.devices_bpf import attach_device_rules

                try:
                    attach_device_rules(self.directories[""], wanted)
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                        raise
                    self.warnings.append(f"the device rules are not applied: {error.strerror}")
            return
        directory = self.directories.get("devices")
        if directory is not None:
            for allow, rule in wanted:
                _write(f"{directory}/devices.{'allow' if allow else 'deny'}", rule)

    def pids(self) -> list[int]:
        """The processes in it, by the pids of the caller's namespace."""
        for directory in self.directories.values():
            try:
                with open(directory + "/cgroup.procs", encoding="ascii") as table:
                    return [int(line) for line in table if line != "0\n"]
            except OSError:
                continue
        return []

    def kill(self, number: int) -> None:
        """Signal every process in it."""
        unified = self.directories.get("")
        if number == signal.SIGKILL and unified and os.path.exists(unified + "/cgroup.kill"):
            _write(unified + "/cgroup.kill", "1")
            return
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def freeze(self, frozen: bool) -> None:
        """Stop or continue every process in it. Raises OSError when no freezer can be used."""
        if "" in self.directories:
            _write(self.directories[""] + "/cgroup.freeze", "1" if frozen else "0")
        elif "freezer" in self.directories:
            _write(self.directories["freezer"] + "/freezer.state", "FROZEN" if frozen else "THAWED")
        else:
            raise OSError(errno.EOPNOTSUPP, "this daemon cannot use a freezer control group")

    def frozen(self) -> bool:
        """Whether the freeze has reached every process."""
        try:
            if "" in self.directories:
                with open(self.directories[""] + "/cgroup.events", encoding="ascii") as events:
                    return "frozen 1" in events.read()
            with open(self.directories["freezer"] + "/freezer.state", encoding="ascii") as state:
                return state.read().strip() == "FROZEN"
        except (OSError, KeyError):
            return False

    def oom_kills(self) -> int:
        """How many of its processes the kernel killed for memory."""
        if self._hierarchies.is_v2:
            name = self.directories.get("", "") + "/memory.events"
        else:
            name = self.directories.get("memory", "") + "/memory.oom_control"
        try:
            with open(name, encoding="ascii") as counters:
                for line in counters:
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        except OSError:
            return 0
        return 0

    def remove(self) -> bool:
        """Remove its directories (and those that were made below them); False when something still runs."""
        for name, directory in list(self.directories.items()):
            if not _remove(directory):
                return False
            del self.directories[name]
        return True


def _remove(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        try:
            with os.scandir(directory) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            for path in below:
                _remove(path)
            os.rmdir(directory)
        except FileNotFoundError:
            return True
        except OSError:
            return False
    return True


def _inherit_cpuset(directory: str) -> None:
    """A version 1 cpuset starts empty and takes no process until it has processors and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        with open(f"{directory}/{name}", "r+", encoding="ascii") as own:
            if not own.read().strip():
                with open(f"{os.path.dirname(directory)}/{name}", encoding="ascii") as parent:
                    own.write(parent.read())


def _write(path: str, value: str, *, missing_ok: bool = False) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except ProcessLookupError:
        if not missing_ok:
            raise
    finally:
        os.close(fd)
