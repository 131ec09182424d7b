"""Ports of the host: held, refused with the holder's name, relayed."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from buildtool.errors import BuildtoolError
from buildtool.networks.model import Endpoint, PortRequest, Sandbox
from buildtool.networks.publish import Publisher, holder_of

LOCAL = "127.0.0.1"


def sandbox(name: str = "web", address: str = LOCAL) -> Sandbox:
    end = Endpoint(
        network_id="n",
        network="n",
        id="e",
        host_interface="v",
        interface="eth0",
        mac="",
        address=address,
        gateway="10.0.0.1",
    )
    return Sandbox(id=name, container=name, name=name, endpoints=[end])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        return int(probe.getsockname()[1])


def test_a_port_is_held_until_it_is_released() -> None:
    publisher, one, two = Publisher(), sandbox(), sandbox("other")
    port = free_port()
    publisher.reserve(one, [PortRequest(80, "tcp", LOCAL, port, port)])
    assert [(p.host_ip, p.host_port, p.container_port) for p in one.ports] == [(LOCAL, port, 80)]
    with pytest.raises(BuildtoolError, match="port is already allocated") as caught:
        publisher.reserve(two, [PortRequest(81, "tcp", LOCAL, port, port)])
    assert 'container "web"' in str(caught.value) and two.ports == []
    publisher.release(one)
    publisher.reserve(two, [PortRequest(81, "tcp", LOCAL, port, port)])
    publisher.close()


def test_a_port_of_another_program_is_refused_with_its_name() -> None:
    publisher = Publisher()
    with socket.socket() as other:
        other.bind((LOCAL, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BuildtoolError, match="address already in use") as caught:
            publisher.reserve(sandbox(), [PortRequest(80, "tcp", LOCAL, port, port)])
        assert f"(pid {os.getpid()})" in str(caught.value)
    assert holder_of("tcp", port) == ""


def test_all_or_none_of_the_ports_are_taken() -> None:
    publisher, port = Publisher(), free_port()
    with socket.socket() as other:
        other.bind((LOCAL, 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(BuildtoolError):
            publisher.reserve(
                sandbox(), [PortRequest(80, "tcp", LOCAL, port, port), PortRequest(81, "tcp", LOCAL, taken, taken)]
            )
    with socket.socket() as probe:
        probe.bind((LOCAL, port))


def test_the_first_free_port_of_a_range_is_taken() -> None:
    publisher = Publisher()
    with socket.socket() as other:
        other.bind((LOCAL, 0))
        other.listen()
        taken = other.getsockname()[1]
        first = sandbox()
        publisher.reserve(first, [PortRequest(80, "tcp", LOCAL, taken, min(taken + 50, 65535))])
        assert first.ports[0].host_port > taken
    publisher.close()


def test_any_free_port_is_the_same_for_both_versions() -> None:
    publisher, one = Publisher(), sandbox()
    publisher.reserve(one, [PortRequest(80, "tcp"), PortRequest(53, "udp")])
    assert {p.host_ip for p in one.ports} <= {"0.0.0.0", "::"}
    assert len({p.host_port for p in one.ports if p.protocol == "tcp"}) == 1
    publisher.close()


async def test_connections_are_relayed_with_their_half_closes() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"<" + await reader.read() + b">")
        writer.close()

    server = await asyncio.start_server(echo, LOCAL, 0)
    inner = server.sockets[0].getsockname()[1]
    publisher, one = Publisher(), sandbox()
    publisher.reserve(one, [PortRequest(inner, "tcp", "127.0.0.2")])
    publisher.serve(one)
    data = os.urandom(1 << 20)
    reader, writer = await asyncio.open_connection("127.0.0.2", one.ports[0].host_port)
    writer.write(data)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 10) == b"<" + data + b">"
    writer.close()
    publisher.close()
    server.close()


async def test_datagrams_are_relayed_to_each_client() -> None:
    loop = asyncio.get_running_loop()
    publisher, one = Publisher(), sandbox()
    with socket.socket(type=socket.SOCK_DGRAM) as inner:
        inner.setblocking(False)
        inner.bind((LOCAL, 0))
        publisher.reserve(one, [PortRequest(inner.getsockname()[1], "udp", "127.0.0.2")])
        publisher.serve(one)
        for number in range(3):
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect(("127.0.0.2", one.ports[0].host_port))
                await loop.sock_sendall(client, b"q%d" % number)
                data, address = await asyncio.wait_for(loop.sock_recvfrom(inner, 100), 5)
                await loop.sock_sendto(inner, b"a" + data, address)
                assert await asyncio.wait_for(loop.sock_recv(client, 100), 5) == b"aq%d" % number
    publisher.close()


async def test_without_the_userland_proxy_ports_are_held_only() -> None:
    publisher, one = Publisher(relays=False), sandbox()
    with socket.create_server((LOCAL, 0)) as inner:
        publisher.reserve(one, [PortRequest(inner.getsockname()[1], "tcp", "127.0.0.2")])
        publisher.serve(one)
        port = one.ports[0].host_port
        with socket.create_connection(("127.0.0.2", port), timeout=5) as client:
            client.settimeout(0.2)
            inner.settimeout(0.2)
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(inner.accept)
        with pytest.raises(OSError):
            socket.create_server(("127.0.0.2", port))
    publisher.close()
