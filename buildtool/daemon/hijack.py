"""Requests that take over their connection: attach, exec start.

The HTTP parser must never see the bytes after such a request: they are the raw stream's, they may come in the same
segment, and the client
half-closes its side to say "end of stdin" while it goes on reading. So the protocol looks at the head of each
request before the parser does, hands
the parser exactly the head and the body of a hijacking one (without its Upgrade header, whose quirks differ between
parsers), and keeps the rest.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import re
import select
import socket
import struct
import termios
import time
from collections import deque
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

_TARGET = re.compile(
    rb"POST /(?:v[0-9.]+/)?(?:containers/[^/ ?]+/attach|exec/[^/ ?]+/start|session|grpc"
    rb"|buildtool/v1/sessions/[^/ ?]+(?:/shells/[0-9]+)?)[ ?]"
)
_START = b"POST /"
_LINE_LIMIT = 16 * 1024
_HEAD_LIMIT = 64 * 1024
_BODY_LIMIT = 1024 * 1024
_HIGH_WATER = 1024 * 1024
_ORPHAN_CHECK_SECONDS = 20.0
_HEAD_SECONDS = 0.25


class RawConnection:
    """Both directions of a hijacked connection."""

    def __init__(self, protocol: HijackableProtocol, upgrade: str) -> None:
        self.upgrade = upgrade
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._protocol = protocol
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._reader: asyncio.Future[None] | None = None
        self._begun = False
        self._beginning = asyncio.Lock()

    def begin(self, content_type: str) -> None:
        """Answer the request: `101 UPGRADED` when it asked for an upgrade, else the `200` of old clients."""
        head = f"101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {self.upgrade}" if self.upgrade else "200 OK"
        self._transport().write(f"HTTP/1.1 {head}\r\nContent-Type: {content_type}\r\n\r\n".encode())

    async def read(self) -> bytes:
        """The next bytes from the client; b"" when it has closed its side or is gone."""
        while not self._chunks:
            if self._ended:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        self._chunks.clear()
        if self._size >= _HIGH_WATER:
            self._protocol.resume_raw()
        self._size = 0
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the client is slow. Raises ConnectionError when it is gone.

        The first wait until the client has read the answer's head: docker-py loses what it reads together with it.
        """
        if not self._begun:
            async with self._beginning:  # whoever writes next writes after this
                await self._head_read()
            self._begun = True
        self._transport().write(data)
        await self._protocol._drain_helper()

    async def _head_read(self) -> None:
        """Wait until the client has taken what was sent, but not for long: it may read nothing at all.

        On a unix socket the kernel counts what the other side has not read yet (unix(7), SIOCOUTQ).
        """
        deadline = time.monotonic() + _HEAD_SECONDS
        while time.monotonic() < deadline:
            transport = self._transport()
            unread = array.array("i", [0])
            fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, unread)
            if not unread[0] and not transport.get_write_buffer_size():
                return
            await asyncio.sleep(0.001)

    def close(self) -> None:
        """Send what is written and close the connection."""
        transport = self._protocol.transport
        if transport is not None:
            transport.close()

    def orphaned(self) -> bool:
        """Whether the client is wholly gone, which after a half-close no read will tell."""
        transport = self._protocol.transport
        if transport is None:
            return True
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))

    async def watch(self) -> None:
        """Return when the client is gone."""
        while not self.lost.done():
            await asyncio.wait([self.lost], timeout=_ORPHAN_CHECK_SECONDS)
            if self._ended and self.orphaned():
                return

    def feed(self, data: bytes) -> None:
        """Bytes have come from the client."""
        if data:
            self._chunks.append(data)
            self._size += len(data)
            if self._size >= _HIGH_WATER:
                self._protocol.pause_raw()
            self._wake()

    def feed_eof(self) -> None:
        """The client has closed its side."""
        self._ended = True
        self._wake()

    def connection_lost(self) -> None:
        """The connection is gone."""
        self.feed_eof()
        if not self.lost.done():
            self.lost.set_result(None)

    @property
    def untouched(self) -> bool:
        """Whether nothing has come since the request."""
        return not self._chunks and not self._ended

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _transport(self) -> asyncio.Transport:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has closed the connection")
        return transport


