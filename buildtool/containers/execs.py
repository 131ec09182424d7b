"""Further processes in a running container: created, started once, inspected until they are forgotten."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from buildtool.containers import names
from buildtool.containers.attach import Attachment
from buildtool.containers.body import security
from buildtool.containers.container import Container
from buildtool.containers.detach import parse_detach_keys
from buildtool.containers.lifecycle import Lifecycle
from buildtool.containers.limits import rlimits
from buildtool.containers.model import decode
from buildtool.containers.preparation import Preparer, confinement, environment, merge_environment
from buildtool.containers.registry import Registry
from buildtool.errors import BuildtoolError, Conflict, InvalidInput, NotFound
from buildtool.runtime.spec import capability_set, process_spec

if TYPE_CHECKING:
    from buildtool.runtime import ExecTask

KEPT_ENDED = 300.0


class ExecRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of POST /containers/{id}/exec."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    console_size: list[int] | None = None
    detach_keys: str = ""
    tty: bool = False
    env: list[str] = msgspec.field(default_factory=list)
    cmd: list[str] = msgspec.field(default_factory=list)
    privileged: bool = False
    user: str = ""
    working_dir: str = ""


class StartRequest(msgspec.Struct, rename="pascal", kw_only=True):
    """The body of POST /exec/{id}/start."""

    detach: bool = False
    tty: bool | None = None
    console_size: list[int] | None = None


@dataclass(eq=False)
class Exec:
    """One exec. `task` exists while it runs; `exit_code` from its end on."""

    id: str
    container: Container
    request: ExecRequest
    task: ExecTask | None = None
    pid: int = 0
    started: bool = False
    running: bool = False
    exit_code: int | None = None
    created: float = field(default_factory=time.monotonic)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def inspect(self) -> dict[str, Any]:
        """The answer to GET /exec/{id}/json."""
        request = self.request
        process: dict[str, Any] = {
            "tty": request.tty,
            "entrypoint": request.cmd[0],
            "arguments": request.cmd[1:],
            "privileged": request.privileged,
        }
        if request.user:
            process["user"] = request.user
        return {
            "ID": self.id,
            "Running": self.running,
            "ExitCode": self.exit_code,
            "ProcessConfig": process,
            "OpenStdin": request.attach_stdin,
            "OpenStderr": request.attach_stderr,
            "OpenStdout": request.attach_stdout,
            "CanRemove": False,
            "ContainerID": self.container.id,
            "DetachKeys": "",
            "Pid": self.pid,
        }


class Execs:
    """All execs by id. Those that ended are forgotten after five minutes, or with their container."""

    def __init__(self, registry: Registry, lifecycle: Lifecycle, preparer: Preparer) -> None:
        self._registry, self._lifecycle, self._preparer = registry, lifecycle, preparer
        self._by_id: dict[str, Exec] = {}
        self._watchers: set[asyncio.Task[None]] = set()

    def create(self, container: Container, body: Any) -> str:
        """Note what is to run. Raises InvalidInput, Conflict (not running, paused, restarting)."""
        request = decode(body if body is not None else {}, ExecRequest, "exec request")
        if not request.cmd:
            raise InvalidInput("No exec command specified")
        parse_detach_keys(request.detach_keys)
        if request.working_dir and not request.working_dir.startswith("/"):
            raise InvalidInput(
                f"the working directory '{request.working_dir}' is invalid, it needs to be an absolute path"
            )
        for entry in request.env:
            if not entry or entry.startswith("=") or "\0" in entry:
                raise InvalidInput(f"invalid environment variable: {entry}")
        self._check_container(container)
        self._forget_abandoned()
        exec = Exec(names.new_id(), container, request)
        self._by_id[exec.id] = exec
        container.execs[exec.id] = exec
        self._lifecycle.publish(container, f"exec_create: {' '.join(request.cmd)}", execID=exec.id)
        return exec.id

    def _forget_abandoned(self) -> None:
        """Those that were never started, and those of containers that are gone."""
        limit = time.monotonic() - KEPT_ENDED
        for exec in list(self._by_id.values()):
            if exec.container.removed or (not exec.started and exec.created < limit):
                del self._by_id[exec.id]
                exec.container.execs.pop(exec.id, None)

    def get(self, identity: str) -> Exec:
        """Raises NotFound."""
        found = self._by_id.get(identity)
        if found is None or found.container.removed:
            self._by_id.pop(identity, None)
            raise NotFound(f"No such exec instance: {identity}")
        return found

    def check(self, identity: str, body: Any) -> tuple[Exec, StartRequest]:
        """What is to be started. Raises NotFound, InvalidInput, Conflict when it cannot be started now."""
        exec = self.get(identity)
        request = decode(body if body is not None else {}, StartRequest, "exec start request")
        if exec.started:
            text = "is already running" if exec.running else "has already run"
            raise Conflict(f"Error: Exec command {exec.id} {text}")
        self._check_container(exec.container)
        return exec, request

    async def start(self, identity: str, body: Any) -> Attachment | None:
        """Start it; the streams, or None when detached. Raises NotFound, Conflict, CommandNotFound…"""
        exec, request = self.check(identity, body)
        exec.started = True
        try:
            return await self._start(exec, request)
        except NotFound:
            exec.exit_code = 137
            self._ended(exec)
            raise Conflict(f"container {exec.container.id} is not running") from None
        except BuildtoolError as error:
            exec.exit_code = error.exit_code if error.exit_code > 1 else 126
            self._ended(exec)
            raise

    async def _start(self, exec: Exec, request: StartRequest) -> Attachment | None:
        container, asked = exec.container, exec.request
        task = container.task
        if task is None:
            raise Conflict(f"container {container.id} is not running")
        process = await self._process(exec, request)
        exec.task = await task.exec(process, tty=asked.tty, stdin=asked.attach_stdin, id=exec.id)
        attachment = None
        if not request.detach:
            attachment = Attachment(
                stdin=asked.attach_stdin,
                stdout=asked.attach_stdout,
                stderr=asked.attach_stderr,
                tty=asked.tty,
                detach_keys=parse_detach_keys(asked.detach_keys),
            )
            attachment.bind(
                await exec.task.attach(
                    stdin=asked.attach_stdin, stdout=asked.attach_stdout, stderr=asked.attach_stderr
                )
            )
        await exec.task.start()
        exec.running, exec.pid = True, exec.task.pid
        self._lifecycle.publish(container, f"exec_start: {' '.join(asked.cmd)}", execID=exec.id)
        watcher = asyncio.get_running_loop().create_task(self._watch(exec, exec.task))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return attachment

    async def _watch(self, exec: Exec, task: ExecTask) -> None:
        try:
            status = await task.wait()
            exec.exit_code = status.code
        except BuildtoolError:
            exec.exit_code = 137  # the container, and its shim, ended first
        self._ended(exec)
        self._lifecycle.publish(exec.container, "exec_die", execID=exec.id, exitCode=str(exec.exit_code))

    def _ended(self, exec: Exec) -> None:
        exec.running, exec.task = False, None
        exec.ended.set()
        exec.container.execs.pop(exec.id, None)
        asyncio.get_running_loop().call_later(KEPT_ENDED, self._by_id.pop, exec.id, None)

    async def resize(self, identity: str, height: int, width: int) -> None:
        """Set its terminal's size. Raises NotFound, Conflict."""
        exec = self.get(identity)
        if exec.task is None or not exec.running:
            raise Conflict(f"exec {identity} is not running")
        await exec.task.resize(height, width)

    async def _process(self, exec: Exec, start: StartRequest) -> dict[str, Any]:
        """The OCI process: the container's, with what the request changes."""
        container, request = exec.container, exec.request
        return await process(
            self._preparer,
            container,
            request.cmd,
            env=request.env,
            cwd=request.working_dir,
            user=request.user,
            tty=request.tty,
            privileged=request.privileged,
            console_size=start.console_size or request.console_size,
        )

    @staticmethod
    def _check_container(container: Container) -> None:
        if container.state.restarting:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        if not container.state.running:
            raise Conflict(f"container {container.id} is not running")
        if container.state.paused:
            raise Conflict(f"container {container.id} is paused, unpause the container before exec")

    async def close(self) -> None:
        """Stop watching; the processes go on."""
        for watcher in list(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)


async def process(
    preparer: Preparer,
    container: Container,
    args: list[str],
    *,
    env: list[str] | None = None,
    cwd: str = "",
    user: str = "",
    tty: bool = False,
    privileged: bool = False,
    console_size: list[int] | None = None,
) -> dict[str, Any]:
    """The OCI process of a further command: what the container's own has, but for what is given."""
    resolved = await preparer.user_of(container, user or container.config.user)
    host = container.host
    values = dict(entry.partition("=")[::2] for entry in environment(container.record))
    if tty:
        values.setdefault("TERM", "xterm")
    sized = tty and console_size is not None and len(console_size) == 2
    made = process_spec(
        args=args,
        env=merge_environment(values, env or [], resolved.home),
        cwd=cwd or container.config.working_dir or "/",
        user=resolved,
        capabilities=capability_set(
            host.cap_add or (), host.cap_drop or (), privileged=privileged or host.privileged
        ),
        no_new_privileges=security(host.security_opt).no_new_privileges,
        ulimits=rlimits(host),
        console_size=(console_size[0], console_size[1]) if sized and console_size else None,
        oom_score_adj=host.oom_score_adj or None,
    )
    return made | confinement(host)
