"""What a build needs of whoever debugs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from buildtool.errors import Span
from buildtool.runtime import Task


@dataclass(frozen=True, slots=True)
class ShellOptions:
    """How a shell is looked at: by a terminal of this size and kind, or by pipes."""

    tty: bool = False
    rows: int = 0
    columns: int = 0
    term: str = ""


OpenShell = Callable[[ShellOptions], AbstractAsyncContextManager[Task]]
"""Makes a shell in the step's tree, not started yet; it is gone when the context closes."""


class Debugger(Protocol):
    """Who is asked when a build stops. `visit` returns when the build may go on, and raises what ends it."""

    async def visit(
        self, name: str, span: Span | None, reason: Literal["failed", "before"], open_shell: OpenShell
    ) -> None:
        """A step called `name` has failed, or is about to be executed."""


@dataclass(frozen=True, slots=True)
class DebugOptions:
    """`failures`: stop where a RUN fails. `at`: lines of the Buildfile and names of stages to stop before."""

    debugger: Debugger
    failures: bool = True
    at: tuple[str, ...] = ()
