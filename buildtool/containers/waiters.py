"""Who waits for a container to end, and for which end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from buildtool.errors import InvalidInput

CONDITIONS = ("not-running", "next-exit", "removed")


@dataclass(frozen=True, slots=True)
class WaitResult:
    """How the container ended; `error` tells why a start or a removal failed."""

    exit_code: int
    error: str = ""

    def document(self) -> dict[str, Any]:
        """The answer to POST /containers/{id}/wait."""
        if self.error:
            return {"StatusCode": self.exit_code, "Error": {"Message": self.error}}
        return {"StatusCode": self.exit_code}


class Waiters:
    """Futures by condition. A result is given once, to all that wait at that moment."""

    def __init__(self) -> None:
        self._exit: list[asyncio.Future[WaitResult]] = []
        self._removal: list[asyncio.Future[WaitResult]] = []

    def subscribe(self, condition: str) -> asyncio.Future[WaitResult]:
        """A future for the next time the condition comes true."""
        future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        (self._removal if condition == "removed" else self._exit).append(future)
        return future

    def exited(self, result: WaitResult) -> None:
        """The container's process ended: answers `not-running` and `next-exit`."""
        self._exit = _answer(self._exit, result)

    def removed(self, result: WaitResult) -> None:
        """The container is gone: answers everyone."""
        self.exited(result)
        self._removal = _answer(self._removal, result)


def check_condition(condition: str) -> str:
    """The condition with its default filled in. Raises InvalidInput."""
    if condition not in ("", *CONDITIONS):
        raise InvalidInput(f'invalid condition: "{condition}"')
    return condition or "not-running"


def _answer(futures: list[asyncio.Future[WaitResult]], result: WaitResult) -> list[asyncio.Future[WaitResult]]:
    for future in futures:
        if not future.done():
            future.set_result(result)
    return []