class Hijacked(web.StreamResponse):
    """What a handler returns after it has spoken on the raw connection: nothing is left to send."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing: the answer has been sent."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing: the connection is closed next."""


class HijackableProtocol(RequestHandler):
    """aiohttp's server protocol, which can give its connection away. `raw` is set from the head of a hijacking
    request on."""

    __slots__ = ("_held", "peer", "raw", "stranger")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.raw: RawConnection | None = None
        self.peer = ""
        self.stranger = False
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is; a `stranger` is not the user that the daemon runs as."""
        super().connection_made(transport)
        self.peer = _peer_of(transport, self._manager)
        self.stranger = f"uid {os.getuid()}," not in self.peer

    def data_received(self, data: bytes) -> None:
        """Look for a hijacking request where a request may begin; all else is the parser's."""
        if self.raw is not None:
            self.raw.feed(data)
            return
        if self._held:
            data, self._held = self._held + data, b""
        elif not (data.startswith(_START) or _START.startswith(data)) or self._busy():
            super().data_received(data)
            return
        self._inspect(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep the connection of a hijacking request open for output."""
        if self.raw is None:
            return None
        self.raw.feed_eof()
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the raw side, then the parser's."""
        if self.raw is not None:
            self.raw.connection_lost()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the parser refuses is answered as every other error: a JSON document."""
        from buildtool.daemon.answers import json_answer

        if request.writer.output_size > 0:
            raise ConnectionError("the answer has already begun")
        answer = json_answer({"message": message or f"malformed HTTP request: {exc}"}, status)
        answer.force_close()
        return answer

    def release(self) -> bool:
        """Give the connection back to HTTP when the handler answered by HTTP after all; False when it cannot be."""
        if self.raw is None:
            return True
        if not self.raw.untouched:
            return False
        self.raw = None
        return True

    def pause_raw(self) -> None:
        """Stop reading from the client."""
        self._pause_transport_reading()

    def resume_raw(self) -> None:
        """Read from the client again."""
        if self.transport is not None and not self.transport.is_closing():
            self._resume_transport_reading()

    def _busy(self) -> bool:
        return self._current_request is not None or bool(self._messages)

    def _inspect(self, data: bytes) -> None:
        line_end = data.find(b"\r\n")
        if line_end < 0 and len(data) < _LINE_LIMIT:
            self._held = data
            return
        if line_end < 0 or not _TARGET.match(data, 0, line_end):
            super().data_received(data)
            return
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            if len(data) < _HEAD_LIMIT:
                self._held = data
            else:
                super().data_received(data)
            return
        head, rest = data[: head_end + 4], data[head_end + 4 :]
        fields = _fields(head)
        length = fields.get(b"content-length", b"0")
        if b"transfer-encoding" in fields or not length.isdigit() or int(length) > _BODY_LIMIT:
            super().data_received(data)
            return
        if len(rest) < int(length):
            self._held = data
            return
        upgrade = b"upgrade" in fields.get(b"connection", b"").lower() and fields.get(b"upgrade", b"")
        self.raw = RawConnection(self, upgrade.decode("latin-1") if upgrade else "")
        self.raw.feed(rest[int(length) :])
        super().data_received(_without_upgrade(head) + rest[: int(length)])


class HijackableServer(web.Server):
    """aiohttp's low-level server with connections that can be given away.

    `peers` says who is behind a socket (by its descriptor) that another part of the daemon serves a connection on.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.peers: dict[int, str] = {}

    def __call__(self) -> RequestHandler:
        """The protocol of a new connection."""
        return HijackableProtocol(self, loop=self._loop, **self._kwargs)


def _peer_of(transport: asyncio.BaseTransport, server: Any) -> str:
    """Who is at the other end, for the log."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return "nobody"
    known: str | None = server.peers.pop(sock.fileno(), None) if isinstance(server, HijackableServer) else None
    if known is not None:
        return known
    if sock.family != socket.AF_UNIX:
        return "{}:{}".format(*transport.get_extra_info("peername", ("?", "?"))[:2])
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return f"pid {pid}, uid {uid}, gid {gid}"


def _fields(head: bytes) -> dict[bytes, bytes]:
    fields = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return fields


def _without_upgrade(head: bytes) -> bytes:
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith((b"upgrade:", b"connection:")))
