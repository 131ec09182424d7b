"""What a RUN step sees besides its root: name files, scripts, and `--mount`.

Mount points live in a directory tree of their own at the very bottom of the step's overlay: what the image has itself
covers them, what it lacks is there without a trace in the step's layer.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildtool.cache import Draft, SnapshotId, Store, Tree
from buildtool.cache.overlay import in_user_namespace
from buildtool.errors import NotFound, StepFailed
from buildtool.graph import Exec, Node, StepMount
from buildtool.oci import sha256
from buildtool.solve.run_agent import AgentSocket, Dial

HOSTNAME = "buildkitsandbox"
AGENTS = "/run/buildkit/ssh_agent."
_LOCAL_HOSTS = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)
_ALWAYS = ("/proc", "/sys", "/dev")
_MOST_LOWER = 3500
"""Bytes of a lowerdir option that surely fit a mount's option page."""

OciMount = dict[str, Any]


@dataclass
class SharedFiles:
    """What all RUN steps see alike and cannot write to: name files, and the usual mount points. Made once."""

    directory: Path

    def file(self, content: bytes) -> Path:
        """A file with this content."""
        path = self.directory / sha256(content)[7:39]
        if not path.exists():
            self._make(path, lambda temporary: _write_file(temporary, content, 0o644))
        return path

    def points(self, targets: Sequence[tuple[str, bool]]) -> Path:
        """A tree with these mount points: (path, whether it is a directory)."""
        name = "\n".join(f"{path}{'/' if is_directory else ''}" for path, is_directory in targets)
        path = self.directory / f"points-{sha256(name.encode())[7:39]}"
        if not path.exists():
            self._make(path, lambda temporary: _make_points(temporary, targets))
        return path

    def _make(self, path: Path, make: Callable[[Path], None]) -> None:
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{threading.get_ident()}")
        make(temporary)
        try:
            if temporary.is_dir():
                temporary.rename(path)
            else:  # not replaced: another step may be mounting what is there, and nothing that is gone can be mounted
                path.hardlink_to(temporary)
                temporary.unlink()
        except OSError:  # another step was faster
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()


