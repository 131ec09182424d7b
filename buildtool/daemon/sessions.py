"""What a client lends to its builds over a connection of its own: ssh agents.

After `POST /buildtool/v1/sessions/{id}` the connection carries frames both ways: a byte for the kind, four for the
channel, four for the length (big endian), then the payload. The daemon opens channels (`o`, payload `ssh/ID`); `d`
is data, `e` the end of one direction, `x` that the channel is gone. The client reaches agents with its own rights.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from buildtool.daemon.debugging import DebugDesk
from buildtool.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from buildtool.daemon.hijack import RawConnection
    from buildtool.solve.run_agent import Dial

_HEAD = struct.Struct(">cLL")
_LONGEST = 1 << 20


class SessionChannel:
    """One connection through a session (a `Channel` of buildtool.solve.run_agent)."""

    def __init__(self, session: Session, number: int) -> None:
        self._session = session
        self._number = number
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def arrive(self, data: bytes) -> None:
        """Bytes have come; b"" is the end."""
        self._arrived.put_nowait(data)

    async def read(self) -> bytes:
        """The next bytes; b"" at the end."""
        data = await self._arrived.get()
        if not data:
            self._arrived.put_nowait(b"")
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes. Raises ConnectionError when the client is gone."""
        await self._session.send(b"d", self._number, data)

    async def end(self) -> None:
        """Nothing more will be written."""
        await self._session.send(b"e", self._number)

    async def close(self) -> None:
        """Both directions are done with."""
        await self._session.forget(self._number)


class Session:
    """One client's connection."""

    def __init__(self, raw: RawConnection) -> None:
        self._raw = raw
        self._channels: dict[int, SessionChannel] = {}
        self._last = 0
        self._ended = False

    async def serve(self) -> None:
        """Take frames apart until the client goes."""
        buffer = bytearray()
        try:
            while data := await self._raw.read():
                buffer += data
                while len(buffer) >= _HEAD.size:
                    kind, number, length = _HEAD.unpack_from(buffer)
                    if length > _LONGEST:
                        return
                    if len(buffer) < _HEAD.size + length:
                        break
                    payload = bytes(buffer[_HEAD.size : _HEAD.size + length])
                    del buffer[: _HEAD.size + length]
                    self._take(kind, number, payload)
        finally:
            self._ended = True
            for channel in self._channels.values():
                channel.arrive(b"")

    def _take(self, kind: bytes, number: int, payload: bytes) -> None:
        channel = self._channels.get(number)
        if channel is None:
            return
        if kind == b"d" and payload:
            channel.arrive(payload)
        elif kind in (b"e", b"x"):
            channel.arrive(b"")

    async def open(self, name: str) -> SessionChannel:
        """A new connection to what the client calls `name`. Raises ConnectionError when the client is gone."""
        if self._ended:
            raise ConnectionResetError("the client is gone")
        self._last += 1
        channel = self._channels[self._last] = SessionChannel(self, self._last)
        await self.send(b"o", self._last, name.encode())
        return channel

    async def forget(self, number: int) -> None:
        """End a channel."""
        if self._channels.pop(number, None) is not None and not self._ended:
            try:
                await self.send(b"x", number)
            except ConnectionError:
                self._ended = True

    async def send(self, kind: bytes, number: int, payload: bytes = b"") -> None:
        """One frame. Raises ConnectionError when the client is gone."""
        await self._raw.write(_HEAD.pack(kind, number, len(payload)) + payload)


class Sessions:
    """The sessions of a daemon, by the ids that their clients chose: only who knows one can use it."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._desks: dict[str, DebugDesk] = {}

    async def serve(self, id: str, raw: RawConnection) -> None:
        """Have a session until its client goes. Raises Conflict for an id that is taken, InvalidInput."""
        _check_id(id)
        if id in self._sessions:
            raise Conflict("there is a session of this id")
        session = self._sessions[id] = Session(raw)
        raw.begin("application/vnd.buildtool.session")
        try:
            await session.serve()
        finally:
            del self._sessions[id]
            raw.close()

    @contextlib.contextmanager
    def debugging(self, id: str) -> Iterator[DebugDesk]:
        """A desk for one build's stops. Raises InvalidInput for a short id, Conflict for one in use."""
        _check_id(id)
        if id in self._desks:
            raise Conflict("there is a build that is debugged with this id")
        self._desks[id] = DebugDesk()
        try:
            yield self._desks[id]
        finally:
            del self._desks[id]

    def desk(self, id: str) -> DebugDesk:
        """The desk of this id. Raises NotFound."""
        found = self._desks.get(id)
        if found is None:
            raise NotFound("there is no build that is debugged with this id")
        return found

    def agents(self, id: str, names: Iterable[str]) -> dict[str, Dial]:
        """How to reach the ssh agents that a client has lent. Raises InvalidInput when there is no such session."""
        names = list(names)
        if not names:
            return {}
        session = self._sessions.get(id)
        if session is None:
            raise InvalidInput("ssh agents were named, but there is no session to reach them over")
        return {name: _dial(session, name) for name in names}


def _check_id(id: str) -> None:
    if len(id) < 32:
        raise InvalidInput("a session's id has at least 32 characters that nobody can guess")


def _dial(session: Session, name: str) -> Dial:
    async def dial() -> SessionChannel:
        return await session.open(f"ssh/{name}")

    return dial
