"""The name server of one container: 127.0.0.11 in its network namespace, served by the daemon's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from buildtool.networks import dns_message as dns
from buildtool.networks.rules import DNS_ADDRESS

_BURST = 64
_TIMEOUT = 4.0
_MOST_SERVERS = 3
_MOST_PENDING = 1024
_TCP_IDLE = 30.0
_MOST_KEPT = 1024


class NameBook(Protocol):
    """What the resolver asks about container names."""

    @property
    def generation(self) -> int:
        """Another number after each change: answers are kept until then."""

    def addresses(self, name: str) -> list[str] | None:
        """The addresses of a container in the networks that the asking one is in; None for unknown names."""

    def name_of(self, address: str) -> str:
        """The full name of a container with that address there; "" for unknown ones."""


class Resolver:
    """Answers for containers, forwards the rest. `servers` are asked in turn; none = names outside do not exist."""

    def __init__(
        self, udp: socket.socket, tcp: socket.socket, book: NameBook, servers: Callable[[], Sequence[str]]
    ) -> None:
        self._udp, self._tcp, self._book, self._servers = udp, tcp, book, servers
        self._loop = asyncio.get_running_loop()
        self._work: set[asyncio.Task[None]] = set()
        self._kept: dict[bytes, bytes] = {}
        self._generation = book.generation
        self._loop.add_reader(udp.fileno(), self._datagrams)
        self._loop.add_reader(tcp.fileno(), self._connections)

    @staticmethod
    def open_sockets() -> tuple[socket.socket, socket.socket]:
        """The server's sockets, in the network namespace of the calling thread, on ports of the kernel's choice.

        Not on port 53: a program of the container may want it for all addresses.
        """
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            for one in (udp, tcp):
                one.setblocking(False)
                one.bind((DNS_ADDRESS, 0))
            tcp.listen(64)
        except BaseException:
            udp.close()
            tcp.close()
            raise
        return udp, tcp

    def close(self) -> None:
        """Stop answering."""
        for one in (self._udp, self._tcp):
            if one.fileno() >= 0:
                self._loop.remove_reader(one.fileno())
                one.close()
        for task in self._work:
            task.cancel()

    def _datagrams(self) -> None:
        for _ in range(_BURST):
            try:
                data, address = self._udp.recvfrom(4096)
            except OSError:
                return
            reply = self._kept_answer(data)
            if reply is not None:
                with contextlib.suppress(OSError):
                    self._udp.sendto(reply, address)
            elif len(self._work) < _MOST_PENDING:
                self._spawn(self._forward_datagram(data, address))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _forward_datagram(self, data: bytes, address: Any) -> None:
        reply = await self._forward(data, tcp=False)
        with contextlib.suppress(OSError):
            self._udp.sendto(reply, address)

    def _connections(self) -> None:
        try:
            client, _address = self._tcp.accept()
        except OSError:
            return
        client.setblocking(False)
        self._spawn(self._serve_connection(client))

    async def _serve_connection(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, EOFError, TimeoutError):
            while True:
                async with asyncio.timeout(_TCP_IDLE):
                    data = await self._read_message(client)
                reply = self.local_answer(data, udp=False) or await self._forward(data, tcp=True)
                await self._loop.sock_sendall(client, len(reply).to_bytes(2) + reply)

    def _kept_answer(self, data: bytes) -> bytes | None:
        """The local answer to a datagram: the one given before, but for its number, while no name has changed."""
        if self._generation != self._book.generation or len(self._kept) > _MOST_KEPT:
            self._kept.clear()
            self._generation = self._book.generation
        kept = self._kept.get(data[2:])
        if kept is not None:
            return data[:2] + kept
        reply = self.local_answer(data, udp=True)
        if reply is not None and int.from_bytes(reply[6:8]) < 2:  # several addresses take turns
            self._kept[data[2:]] = reply[2:]
        return reply

    def local_answer(self, data: bytes, *, udp: bool) -> bytes | None:
        """The answer that needs no other server; None when one is needed."""
        try:
            query = dns.parse(data)
        except ValueError:
            return dns.refusal(data, dns.FORMERR)
        if query.opcode:
            return dns.answer(query, [], code=dns.NOTIMP, udp=udp)
        if query.type == dns.PTR:
            address = dns.reverse_address(query.name)
            name = self._book.name_of(address) if address else ""
            try:
                return dns.answer(query, [(dns.PTR, name)], udp=udp) if name else None
            except ValueError:  # a container may have a name that no host can have
                return None
        found = self._book.addresses(query.name)
        if found is None:
            return None
        records = []
        for address in found:
            kind = dns.AAAA if ":" in address else dns.A
            if query.type in (kind, dns.ANY):
                records.append((kind, address))
        if len(records) > 1:
            random.shuffle(records)
        return dns.answer(query, records, udp=udp)

    async def _forward(self, data: bytes, *, tcp: bool) -> bytes:
        """Ask the servers one after the other; the first answer counts, a failure of all is SERVFAIL."""
        last: bytes | None = None
        for server in list(self._servers())[:_MOST_SERVERS]:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(_TIMEOUT):
                    reply = await (self._ask_tcp(server, data) if tcp else self._ask_udp(server, data))
                if len(reply) >= 4 and reply[3] & 0x0F in (dns.SERVFAIL, dns.REFUSED, dns.NOTIMP):
                    last = reply  # another one may know
                    continue
                return reply
        if last is not None:
            return last
        try:
            return dns.answer(dns.parse(data), [], code=dns.SERVFAIL)
        except ValueError:
            return dns.refusal(data, dns.SERVFAIL)

    async def _ask_udp(self, server: str, data: bytes) -> bytes:
        """By datagram; an answer that was cut is asked for again over a connection, when the client can take it."""
        reply = await self._datagram(server, data)
        if dns.is_truncated(reply):
            with contextlib.suppress(OSError, EOFError, ValueError):
                whole = await self._ask_tcp(server, data)
                if len(whole) <= dns.parse(data).size:
                    return whole
        return reply

    async def _datagram(self, server: str, data: bytes) -> bytes:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            asking.connect((server, 53))
            await self._loop.sock_sendall(asking, data)
            while True:
                reply = await self._loop.sock_recv(asking, 65535)
                if reply[:2] == data[:2]:
                    return reply

    async def _ask_tcp(self, server: str, data: bytes) -> bytes:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)
            await self._loop.sock_connect(asking, (server, 53))
            await self._loop.sock_sendall(asking, len(data).to_bytes(2) + data)
            return await self._read_message(asking)

    async def _read_message(self, source: socket.socket) -> bytes:
        size = int.from_bytes(await self._read_exactly(source, 2))
        return await self._read_exactly(source, size)

    async def _read_exactly(self, source: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = await self._loop.sock_recv(source, size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data
