"""RUN: a container whose writable layer is the snapshot to be."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from buildtool.buildfile.durations import shown_duration
from buildtool.cache import Draft, SnapshotId, Store, Tree
from buildtool.errors import BuildtoolError, CommandNotExecutable, CommandNotFound, StepFailed
from buildtool.graph import Exec, Node
from buildtool.networks import Sandbox
from buildtool.runtime import (
    Attachment,
    Bundle,
    ExitStatus,
    Rootfs,
    Runtime,
    SpecOptions,
    Task,
    container_spec,
    resolve_user,
)
from buildtool.solve.flights import Listener
from buildtool.solve.request import BuildRequest
from buildtool.solve.run_mounts import (
    HOSTNAME,
    CacheMounts,
    RunFiles,
    SharedFiles,
    clean_up_points,
    needs_scratch,
    script_target,
)
from buildtool.solve.run_network import RunNetworks, gateway, namespace
from buildtool.solve.threads import acquire, to_end

_FRAME = 8
_FIRST_MEASURE = 0.3
_IDLE = 0.01
_LAST_BYTES = 1 << 14
_LAST_LINES = 20


@dataclass
class RunContext:
    """What all RUN steps of a daemon share. `later` runs a blocking function in the background."""

    store: Store
    runtime: Runtime
    directory: Path
    cache_mounts: CacheMounts
    shared: SharedFiles
    later: Callable[[Callable[[], None]], None]
    networks: RunNetworks


@dataclass
class Usage:
    """How many processors a command kept busy on average; 0 when it was too short to be measured."""

    processors: float = 0.0

    async def watch(self, task: Task) -> None:
        """Measure until cancelled: after a third of a second, then at ever longer intervals (no more than 5 s)."""
        began, pause = time.monotonic(), _FIRST_MEASURE
        while True:
            await asyncio.sleep(pause)
            used = (await task.stats()).cpu_total / 1e9
            if used:
                self.processors = max(used / (time.monotonic() - began), _IDLE)
            pause = min(pause * 2, 5.0)


class Tail:
    """The last output of a command, for the error message."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Keep what was written last."""
        self._chunks.append(data)
        self._size += len(data)
        while self._size - len(self._chunks[0]) > _LAST_BYTES:
            self._size -= len(self._chunks.popleft())

    def text(self) -> str:
        """The last lines."""
        lines = b"".join(self._chunks).decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:])


async def execute_run(
    context: RunContext,
    request: BuildRequest,
    node: Node,
    chains: Sequence[Sequence[SnapshotId]],
    listener: Listener,
    usage: Usage | None = None,
) -> SnapshotId:
    """Run the command on the tree of `chains[0]` (the other chains are those of its mounts) and commit its layer.

    Raises StepFailed when it does not succeed. On every failure, and when cancelled, processes are killed and
    nothing stays.
    """
    step = node.step
    assert isinstance(step, Exec)
    async with AsyncExitStack() as stack:
        caches = {
            mount.target: await context.cache_mounts.acquire(mount, stack)
            for mount in step.mounts
            if mount.type == "cache"
        }
        sandbox = await context.networks.join(step.network, node, stack)
        room = await acquire(Room.open, Room.close, context, request, node, chains, caches, sandbox)
        try:
            tail = Tail()
            try:
                async with asyncio.timeout(step.execution.timeout / 1e9 or None):
                    status, created = await _run(context, room.bundle, node, listener, sandbox, usage, tail)
            except TimeoutError:
                raise _timed_out(node, tail) from None
            if status.code != 0:
                raise _failure(node, status, tail, request.memory)
            snapshot = await to_end(room.commit, created)
        except BaseException:
            await to_end(room.close)
            raise
        context.later(room.close)
        return snapshot


