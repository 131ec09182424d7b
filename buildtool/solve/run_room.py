"""What one RUN step needs on disk, and the container that is made of it."""

from __future__ import annotations

import copy
import secrets
import shutil
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from buildtool.cache import Draft, SnapshotId, Store, Tree
from buildtool.cache.memory_files import in_memory, let_go
from buildtool.errors import BuildtoolError, StepFailed
from buildtool.graph import Exec, Node
from buildtool.runtime import Bundle, Rootfs, Runtime, SpecOptions, apparmor, container_spec, resolve_user
from buildtool.solve.cache_mounts import CacheMounts
from buildtool.solve.debugger import ShellOptions
from buildtool.solve.redaction import named_secrets
from buildtool.solve.request import BuildRequest
from buildtool.solve.run_agent import AgentSocket
from buildtool.solve.run_devices import add_devices, all_devices
from buildtool.solve.run_mounts import (
    HOSTNAME,
    RunFiles,
    SharedFiles,
    clean_up_points,
    needs_scratch,
    script_target,
)
from buildtool.solve.run_network import Connection, RunNetworks, gateway, namespace

_SHELLS = ("ash", "bash", "dash", "fish", "ksh", "sh", "zsh")


@dataclass
class RunContext:
    """What all RUN steps of a daemon share. `background` lets something go on that nobody waits for;
    `chroot` says that nothing else is possible here.
    """

    store: Store
    runtime: Runtime
    directory: Path
    cache_mounts: CacheMounts
    shared: SharedFiles
    background: Callable[[Coroutine[Any, Any, None]], None]
    networks: RunNetworks
    chroot: bool = False


class Room:
    """What one execution needs on disk: the draft, the mounts' sources, the bundle. Blocking."""

    def __init__(self, draft: Draft, directory: Path, connection: Connection | None) -> None:
        self.draft = draft
        self.connection = connection
        self.directory = directory
        self.scratches: list[Draft] = []
        self.agents: list[AgentSocket] = []
        self.hidden: list[bytes] = []
        self.secret = False
        self.bundle: Bundle
        self.tree: Tree

    @classmethod
    def open(
        cls,
        context: RunContext,
        request: BuildRequest,
        node: Node,
        chains: Sequence[Sequence[SnapshotId]],
        caches: dict[str, Path],
        connection: Connection | None,
    ) -> Room:
        """Make everything; nothing stays when that fails."""
        name = f"build-{secrets.token_hex(8)}"
        secret = _sees_secrets(node, request)
        parent = in_memory(context.directory) if secret else context.directory
        room = cls(context.store.snapshots.prepare(chains[0]), parent / name, connection)
        room.secret = secret
        room.hidden += named_secrets(node.step.build_args) if isinstance(node.step, Exec) else ()
        try:
            _make_directory(room.directory)
            room.tree = Tree([context.store.snapshots.fs(snapshot) for snapshot in chains[0]], immutable=True)
            files = room._files(context, request, node, chains, caches)
            room.bundle = _bundle(context, request, node, files, room.draft, chains[0], name, connection)
        except BaseException:
            room.close()
            raise
        return room

    def shell(self, options: ShellOptions) -> Bundle:
        """A container with a shell in the tree as it is now, in place of the command's, which has ended."""
        shutil.rmtree(self.bundle.directory, ignore_errors=True)
        if (self.draft.work / "work" / "incompat").is_dir():
            shutil.rmtree(self.draft.work / "work")
        spec = copy.deepcopy(self.bundle.spec)
        process = spec["process"]
        process["args"] = [_shell(process["args"], self.tree)]
        process["env"] += [f"TERM={options.term}"] if options.term else []
        process["terminal"] = options.tty
        if options.tty and options.rows and options.columns:
            process["consoleSize"] = {"height": options.rows, "width": options.columns}
        return replace(self.bundle, spec=spec, tty=options.tty, stdin=True, stdin_once=True)

    def commit(self, created: Sequence[str]) -> SnapshotId:
        """Make the draft a snapshot. `created` are mount points that had to be made in it."""
        clean_up_points(self.draft.fs, created)
        return self.draft.commit()

    def close(self) -> None:
        """Remove what is left."""
        for agent in self.agents:
            agent.close()
        for draft in (self.draft, *self.scratches):
            draft.discard()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.secret:
            let_go(self.directory.parent)

    def _files(
        self,
        context: RunContext,
        request: BuildRequest,
        node: Node,
        chains: Sequence[Sequence[SnapshotId]],
        caches: dict[str, Path],
    ) -> RunFiles:
        step = node.step
        assert isinstance(step, Exec)
        store = context.store
        files = RunFiles(store, node, self.directory, context.shared, self.tree, request.secrets)
        resolv = context.networks.resolv_conf(step.network, self.connection)
        files.add_names(resolv, step.extra_hosts, gateway(self.connection))
        if step.script is not None:
            files.add_file(script_target(step), "script", step.script.content.encode(), mode=0o755)
        for number, mount in enumerate(step.mounts):
            if mount.type == "cache":
                files.bind(caches[mount.target], mount.target, readonly=mount.readonly, is_directory=True)
            elif mount.type == "tmpfs":
                files.add_tmpfs(mount)
            elif mount.type == "secret":
                self.hidden += files.add_secret(mount, number)
            elif mount.type == "ssh":
                agent = files.add_agent(mount, request.agents)
                self.agents += [agent] if agent is not None else []
            elif mount.input is not None:
                if needs_scratch(mount):
                    self.scratches.append(store.snapshots.prepare())
                scratch = self.scratches[-1] if needs_scratch(mount) else None
                files.add_tree(mount, chains[mount.input], scratch)
        add_devices(files, step)
        return files


