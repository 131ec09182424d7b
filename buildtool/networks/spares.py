# ruff: noqa: PTH123
"""Network namespaces that are connected already: one short-lived container after another uses them.

Making a namespace, a pair of interfaces and their addresses costs more than starting a program. So a namespace that
its user leaves as it was waits a while for the next one. Only for containers that may not administer networks: what
they can leave behind are connections, and with any of those the namespace goes.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from buildtool.networks import kernel
from buildtool.networks.model import Sandbox
from buildtool.networks.place import Place

_IDLE_SECONDS = 10.0
_IN_USE = re.compile(rb"^(?:TCP|UDP|UDPLITE|RAW)6?: inuse (\d+)(?: orphan \d+ tw (\d+))?", re.MULTILINE)


@dataclass(eq=False)
class Spare:
    """A connected network namespace (a descriptor); `index` is that of the interface `base`, which it hangs on."""

    sandbox: Sandbox
    namespace: int
    base: str
    index: int
    timer: asyncio.TimerHandle | None = None

    @property
    def path(self) -> str:
        """Where this process's children find the namespace."""
        return f"/proc/{os.getpid()}/fd/{self.namespace}"


class Spares:
    """Those of one network that nobody uses at the moment. `leave` gives their addresses back."""

    def __init__(self, place: Place, leave: Callable[[Sandbox], Awaitable[None]]) -> None:
        self._place = place
        self._leave = leave
        self._idle: list[Spare] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def take(self) -> Spare | None:
        """One that waits and is as it was made; those that are not go."""
        while self._idle:
            spare = self._idle.pop()
            if spare.timer is not None:
                spare.timer.cancel()
            if await self._place.do(_is_as_new, spare):
                return spare
            await self.discard(spare)
        return None

    def give_back(self, spare: Spare) -> None:
        """Its user has ended; what that has left in it is looked for when the next one comes."""
        spare.timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._expire, spare)
        self._idle.append(spare)

    async def discard(self, spare: Spare) -> None:
        """Remove one that is not to be used again."""
        os.close(spare.namespace)
        await self._leave(spare.sandbox)

    async def close(self) -> None:
        """Remove all that wait."""
        while self._idle:
            spare = self._idle.pop()
            if spare.timer is not None:
                spare.timer.cancel()
            await self.discard(spare)
        await asyncio.gather(*self._ending)

    def _expire(self, spare: Spare) -> None:
        if spare in self._idle:
            self._idle.remove(spare)
            task = asyncio.get_running_loop().create_task(self.discard(spare))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


def _is_as_new(spare: Spare) -> bool:
    """Whether it hangs on its bridge still, and no socket in it is open or about to be forgotten."""
    if interface_index(spare.base) != spare.index:
        return False
    try:
        tables = kernel.in_namespace(spare.namespace, _socket_tables)
    except OSError:  # no descriptor is left to look with
        return False
    return bool(tables) and not any(int(n) for found in _IN_USE.findall(tables) for n in found if n)


def _socket_tables() -> bytes:
    return b"".join(_read(f"/proc/thread-self/net/{name}") for name in ("sockstat", "sockstat6"))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", 0) as file:
            return file.read()
    except OSError:  # a kernel without IPv6
        return b""


def interface_index(interface: str) -> int:
    """The kernel's number of an interface of this thread's network namespace, 0 when there is none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0