class Room:
    """What one execution needs on disk: the draft, the mounts' sources, the bundle. Blocking."""

    def __init__(self, draft: Draft, directory: Path) -> None:
        self.draft = draft
        self.directory = directory
        self.scratches: list[Draft] = []
        self.bundle: Bundle

    @classmethod
    def open(
        cls,
        context: RunContext,
        request: BuildRequest,
        node: Node,
        chains: Sequence[Sequence[SnapshotId]],
        caches: dict[str, Path],
        sandbox: Sandbox | None,
    ) -> Room:
        """Make everything; nothing stays when that fails."""
        name = f"build-{secrets.token_hex(8)}"
        room = cls(context.store.snapshots.prepare(chains[0]), context.directory / name)
        try:
            room.directory.mkdir(mode=0o700, parents=True)
            files = room._files(context, request, node, chains, caches, sandbox)
            room.bundle = _bundle(context, request, node, files, room.draft, chains[0], name, sandbox)
        except BaseException:
            room.close()
            raise
        return room

    def commit(self, created: Sequence[str]) -> SnapshotId:
        """Make the draft a snapshot. `created` are mount points that had to be made in it."""
        clean_up_points(self.draft.fs, created)
        return self.draft.commit()

    def close(self) -> None:
        """Remove what is left."""
        for draft in (self.draft, *self.scratches):
            draft.discard()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _files(
        self,
        context: RunContext,
        request: BuildRequest,
        node: Node,
        chains: Sequence[Sequence[SnapshotId]],
        caches: dict[str, Path],
        sandbox: Sandbox | None,
    ) -> RunFiles:
        step = node.step
        assert isinstance(step, Exec)
        store = context.store
        tree = Tree([store.snapshots.fs(snapshot) for snapshot in chains[0]], immutable=True)
        files = RunFiles(store, node, self.directory, context.shared, tree, request.secrets)
        resolv = context.networks.resolv_conf(step.network, sandbox)
        files.add_names(resolv, step.extra_hosts, gateway(sandbox))
        if step.script is not None:
            files.add_file(script_target(step), "script", step.script.content.encode(), mode=0o755)
        for number, mount in enumerate(step.mounts):
            if mount.type == "cache":
                files.bind(caches[mount.target], mount.target, readonly=mount.readonly)
            elif mount.type == "tmpfs":
                files.add_tmpfs(mount)
            elif mount.type == "secret":
                files.add_secret(mount, number)
            elif mount.type == "ssh":
                if mount.required:
                    raise StepFailed("RUN --mount=type=ssh: this daemon forwards no ssh agent", where=node.span)
            elif mount.input is not None:
                if needs_scratch(mount):
                    self.scratches.append(store.snapshots.prepare())
                scratch = self.scratches[-1] if needs_scratch(mount) else None
                files.add_tree(mount, chains[mount.input], scratch)
        return files


def _bundle(
    context: RunContext,
    request: BuildRequest,
    node: Node,
    files: RunFiles,
    draft: Draft,
    chain: Sequence[SnapshotId],
    name: str,
    sandbox: Sandbox | None,
) -> Bundle:
    step = node.step
    assert isinstance(step, Exec)
    store, tree = context.store, files.tree
    try:
        user = resolve_user(step.user, tree.read_text("/etc/passwd"), tree.read_text("/etc/group"))
    except BuildtoolError as error:
        raise StepFailed(error.message, where=node.span) from error
    network, sysctls = namespace(step.network, sandbox)
    args = [f"{variable}={value}" for variable, value in (*step.hidden_args, *step.build_args)]
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
    )
    if request.shm_size:
        options = replace(options, shm_size=request.shm_size)
    if request.cgroup_parent:
        options = replace(options, cgroup_parent=request.cgroup_parent)
    lower = [files.mount_points(), *(store.snapshots.fs(snapshot) for snapshot in chain)]
    rootfs = Rootfs(lower, upper=draft.fs, work=draft.work, volatile=True)
    return Bundle(name, files.directory / "bundle", container_spec(options), rootfs, detached=False)


