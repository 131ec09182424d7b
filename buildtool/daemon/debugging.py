"""Builds that stop, and the shells that their client opens there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from buildtool.daemon import attach
from buildtool.errors import BuildtoolError, NotFound, Span

if TYPE_CHECKING:
    from buildtool.daemon.hijack import RawConnection
    from buildtool.runtime import Attachment, Task
    from buildtool.solve.debugger import OpenShell, ShellOptions
    from buildtool.solve.events import Event


class BuildAborted(BuildtoolError):
    """Whoever debugs the build ended it."""


class _Visit:
    """One stop. Its shells end with it."""

    def __init__(self, open_shell: OpenShell) -> None:
        self.open_shell = open_shell
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.shells: set[asyncio.Task[None]] = set()
        self.running: Task | None = None


class DebugDesk:
    """The stops of one build (a `Debugger` of buildtool.solve). `tell` gets its events."""

    def __init__(self) -> None:
        self.tell: Callable[[Event], None] = lambda event: None
        self._visits: dict[int, _Visit] = {}
        self._last = 0

    async def visit(
        self, name: str, span: Span | None, reason: Literal["failed", "before"], open_shell: OpenShell
    ) -> None:
        """Tell the client, and wait until it leaves. Raises BuildAborted when it wants no more."""
        from buildtool.solve.events import DebugShell

        self._last += 1
        number, visit = self._last, _Visit(open_shell)
        self._visits[number] = visit
        try:
            self.tell(DebugShell(number, name, span, reason))
            await visit.left
        finally:
            del self._visits[number]
            for shell in visit.shells:
                shell.cancel()
            if visit.shells:
                await asyncio.wait(visit.shells)

    def leave(self, number: int, *, abort: bool) -> None:
        """Let the build go on, or end it. Raises NotFound."""
        visit = self._find(number)
        if visit.left.done():
            return
        if abort:
            visit.left.set_exception(BuildAborted("the build was ended from its debugger"))
        else:
            visit.left.set_result(None)

    async def resize(self, number: int, rows: int, columns: int) -> None:
        """Tell the terminal its size. Raises NotFound, also when no shell runs."""
        running = self._find(number).running
        if running is None:
            raise NotFound("no shell runs there")
        await running.resize(rows, columns)

    async def shell(self, number: int, raw: RawConnection, options: ShellOptions) -> None:
        """Run a shell on this connection until it ends, the client goes or the build goes on.

        Raises NotFound, and what keeps the shell from starting.
        """
        visit = self._find(number)
        task = asyncio.create_task(self._shell(visit, raw, options))
        visit.shells.add(task)
        task.add_done_callback(visit.shells.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise

    async def _shell(self, visit: _Visit, raw: RawConnection, options: ShellOptions) -> None:
        async with (
            visit.open_shell(options) as task,
            await task.attach(stdin=True, stdout=True, stderr=True) as attachment,
        ):
            await task.start()
            visit.running = task
            try:
                attach.begin(raw, tty=options.tty)
                await attach.serve(raw, _Streams(attachment), stdin=True)
            finally:
                visit.running = None

    def _find(self, number: int) -> _Visit:
        visit = self._visits.get(number)
        if visit is None:
            raise NotFound(f"the build does not stop at {number} (any more)")
        return visit


class _Streams:
    """A process's streams as `attach.serve` wants them."""

    detached = False

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment

    async def read(self) -> bytes:
        return await self._attachment.read()

    async def write(self, data: bytes) -> None:
        await self._attachment.write(data)

    async def close_stdin(self) -> None:
        self._attachment.close_stdin()

    async def close(self) -> None:
        self._attachment.close()