def _write_file(path: Path, content: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    path.chmod(mode)


def _make_points(root: Path, targets: Sequence[tuple[str, bool]]) -> None:
    root.mkdir()
    root.chmod(0o755)
    for target, is_directory in targets:
        path = Path(f"{root}{target}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_directory:
                path.mkdir(exist_ok=True)
            else:
                path.touch(mode=0o644)
        except (FileExistsError, NotADirectoryError):
            continue  # two mounts disagree: mounting tells


@dataclass
class RunFiles:
    """The mounts of one step in the making. `directory` is the step's own, removed after it."""

    store: Store
    node: Node
    directory: Path
    shared: SharedFiles
    tree: Tree
    secrets: dict[str, bytes]
    mounts: list[OciMount] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    targets: list[tuple[str, bool]] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)

    def add_names(self, resolv: str, hosts: Sequence[str], gateway: str) -> None:
        """/etc/resolv.conf, /etc/hosts and /etc/hostname; `gateway` is the host's address as the step sees it."""
        lines = [_LOCAL_HOSTS]
        for host in hosts:
            name, _, address = host.partition("=" if "=" in host.partition(":")[0] else ":")
            lines.append(f"{gateway if address == 'host-gateway' else address.strip('[]')}\t{name}\n")
        step = self.node.step
        hostname = (step.hostname if isinstance(step, Exec) else "") or HOSTNAME
        files = {"resolv.conf": resolv, "hosts": "".join(lines), "hostname": f"{hostname}\n"}
        for name, text in files.items():
            self.bind(self.shared.file(text.encode()), f"/etc/{name}", readonly=True)

    def add_file(self, target: str, name: str, content: bytes, *, mode: int = 0o644, readonly: bool = True) -> None:
        """A file of the step's own, bound at `target`."""
        path = self.directory / name
        _write_file(path, content, mode)
        self.bind(path, target, readonly=readonly)

    def bind(self, source: Path, target: str, *, readonly: bool, is_directory: bool | None = None) -> None:
        """A bind mount of a file or directory of the host."""
        options = ["rbind", "ro" if readonly else "rw"]
        self.mounts.append({"destination": target, "type": "bind", "source": str(source), "options": options})
        self.targets.append((target, source.is_dir() if is_directory is None else is_directory))

    def add_tmpfs(self, mount: StepMount) -> None:
        """An empty file system in memory."""
        options = ["nosuid", "nodev", "mode=1777", *([f"size={mount.size}"] if mount.size else [])]
        self.mounts.append({"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options})
        self.targets.append((mount.target, True))

    def add_secret(self, mount: StepMount, number: int) -> list[bytes]:
        """A secret as a file or variable; its value, when it was given. Raises NotFound when it is required and was
        not."""
        value = self.secrets.get(mount.id)
        if value is None:
            if mount.required:
                hint = f"give it with --secret id={mount.id}"
                raise NotFound(f"secret {mount.id}: not found", where=self.node.span, hint=hint)
            return []
        if mount.env:
            self.env.append(f"{mount.env}={value.decode(errors='surrogateescape')}")
        if mount.target:
            mode = 0o400 if mount.mode is None else mount.mode
            self.add_file(mount.target, f"secret.{number}", value, mode=mode)
            if os.geteuid() == 0 and (mount.uid or mount.gid):
                os.chown(self.directory / f"secret.{number}", mount.uid or 0, mount.gid or 0)
        return [value]

    def add_agent(self, mount: StepMount, agents: Mapping[str, Dial]) -> AgentSocket | None:
        """The socket of an ssh agent. Raises NotFound when it is required and none was given."""
        dial = agents.get(mount.id)
        if dial is None:
            if mount.required:
                hint = f"give it with --ssh {mount.id}, or --ssh {mount.id}=SOCKET"
                raise NotFound(f"ssh agent {mount.id}: not found", where=self.node.span, hint=hint)
            return None
        number = len([target for target, _ in self.targets if target.startswith(AGENTS)])
        agent = AgentSocket(self.directory / f"ssh.{number}", dial)
        target = mount.target or f"{AGENTS}{number}"
        agent.path.chmod(0o600 if mount.mode is None else mount.mode)
        if os.geteuid() == 0 and (mount.uid or mount.gid):
            os.chown(agent.path, mount.uid or 0, mount.gid or 0)
        self.bind(agent.path, target, readonly=False)
        if not any(each.startswith("SSH_AUTH_SOCK=") for each in self.env):
            self.env.append(f"SSH_AUTH_SOCK={target}")
        return agent

    def add_tree(self, mount: StepMount, chain: Sequence[SnapshotId], scratch: Draft | None) -> None:
        """A directory or file of another tree. With `scratch` it can be written to; nothing of that is kept."""
        tree = Tree([self.store.snapshots.fs(snapshot) for snapshot in chain])
        path = "/" if mount.source == "." else "/" + mount.source
        try:
            directories = tree.directories(path)
        except NotADirectoryError:
            self.bind(tree.real(tree.resolve(path)), mount.target, readonly=mount.readonly or scratch is None)
            return
        except FileNotFoundError:
            raise NotFound(f"RUN --mount: no such file or directory: {path}", where=self.node.span) from None
        if scratch is None and len(directories) == 1:
            self.bind(Path(directories[0]), mount.target, readonly=True)
            return
        lower = ":".join(directories)
        if len(lower) > _MOST_LOWER:
            raise StepFailed(
                f"RUN --mount of {path}: it has too many layers ({len(directories)}) to be mounted",
                where=self.node.span,
                hint="COPY what is needed into a stage of its own and mount that",
            )
        options = [f"lowerdir={lower}", "redirect_dir=off", "metacopy=off", "index=off"]
        if scratch is not None:
            options += [f"upperdir={scratch.fs}", f"workdir={scratch.work}"]
        if in_user_namespace():
            options.append("userxattr")
        self.mounts.append({"destination": mount.target, "type": "overlay", "source": "overlay", "options": options})
        self.targets.append((mount.target, True))

    def mount_points(self) -> Path:
        """The bottom of the step's overlay: a directory for each mount point, a file for each file's."""
        points: dict[str, bool] = {}
        for target, is_directory in (*((path, True) for path in _ALWAYS), *self.targets):
            try:
                resolved = self.tree.resolve(target)
            except OSError:
                continue  # something in the way: mounting tells
            if resolved != "/" and not resolved.startswith(("/dev/", "/proc/", "/sys/")):
                points[resolved] = is_directory
        return self.shared.points(sorted(points.items()))


def needs_scratch(mount: StepMount) -> bool:
    """Whether a bind mount is writable: what is written is discarded."""
    return mount.type == "bind" and not mount.readonly


def clean_up_points(upper: Path, created: Sequence[str]) -> None:
    """Remove mount points that had to be made in the layer itself (an image layer had deleted them before)."""
    for target in sorted(created, key=len, reverse=True):
        path = Path(f"{upper}{posixpath.normpath(target)}")
        try:
            if path.is_symlink():
                continue
            if path.is_dir():
                path.rmdir()
            elif path.is_file() and path.stat().st_size == 0:
                path.unlink()
        except OSError:
            continue  # something was put there


def script_target(step: Exec) -> str:
    """Where a heredoc that is a script of its own stands."""
    return f"/dev/pipes/{step.script.name}" if step.script is not None else ""
