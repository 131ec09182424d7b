"""A running container and its further processes, as the daemon holds them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal as signals
import socket
from pathlib import Path
from typing import Any

from buildtool.aio import offload
from buildtool.errors import NotFound
from buildtool.runtime.bundle import ExitStatus
from buildtool.runtime.control import Connection, error_of, open_shim_socket
from buildtool.runtime.stats import Stats, read_pids, read_stats

Message = dict[str, Any]


def exit_status(record: Message) -> ExitStatus:
    """From exit.json's or an event's form."""
    return ExitStatus(
        record["code"], record.get("signal"), bool(record.get("oom_killed")), record.get("exited_at", 0.0)
    )


class Attachment:
    """Standard streams of one process: Docker-multiplexed frames without a terminal, raw bytes with one.

    Output flows with back-pressure: what is not read waits, and stops the process once a mebibyte does. Always
    `close`.
    """

    def __init__(self, connection: socket.socket, early: bytes = b"") -> None:
        self._connection = connection
        self._early = early
        self._loop = asyncio.get_running_loop()

    async def read(self, size: int = 262144) -> bytes:
        """The next bytes of output; b"" once there is no more."""
        if self._early:
            data, self._early = self._early, b""
            return data
        try:
            return await self._loop.sock_recv(self._connection, size)
        except (ConnectionError, OSError):
            return b""

    async def write(self, data: bytes) -> None:
        """Pass bytes to the process's standard input; BrokenPipeError when the process is over."""
        await self._loop.sock_sendall(self._connection, data)

    def close_stdin(self) -> None:
        """End of input: closes the process's stdin when it was made with `stdin_once` (always for an exec)."""
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:  # the process is over
            return

    def close(self) -> None:
        """Detach; the process goes on."""
        descriptor = self._connection.fileno()
        if descriptor >= 0:
            # A read that still waits must let go first: its clean-up would hit whoever gets this number next.
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
        self._connection.close()

    async def __aenter__(self) -> Attachment:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()


class _Process:
    """What a container's main process and its execs have in common."""

    def __init__(self, name: str, pid: int, directory: Path, connection: Connection, *, tty: bool) -> None:
        self.pid = pid
        self.tty = tty
        self._name = name
        self._directory = directory
        self._connection = connection
        self._exit: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Execute the program. Raises CommandNotExecutable or CommandNotFound when the kernel refuses it."""
        await self._connection.call("start", process=self._name)

    async def wait(self) -> ExitStatus:
        """How it ended, once it has: its output is complete in the log and on its way to those attached."""
        return await asyncio.shield(self._exit)

    @property
    def exit(self) -> ExitStatus | None:
        """How it ended, or None while it has not."""
        return self._exit.result() if self._exit.done() and not self._exit.cancelled() else None

    async def signal(self, number: int, all: bool = False) -> None:
        """Send a signal to it (`all`: to every process of the container); NotFound when it has ended."""
        await self._connection.call("signal", process=self._name, signal=int(number), all=all)

    async def resize(self, height: int, width: int) -> None:
        """Set the terminal's size in characters; Conflict when it has none."""
        await self._connection.call("resize", process=self._name, height=height, width=width)

    async def close_stdin(self) -> None:
        """End of input, whoever is attached."""
        await self._connection.call("close_stdin", process=self._name)

    async def attach(self, *, stdin: bool = False, stdout: bool = True, stderr: bool = True) -> Attachment:
        """Join its streams from now on; before `start` nothing of the output is lost. NotFound when it has ended."""
        connection = open_shim_socket(self._directory)
        if connection is None:
            raise NotFound("the container has ended")
        try:
            request = {
                "id": 0,
                "op": "attach",
                "process": self._name,
                "stdin": stdin,
                "stdout": stdout,
                "stderr": stderr,
            }
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection, json.dumps(request).encode() + b"\n")
            data = b""
            while b"\n" not in data:
                chunk = await loop.sock_recv(connection, 65536)
                if not chunk:
                    raise NotFound("the container has ended")
                data += chunk
            line, _, early = data.partition(b"\n")
            answer = json.loads(line)
            if "error" in answer:
                raise error_of(answer["error"])
        except OSError as error:
            connection.close()
            raise NotFound("the container has ended") from error
        except BaseException:
            connection.close()
            raise
        return Attachment(connection, early)

    def _ended(self, status: ExitStatus) -> None:
        if not self._exit.done():
            self._exit.set_result(status)


