"""Blobs on their way out of a file: by sendfile(2) where nothing encrypts, whatever the server does meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from buildtool.oci import sha256
from buildtool.registry.errors import RegistryRefused, RegistryUnreachable
from buildtool.registry.sending import send_file
from buildtool.registry.uploads import upload
from tests.unit.registry.conftest import Running
from tests.unit.registry.test_copying import opened
from tests.unit.registry.test_server_api import Api

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 70_000, 8 * MIB, 8 * MIB + 1, 20 * MIB])
async def test_blobs_of_any_size_arrive(ours: Running, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "blob").write_bytes(data)
    reached: list[int] = []
    async with opened(ours.host, "a") as repository:
        await upload(repository, tmp_path / "blob", sha256(data), reached.append)
        assert await repository.blob_size(sha256(data)) == size
    await asyncio.sleep(0)
    assert reached == sorted(reached) and (not size or reached[-1] == size)
    assert ours.store.blobs.read(sha256(data)) == data


async def test_a_refusal_in_the_middle_is_heard(tmp_path: Path) -> None:
    """The server says what is wrong and reads no more."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(status=202, headers={"Location": "/v2/a/blobs/uploads/1"})
        if request.method == "PATCH":
            await request.content.readexactly(MIB)
            body = '{"errors":[{"code":"DENIED","message":"too much of it"}]}'
            return web.Response(status=403, text=body)
        return web.Response(text="{}", status=404 if "uploads" in request.path else 200)

    server = web.Server(handle)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    with (tmp_path / "blob").open("wb") as file:
        file.truncate(200 * MIB)
    async with opened(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", "a") as repository:
        with pytest.raises(RegistryRefused, match="too much of it"):
            await upload(repository, tmp_path / "blob", sha256(b"never looked at"), lambda _: None)
    listening.close()
    await server.shutdown(0.1)


async def test_a_push_that_is_cancelled_ends_soon(
    make_server: Callable[..., Awaitable[Running]], tmp_path: Path
) -> None:
    running = await make_server()
    with (tmp_path / "blob").open("wb") as file:
        file.truncate(1000 * MIB)
    async with opened(running.host, "a") as repository:
        task = asyncio.ensure_future(upload(repository, tmp_path / "blob", sha256(b"?"), lambda _: None))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await task


async def test_a_file_that_becomes_shorter_is_told(ours: Running, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    with path.open("wb") as file:
        file.truncate(40 * MIB)

    def cut(position: int) -> None:
        os.truncate(path, 9 * MIB)

    async with opened(ours.host, "a") as repository:
        with pytest.raises((RegistryUnreachable, RegistryRefused)):
            await upload(repository, path, sha256(b"?"), cut)


async def test_clients_that_read_nothing_hold_up_nobody(ours: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than there are threads for; those that go away are forgotten."""
    from buildtool.registry.server import blobs

    monkeypatch.setattr(blobs, "_SENDERS", 2)
    data = os.urandom(16 * MIB)
    api = Api(ours.url, aiohttp.ClientSession())
    async with api.session:
        digest = await api.push_blob("a", data)
        host, _, port = ours.host.partition(":")
        idle = []
        for _ in range(5):
            reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.write(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b"200" in await reader.readline()
            idle.append(writer)
        assert ours.server.senders == 2
        assert (await api("GET", f"/v2/a/blobs/{digest}"))[1] == data
        _, body = await api("GET", f"/v2/a/blobs/{digest}", expect=206, Range=f"bytes=100-{9 * MIB}")
        assert body == data[100 : 9 * MIB + 1]
        for writer in idle:
            writer.transport.abort()
        async with asyncio.timeout(10):
            while ours.server.in_flight:
                await asyncio.sleep(0.02)
        assert ours.server.senders == 0


async def test_a_peer_that_takes_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildtool.registry.sending.SILENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf, (tmp_path / "blob").open("w+b") as file:
        file.truncate(200 * MIB)
        _, writer = await asyncio.open_connection(*deaf.getsockname())
        with pytest.raises(TimeoutError):
            await send_file(writer.transport, file.fileno(), 0, 200 * MIB)
        writer.close()
