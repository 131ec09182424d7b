"""The userland proxy: what arrives at a socket of the host goes to an address, and back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

MakeSocket = Callable[[socket.AddressFamily, socket.SocketKind], socket.socket]
"""How sockets are made that reach the target."""
_BLOCK = 1 << 16
_UDP_IDLE = 90.0
_UDP_CLIENTS = 1024
_UDP_QUEUE = 64


class Relay:
    """Serves one socket until it is closed; the socket itself stays its owner's. `outward` makes the others."""

    def __init__(
        self, bound: socket.socket, target: tuple[str, int], outward: MakeSocket = socket.socket, *, udp: bool
    ) -> None:
        self._socket, self._target, self._outward = bound, target, outward
        self._loop = asyncio.get_running_loop()
        self._work: set[asyncio.Task[None]] = set()
        self._clients: dict[Any, _Client] = {}
        self._loop.add_reader(bound.fileno(), self._datagrams if udp else self._connections)

    def close(self) -> None:
        """Stop, and cut the connections."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
        for task in self._work:
            task.cancel()
        for client in list(self._clients.values()):
            self._forget(client)

    def _connections(self) -> None:
        try:
            client, _address = self._socket.accept()
        except OSError:
            return
        client.setblocking(False)
        task = self._loop.create_task(self._connect(client))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _connect(self, client: socket.socket) -> None:
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        with client, self._outward(family, socket.SOCK_STREAM) as server:
            server.setblocking(False)
            try:
                await self._loop.sock_connect(server, self._target)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._copy(client, server))
                    both.create_task(self._copy(server, client))
            except* OSError:  # one side broke off: the other is closed with it
                pass

    async def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        """Until the source ends; then the sink hears of it."""
        while data := await self._loop.sock_recv(source, _BLOCK):
            await self._loop.sock_sendall(sink, data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _datagrams(self) -> None:
        for _ in range(_UDP_QUEUE):
            try:
                data, address = self._socket.recvfrom(65535)
            except OSError:
                return
            client = self._clients.get(address) or self._new_client(address)
            if client is not None:
                client.last = self._loop.time()
                with contextlib.suppress(OSError):
                    client.socket.send(data)

    def _new_client(self, address: Any) -> _Client | None:
        if len(self._clients) >= _UDP_CLIENTS:
            self._forget(min(self._clients.values(), key=lambda client: client.last))
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        own = self._outward(family, socket.SOCK_DGRAM)
        own.setblocking(False)
        try:
            own.connect(self._target)
        except OSError:
            own.close()
            return None
        client = self._clients[address] = _Client(address, own, self._loop.time())
        self._loop.add_reader(own.fileno(), self._answer, client)
        client.timer = self._loop.call_later(_UDP_IDLE, self._expire, client)
        return client

    def _answer(self, client: _Client) -> None:
        for _ in range(_UDP_QUEUE):
            try:
                data = client.socket.recv(65535)
                self._socket.sendto(data, client.address)
            except OSError:
                return
            client.last = self._loop.time()

    def _expire(self, client: _Client) -> None:
        left = client.last + _UDP_IDLE - self._loop.time()
        if left > 0:
            client.timer = self._loop.call_later(left, self._expire, client)
        else:
            self._forget(client)

    def _forget(self, client: _Client) -> None:
        self._clients.pop(client.address, None)
        if client.timer is not None:
            client.timer.cancel()
        if client.socket.fileno() >= 0:
            self._loop.remove_reader(client.socket.fileno())
            client.socket.close()


class _Client:
    """Who sends datagrams, and the socket that speaks for it to the target."""

    def __init__(self, address: Any, own: socket.socket, last: float) -> None:
        self.address, self.socket, self.last = address, own, last
        self.timer: asyncio.TimerHandle | None = None