def _shell(args: Sequence[str], tree: Tree) -> str:
    """The shell that runs the step's command, else the best that there is."""
    own = [args[0]] if args and args[0].rpartition("/")[2] in _SHELLS else []
    return next((path for path in (*own, "/bin/bash", "/bin/sh") if tree.exists(path)), "/bin/sh")


def _make_directory(path: Path) -> None:
    """A parent in memory may go the moment it is empty: then it is made again."""
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700)


def _sees_secrets(node: Node, request: BuildRequest) -> bool:
    """Whether something of the step's must not be written to a disk."""
    step = node.step
    assert isinstance(step, Exec)
    return any(mount.type == "secret" and mount.id in request.secrets for mount in step.mounts)


def _bundle(
    context: RunContext,
    request: BuildRequest,
    node: Node,
    files: RunFiles,
    draft: Draft,
    chain: Sequence[SnapshotId],
    name: str,
    connection: Connection | None,
) -> Bundle:
    step = node.step
    assert isinstance(step, Exec)
    store, tree = context.store, files.tree
    try:
        passwd, group = tree.read_text("/etc/passwd"), tree.read_text("/etc/group")
        user = resolve_user(step.user, passwd, group, [str(gid) for gid in files.groups])
    except BuildtoolError as error:
        raise StepFailed(error.message, where=node.span) from error
    network, sysctls = namespace(step.network, connection)
    args = [f"{variable}={value}" for variable, value in (*step.hidden_args, *step.build_args)]
    insecure = step.security == "insecure"
    options = SpecOptions(
        id=name,
        args=step.args,
        env=[*step.env, *args, *files.env],
        cwd=step.cwd,
        user=user,
        hostname=step.hostname or HOSTNAME,
        network=network,
        sysctls=sysctls,
        mounts=files.mounts,
        resources=_resources(request),
        ulimits=[_rlimit(limit) for limit in request.ulimits],
        privileged=insecure,
        seccomp="unconfined" if insecure else "default",
        devices=all_devices() if insecure else files.devices,
    )
    if request.shm_size:
        options = replace(options, shm_size=request.shm_size)
    if request.cgroup_parent:
        options = replace(options, cgroup_parent=request.cgroup_parent)
    lower = [files.mount_points(), *(store.snapshots.fs(snapshot) for snapshot in chain)]
    rootfs = Rootfs(lower, upper=draft.fs, work=draft.work, volatile=True)
    spec = container_spec(options)
    spec["process"] |= apparmor.KERNEL.process("", privileged=insecure)
    return Bundle(name, files.directory / "bundle", spec, rootfs, detached=False)


def _resources(request: BuildRequest) -> dict[str, Any]:
    """The request's limits as OCI resources."""
    memory: dict[str, Any] = {}
    if request.memory:
        memory["limit"] = request.memory
    if request.memory_swap:
        memory["swap"] = request.memory_swap
    elif request.memory:
        memory["swap"] = 2 * request.memory  # as Docker
    cpu: dict[str, Any] = {
        "shares": request.cpu_shares,
        "period": request.cpu_period,
        "quota": request.cpu_quota,
        "cpus": request.cpuset_cpus,
        "mems": request.cpuset_mems,
    }
    cpu = {key: value for key, value in cpu.items() if value}
    return {key: value for key, value in (("memory", memory), ("cpu", cpu)) if value}


def _rlimit(limit: dict[str, Any]) -> dict[str, Any]:
    name = str(limit.get("Name", "")).upper()
    return {"type": f"RLIMIT_{name}", "soft": int(limit.get("Soft", 0)), "hard": int(limit.get("Hard", 0))}
