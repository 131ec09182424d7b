"""The name server, asked over real sockets; the servers it forwards to are the test's own."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
from collections.abc import AsyncIterator

import dnslib
import pytest

from buildtool.networks import dns_message as dns
from buildtool.networks import resolver as module
from buildtool.networks.resolver import Resolver
from tests.unit.networks.test_dns_message import question


class Book:
    """Two containers behind one alias."""

    generation = 0
    web = "10.0.0.2"

    def addresses(self, name: str) -> list[str] | None:
        return {"web": [self.web], "all": ["10.0.0.2", "10.0.0.3"], "six": ["fd00::2"]}.get(name)

    def name_of(self, address: str) -> str:
        return "web.net" if address == "10.0.0.2" else ""


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[tuple[str, int], tuple[str, int]]]:
    """The addresses of a resolver for datagrams and for connections, without servers to forward to."""
    udp, tcp = Resolver.open_sockets()
    resolver = Resolver(udp, tcp, Book(), lambda: [])
    yield udp.getsockname(), tcp.getsockname()
    resolver.close()


async def ask(address: tuple[str, int], data: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.connect(address)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(asking, data)
        return await asyncio.wait_for(loop.sock_recv(asking, 4096), 5)


def code(reply: bytes) -> int:
    return reply[3] & 0x0F


def count(reply: bytes) -> int:
    return int(struct.unpack_from("!H", reply, 6)[0])


async def test_names_are_answered_in_any_case(server: tuple[tuple[str, int], tuple[str, int]]) -> None:
    reply = await ask(server[0], question("WEB"))
    assert (code(reply), count(reply)) == (dns.NOERROR, 1)
    assert reply.endswith(b"\x0a\0\0\2")


async def test_a_name_with_addresses_of_the_other_version_only_has_no_answer_but_exists(
    server: tuple[tuple[str, int], tuple[str, int]],
) -> None:
    for name, kind in (("web", dns.AAAA), ("six", dns.A), ("web", 15)):
        reply = await ask(server[0], question(name, kind))
        assert (code(reply), count(reply)) == (dns.NOERROR, 0)


async def test_several_addresses_take_turns(server: tuple[tuple[str, int], tuple[str, int]]) -> None:
    firsts = {(await ask(server[0], question("all")))[-4:] for _ in range(40)}
    assert firsts == {b"\x0a\0\0\2", b"\x0a\0\0\3"}


async def test_an_answer_is_given_again_until_a_name_changes() -> None:
    udp, tcp = Resolver.open_sockets()
    book = Book()
    resolver = Resolver(udp, tcp, book, lambda: [])
    try:
        first, second = [await ask(udp.getsockname(), question("web", identity=number)) for number in (1, 2)]
        assert (first[:2], second[:2]) == (b"\0\1", b"\0\2") and first[2:] == second[2:]
        book.web, book.generation = "10.0.0.9", 1
        assert (await ask(udp.getsockname(), question("web", identity=3))).endswith(b"\x0a\0\0\x09")
    finally:
        resolver.close()


async def test_addresses_have_names(server: tuple[tuple[str, int], tuple[str, int]]) -> None:
    reply = await ask(server[0], question("2.0.0.10.in-addr.arpa", dns.PTR))
    assert str(dnslib.DNSRecord.parse(reply).rr[0].rdata) == "web.net."


async def test_nonsense_is_answered_with_an_error(server: tuple[tuple[str, int], tuple[str, int]]) -> None:
    assert code(await ask(server[0], b"\0\1nonsense")) == dns.FORMERR


async def test_without_servers_other_names_fail(server: tuple[tuple[str, int], tuple[str, int]]) -> None:
    assert code(await ask(server[0], question("example.org"))) == dns.SERVFAIL


async def test_connections_ask_several_questions(server: tuple[tuple[str, int], tuple[str, int]]) -> None:
    reader, writer = await asyncio.open_connection(*server[1])
    for name in ("web", "six"):
        data = question(name)
        writer.write(len(data).to_bytes(2) + data)
        reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        assert code(reply) == dns.NOERROR
    writer.close()
    await writer.wait_closed()


async def test_the_next_server_is_asked_when_one_fails_or_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.1)
    udp, tcp = Resolver.open_sockets()
    asked = []

    async def answer(server: str, data: bytes) -> bytes:
        asked.append(server)
        if server == "silent":
            await asyncio.sleep(10)
        return dns.answer(dns.parse(data), [], code=dns.SERVFAIL if server == "failing" else dns.NXDOMAIN)

    resolver = Resolver(udp, tcp, Book(), lambda: ["silent", "failing", "good", "fourth"])
    monkeypatch.setattr(resolver, "_ask_udp", answer)
    monkeypatch.setattr(resolver, "_ask_tcp", answer)
    try:
        assert code(await ask(udp.getsockname(), question("example.org"))) == dns.NXDOMAIN
        assert asked == ["silent", "failing", "good"]
    finally:
        resolver.close()


@pytest.mark.parametrize(("edns", "whole"), [(1232, True), (0, False)])
async def test_an_answer_that_was_cut_is_fetched_whole_when_the_client_takes_it(
    monkeypatch: pytest.MonkeyPatch, edns: int, whole: bool
) -> None:
    udp, tcp = Resolver.open_sockets()
    resolver = Resolver(udp, tcp, Book(), lambda: ["far"])
    records = [(dns.A, f"10.0.0.{number}") for number in range(60)]

    async def cut(server: str, data: bytes) -> bytes:
        return dns.answer(dataclasses.replace(dns.parse(data), size=512), records)

    async def complete(server: str, data: bytes) -> bytes:
        return dns.answer(dns.parse(data), records, udp=False)

    monkeypatch.setattr(resolver, "_datagram", cut)
    monkeypatch.setattr(resolver, "_ask_tcp", complete)
    try:
        reply = await ask(udp.getsockname(), question("example.org", edns=edns))
        assert dns.is_truncated(reply) is not whole and count(reply) == (60 if whole else 0)
    finally:
        resolver.close()