def _resources(request: BuildRequest) -> dict[str, Any]:
    """The request's limits as OCI resources."""
    memory: dict[str, Any] = {}
    if request.memory:
        memory["limit"] = request.memory
    if request.memory_swap:
        memory["swap"] = request.memory_swap
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


async def _run(
    context: RunContext,
    bundle: Bundle,
    node: Node,
    listener: Listener,
    sandbox: Sandbox | None,
    usage: Usage | None,
    tail: Tail,
) -> tuple[ExitStatus, list[str]]:
    try:
        task = await context.runtime.create(bundle)
    except (CommandNotFound, CommandNotExecutable) as error:
        raise StepFailed(error.message, exit_code_of_step=error.exit_code, where=node.span) from error
    except BuildtoolError as error:
        raise StepFailed(error.message, where=node.span, hint=error.hint) from error
    try:
        await context.networks.plug(sandbox, task.pid, node)
        async with await task.attach(stdin=False, stdout=True, stderr=True) as attachment:
            try:
                await task.start()
            except (CommandNotFound, CommandNotExecutable) as error:
                raise StepFailed(error.message, exit_code_of_step=error.exit_code, where=node.span) from error
            watch = asyncio.create_task(usage.watch(task)) if usage is not None else None
            try:
                await _follow(attachment, tail, listener)
            finally:
                if watch is not None:
                    watch.cancel()
        return await task.wait(), task.created
    finally:
        await _end(task)


async def _end(task: Task) -> None:
    """Kill what still runs and wait until it is gone, whatever happens to us meanwhile."""
    ending = asyncio.create_task(_kill_and_delete(task))
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.wait([ending])
        raise


async def _kill_and_delete(task: Task) -> None:
    if task.exit is None:
        with contextlib.suppress(BuildtoolError):
            await task.signal(signal.SIGKILL, all=True)
    await task.delete()


async def _follow(attachment: Attachment, tail: Tail, listener: Listener) -> None:
    """Take the frames apart: a byte for the stream, three of padding, four of length, then the data."""
    buffer = bytearray()
    while data := await attachment.read():
        buffer += data
        while len(buffer) >= _FRAME:
            end = _FRAME + int.from_bytes(buffer[4:_FRAME])
            if len(buffer) < end:
                break
            stream = "stderr" if buffer[0] == 2 else "stdout"
            chunk = bytes(buffer[_FRAME:end])
            del buffer[:end]
            tail.add(chunk)
            listener(stream, chunk)


def _failure(node: Node, status: ExitStatus, tail: Tail, memory: int) -> StepFailed:
    """What to tell of a command that failed. Source: BuildKit's wording of the first line."""
    if status.oom_killed:
        limit = f" (limit {memory} bytes)" if memory else ""
        how = f"killed by the kernel: out of memory{limit}"
    elif status.signal is not None:
        try:
            how = f"killed by signal {status.signal} ({signal.Signals(status.signal).name})"
        except ValueError:
            how = f"killed by signal {status.signal}"
    else:
        how = f"exit code: {status.code}"
    return _not_completed(node, how, tail, exit_code_of_step=status.code, oom_killed=status.oom_killed)


def _timed_out(node: Node, tail: Tail) -> StepFailed:
    step = node.step
    assert isinstance(step, Exec)
    how = f"killed after {shown_duration(step.execution.timeout)} (--timeout)"
    return _not_completed(node, how, tail, exit_code_of_step=128 + signal.SIGKILL)


def _not_completed(node: Node, how: str, tail: Tail, **facts: Any) -> StepFailed:
    step = node.step
    assert isinstance(step, Exec)
    command, output = " ".join(step.args), tail.text()
    return StepFailed(
        f'process "{command}" did not complete successfully: {how}',
        where=node.span,
        hint=f"last output:\n{output}" if output else "it wrote nothing",
        **facts,
    )