class ExecTask(_Process):
    """A further process in a container."""

    def __init__(self, name: str, pid: int, directory: Path, connection: Connection, *, tty: bool) -> None:
        super().__init__(name, pid, directory, connection, tty=tty)
        self.id = name


class Task(_Process):
    """One container, from created to gone."""

    def __init__(
        self, id: str, directory: Path, connection: Connection, state: Message, stream: Attachment | None = None
    ) -> None:
        super().__init__("", state["pid"], directory, connection, tty=bool(state.get("tty")))
        self.id = id
        self.stream = stream
        """What `Runtime.create` attached: all of the output. Closed by whoever asked for it, and by `delete`."""
        self.started = bool(state["started"])
        self.paused = bool(state["paused"])
        self.warnings: list[str] = list(state.get("warnings") or [])
        self.created: list[str] = list(state.get("created") or [])
        """Mount points that did not exist in the root and were made (absolute paths in the container)."""
        self._cgroups: dict[str, str] = state["cgroups"]
        self._unified = bool(state["unified"])
        self._execs: dict[str, ExecTask] = {}
        connection.on_event = self._on_event
        connection.ended.add_done_callback(lambda _: self._gone())
        if state.get("exit"):
            self._ended(exit_status(state["exit"]))

    async def start(self) -> None:
        await super().start()
        self.started = True

    async def pause(self) -> None:
        """Freeze every process; returns when all stand still."""
        await self._connection.call("freeze", frozen=True)
        self.paused = True

    async def resume(self) -> None:
        """Let a paused container go on."""
        await self._connection.call("freeze", frozen=False)
        self.paused = False

    async def update(self, resources: dict[str, Any]) -> list[str]:
        """Set other limits (OCI `linux.resources`) on the running container; warns of what was not applied."""
        answer = await self._connection.call("update", resources=resources)
        self._cgroups = answer["cgroups"]
        return list(answer["warnings"])

    async def stats(self) -> Stats:
        """Usage as the control groups count it."""
        return await offload(read_stats, self._cgroups, unified=self._unified, pid=self.pid)

    async def pids(self) -> list[int]:
        """The pids of its processes on the host."""
        return await offload(read_pids, self._cgroups, self.pid)

    async def exec(self, process: dict[str, Any], *, tty: bool, stdin: bool, id: str) -> ExecTask:
        """Make a further process (an OCI `process`) that waits for `start`. Errors are Runtime.create's."""
        answer = await self._connection.call("exec", process=id, spec={**process, "terminal": tty}, stdin=stdin)
        task = ExecTask(id, answer["pid"], self._directory, self._connection, tty=tty)
        self._execs[id] = task
        return task

    async def delete(self) -> None:
        """Kill what still runs and wait until nothing is left of it but the bundle's directory.

        Attached clients that have not read everything yet still get the rest.
        """
        if self.stream is not None:
            self.stream.close()
        if not self._exit.done():
            with contextlib.suppress(NotFound):
                await self.signal(signals.SIGKILL)
        await self.wait()
        with contextlib.suppress(NotFound):
            answer = await self._connection.call("end")
            if not answer["lingering"]:
                await asyncio.shield(self._connection.ended)
        self._connection.close()
        with contextlib.suppress(OSError):
            await offload((self._directory / "rootfs").rmdir)

    def release(self) -> None:
        """Let go of a container that goes on (the daemon ends)."""
        self._connection.close()

    def _on_event(self, event: Message) -> None:
        if event["event"] != "exit":
            return
        status = exit_status(event)
        if event["process"] == "":
            self._ended(status)
            return
        task = self._execs.pop(event["process"], None)
        if task is not None:
            task._ended(status)

    def _gone(self) -> None:
        """The shim has ended, or died without a word: nobody waits for ever."""
        if not self._exit.done():
            try:
                record = json.loads((self._directory / "exit.json").read_bytes())
            except (OSError, ValueError):
                record = {"code": 255}
            self._ended(exit_status(record))
        for task in self._execs.values():
            task._ended(ExitStatus(137, signals.SIGKILL))
        self._execs.clear()
