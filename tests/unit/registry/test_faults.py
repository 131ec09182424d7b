"""Registries that lie, stumble and vanish: nothing wrong gets in, nothing half-made stays, retries are bounded."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from buildtool.cache import Pins, Store
from buildtool.errors import BuildtoolError, Corrupt, InvalidInput, NotFound, StoreFull
from buildtool.images import Images
from buildtool.registry import Registries, RegistryConfig
from buildtool.registry.errors import RegistryRefused, RegistryUnreachable
from tests.unit.registry.conftest import QUICK, Running, Side, free_port, make_tar, wait_for_port
from tests.unit.registry.liar import LAYER_BYTES, MANIFEST, Liar, digest_of


async def refused(side: Side, liar: Liar, kind: type[BaseException], match: str, name: str = "x") -> None:
    """The pull fails, and the store is as it was."""
    with pytest.raises(kind, match=match):
        await side.pull(f"{liar.host}/{name}:1")
    assert not side.images.list() and side.is_clean()


async def test_the_honest_case(there: Side, liar: Liar) -> None:
    liar.serve("x", LAYER_BYTES)
    assert there.files(await there.pull(f"{liar.host}/x:1")) == {"file": b"content" * 1000}


async def test_a_blob_of_other_bytes(there: Side, liar: Liar) -> None:
    liar.serve("x", LAYER_BYTES)
    path = f"/v2/x/blobs/{digest_of(LAYER_BYTES)}"
    liar.paths[path] = LAYER_BYTES[:-1] + bytes([LAYER_BYTES[-1] ^ 1])
    await refused(there, liar, BuildtoolError, "digest|diff_id|damaged")
    liar.paths[path] = LAYER_BYTES + b"more"
    await refused(there, liar, Corrupt, "more than the announced")
    liar.paths[path] = os.urandom(len(LAYER_BYTES))
    await refused(there, liar, BuildtoolError, "digest|expected|not|damaged|malformed|truncated")
    assert not list(there.store.blobs.list()) or not there.store.blobs.has(digest_of(LAYER_BYTES))  # type: ignore[arg-type]


async def test_a_blob_that_is_always_too_short(there: Side, liar: Liar) -> None:
    liar.serve("x", LAYER_BYTES)
    liar.paths[f"/v2/x/blobs/{digest_of(LAYER_BYTES)}"] = LAYER_BYTES[:20]
    await refused(there, liar, RegistryUnreachable, "broke off after 20 of")
    assert len([path for _, path in liar.calls if path.endswith(digest_of(LAYER_BYTES))]) <= 8


async def test_a_config_that_promises_another_layer(there: Side, liar: Liar) -> None:
    liar.serve("x", LAYER_BYTES, diff_id="sha256:" + "1" * 64)
    await refused(there, liar, Corrupt, "diff_id")


async def test_a_known_layer_under_a_lying_digest_is_not_remembered(here: Side, liar: Liar) -> None:
    """The content of a blob is checked also when its diff_id is unpacked already."""
    liar.serve("x", LAYER_BYTES)
    await here.pull(f"{liar.host}/x:1")
    known = digest_of(gzip.decompress(LAYER_BYTES))
    here.images.delete(f"{liar.host}/x:1", force=True)
    evil = gzip.compress(make_tar({"file": b"evil"}), mtime=0)
    liar.serve("y", evil, diff_id=known)
    with pytest.raises(Corrupt, match="diff_id"):
        await here.pull(f"{liar.host}/y:1")
    assert digest_of(evil) not in [blob.digest for blob in here.store.layers.blobs_of(known)]  # type: ignore[arg-type]


async def test_hostile_layers(there: Side, liar: Liar) -> None:
    for name in ("../../escaped", "/absolute/../../escaped"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))
        liar.serve("x", gzip.compress(buffer.getvalue(), mtime=0))
        try:
            image = await there.pull(f"{liar.host}/x:1")
            assert all(".." not in path for path in there.files(image))
            there.images.delete(str(image.references[0]), force=True)
        except InvalidInput:
            pass
    assert not list(there.store.root.parent.rglob("escaped")) or there.is_clean()
    assert not (there.store.root.parent / "escaped").exists() and not Path("/escaped").exists()


async def test_hostile_manifests(there: Side, liar: Liar) -> None:
    liar.serve("x", LAYER_BYTES)
    good = json.loads(liar.paths["/v2/x/manifests/1"])
    path = "/v2/x/manifests/1"
    layer = good["layers"][0]
    for change, kind, match in (
        (b"{", Corrupt, "JSON"),
        (b"[]", Corrupt, "JSON|object"),
        ({"schemaVersion": 1, "mediaType": MANIFEST}, Corrupt, "schemaVersion 1"),
        ({**good, "layers": [{**layer, "digest": "sha256:../../../etc/passwd"}]}, Corrupt, "digest"),
        ({**good, "layers": [{**layer, "size": -5}]}, Corrupt, "size"),
        ({**good, "layers": []}, Corrupt, "0"),
        ({**good, "layers": [{**layer, "mediaType": "text/plain"}]}, Corrupt, "media type of a layer"),
        ({**good, "config": {**good["config"], "mediaType": "application/x.helm"}}, NotFound, "no container image"),
        ({**good, "config": {**good["config"], "size": 1 << 40}}, Corrupt, "are not read"),
        ({**good, "mediaType": "application/x-unknown"}, Corrupt, "media type of a manifest"),
    ):
        liar.paths[path] = change if isinstance(change, bytes) else json.dumps(change).encode()
        await refused(there, liar, kind, match)


async def test_an_endless_manifest(there: Side, liar: Liar) -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" " * (1 << 20))
        return response

    liar.paths["/v2/x/manifests/1"] = endless
    await refused(there, liar, RegistryUnreachable, "more than 8388608 bytes")


async def test_a_digest_header_that_does_not_fit(there: Side, liar: Liar) -> None:
    liar.serve("x", LAYER_BYTES)
    body = liar.paths["/v2/x/manifests/1"]

    async def lie(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, headers={"Docker-Content-Digest": "sha256:" + "2" * 64})

    liar.paths["/v2/x/manifests/1"] = lie
    await refused(there, liar, Corrupt, "was to come")
    liar.paths["/v2/x/manifests/sha256:" + "3" * 64] = body
    with pytest.raises(Corrupt, match="was to come"):
        await there.pull(f"{liar.host}/x@sha256:{'3' * 64}")


async def test_busy_registries_are_asked_again(there: Side, liar: Liar) -> None:
    liar.serve("x", LAYER_BYTES)
    body = liar.paths["/v2/x/manifests/1"]
    answers = [503, 429, 200]

    async def busy(request: web.BaseRequest) -> web.StreamResponse:
        status = answers.pop(0)
        headers = {"Retry-After": "0"} if status == 429 else {}
        return web.Response(status=status, body=body if status == 200 else b"busy", headers=headers)

    liar.paths["/v2/x/manifests/1"] = busy
    await there.pull(f"{liar.host}/x:1")
    assert not answers


async def test_retry_after_is_waited_for_and_a_long_one_is_not(there: Side, liar: Liar) -> None:
    liar.serve("x", LAYER_BYTES)
    body = liar.paths["/v2/x/manifests/1"]
    waits = ["1", ""]

    async def later(request: web.BaseRequest) -> web.StreamResponse:
        wait = waits.pop(0)
        return web.Response(status=429, headers={"Retry-After": wait}) if wait else web.Response(body=body)

    liar.paths["/v2/x/manifests/1"] = later
    began = time.monotonic()
    await there.pull(f"{liar.host}/x:1")
    assert time.monotonic() - began >= 1.0
    waits[:] = ["3600"]
    with pytest.raises(RegistryRefused, match="fewer requests"):
        await there.pull(f"{liar.host}/x:1")


async def test_errors_that_do_not_pass_end_soon(there: Side, liar: Liar) -> None:
    async def broken(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=500, text="oops")

    liar.paths["/v2/x/manifests/1"] = broken
    await refused(there, liar, RegistryRefused, "answered 500: oops")
    assert len(liar.calls) == 5  # the ping and four tries


async def test_nobody_there(there: Side) -> None:
    with pytest.raises(RegistryUnreachable, match=r"cannot reach the registry 127\.0\.0\.1:\d+: Connection refused"):
        await there.pull(f"127.0.0.1:{free_port()}/x:1")


async def test_a_web_server_is_no_registry(there: Side, liar: Liar) -> None:
    async def page(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404, text="<html>")

    liar.handle, handle = page, liar.handle  # type: ignore[method-assign]
    server = web.Server(page)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        with pytest.raises(RegistryUnreachable, match="this is no registry"):
            await there.pull(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}/x:1")
    finally:
        liar.handle = handle  # type: ignore[method-assign]
        listening.close()
        await server.shutdown(0.1)


async def test_a_damaged_layer_is_not_pushed(here: Side, ours: Running) -> None:
    image = here.make(f"{ours.host}/x:1", {"a": b"good"})
    snapshot = image.layers[0].snapshot
    assert snapshot is not None
    (here.store.snapshots.fs(snapshot) / "a").write_bytes(b"bad!")
    with pytest.raises(Corrupt, match="is damaged"):
        await here.push(f"{ours.host}/x:1")
    assert not here.store.leftovers()


class ServerProcess:
    """Our server in a process of its own."""

    def __init__(self, root: Path, port: int, *flags: str) -> None:
        command = [sys.executable, "-m", "buildtool.registry.server", "--root", str(root)]
        self.process = subprocess.Popen(
            [*command, "--addr", f"127.0.0.1:{port}", "--log-level", "error", *flags], stdout=subprocess.DEVNULL
        )
        wait_for_port(port, self.process)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.mark.parametrize("bucket", [False, True])
async def test_a_server_killed_during_fifty_pushes_loses_nothing_acknowledged(
    here: Side, there: Side, tmp_path: Path, bucket: bool
) -> None:
    """And shows nothing that is not whole; `registry verify` finds nothing wrong, and all can be pushed again."""
    root, port = tmp_path / "killed", free_port()
    host, place = f"127.0.0.1:{port}", f"file://{tmp_path}/bucket"
    flags = ["--bucket", place] if bucket else []
    server = ServerProcess(root, port, *flags)
    try:
        done = here.make(f"{host}/done:1", {"a": os.urandom(200_000)})
        await here.push(f"{host}/done:1")
        images = [here.make(f"{host}/many:{n}", {str(n): os.urandom((1 + n % 8) << 16)}) for n in range(49)]
        images.append(here.make(f"{host}/many:last", {"last": os.urandom(32 << 20)}))
        pushes = [asyncio.ensure_future(here.registries.push(i.references[0], lambda _: None)) for i in images]
        while sum(push.done() for push in pushes) < 5:
            await asyncio.wait([push for push in pushes if not push.done()], return_when=asyncio.FIRST_COMPLETED)
        server.end(signal.SIGKILL)
        outcomes = await asyncio.gather(*pushes, return_exceptions=True)
    finally:
        server.process.kill()
        server.process.wait()
    acknowledged = [image for image, one in zip(images, outcomes, strict=True) if not isinstance(one, BaseException)]
    assert 5 <= len(acknowledged) < len(images)
    assert all(isinstance(one, BuildtoolError) for one in outcomes if isinstance(one, BaseException))

    if not bucket:
        with Store.open(root) as store:
            assert not store.check() and not store.leftovers()
    assert "all well" in _verify(*(["--bucket", place] if bucket else ["--root", str(root)]))
    server = ServerProcess(root, port, *flags)
    try:
        for image in [done, *acknowledged]:
            assert (await there.pull(str(image.references[0]))).id == image.id
        for image in (image for image in images if image not in acknowledged):
            with contextlib.suppress(NotFound):  # or its answer was lost: then all of it is there
                assert (await there.pull(str(image.references[0]))).id == image.id
        for image in images:
            await here.push(str(image.references[0]))
        assert server.end() == 0
    finally:
        server.process.kill()
        server.process.wait()
    assert "51 manifests, 51 tags: all well" in _verify(*(["--bucket", place] if bucket else ["--root", str(root)]))


def _verify(*where: str) -> str:
    program = str(Path(sys.executable).with_name("buildtool"))
    done = subprocess.run([program, "registry", "verify", *where], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


_PULLER = """
import asyncio, os, sys
from pathlib import Path
from buildtool.cache import Store
from buildtool.images import Images
from buildtool.registry import Registries, RegistryConfig

async def main():
    with Store.open(Path(sys.argv[1])) as store:
        def tell(message):
            if message.get("status") == "Downloading" and message["progressDetail"]["current"] > 1000000:
                os.kill(os.getpid(), 9)
        await Registries(Images(store), RegistryConfig()).pull(sys.argv[2], tell)

asyncio.run(main())
"""


async def test_a_client_killed_in_the_middle_of_a_pull_leaves_a_valid_store(
    here: Side, ours: Running, make_side: Callable[..., Side], tmp_path: Path
) -> None:
    image = here.make(f"{ours.host}/x:1", {"big": os.urandom(8 << 20)})
    await here.push(f"{ours.host}/x:1")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PULLER, str(tmp_path / "victim"), f"{ours.host}/x:1"
    )
    assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGKILL
    side = make_side("victim")
    assert side.is_clean() and not side.images.list()
    assert (await side.pull(f"{ours.host}/x:1")).id == image.id


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_of_the_server(here: Side, there: Side, small_disk: Path) -> None:
    port = free_port()
    host = f"127.0.0.1:{port}"
    server = ServerProcess(small_disk / "registry", port)
    try:
        small = here.make(f"{host}/x:small", {"a": os.urandom(100_000)})
        here.make(f"{host}/x:large", {"a": os.urandom(20 << 20)})
        with pytest.raises(BuildtoolError, match="disk is full"):
            await here.push(f"{host}/x:large")
        await here.push(f"{host}/x:small")
        assert (await there.pull(f"{host}/x:small")).id == small.id
    finally:
        assert server.end() == 0
    with Store.open(small_disk / "registry") as store:
        assert not store.check() and not store.leftovers()


async def test_a_full_disk_under_a_bucket(here: Side, there: Side, small_disk: Path, tmp_path: Path) -> None:
    port = free_port()
    host = f"127.0.0.1:{port}"
    (small_disk / "bucket").mkdir()
    server = ServerProcess(tmp_path / "registry", port, "--bucket", f"file://{small_disk}/bucket")
    try:
        before = here.make(f"{host}/x:before", {"a": os.urandom(100_000)})
        await here.push(f"{host}/x:before")
        here.make(f"{host}/x:large", {"a": os.urandom(20 << 20)})
        with pytest.raises(BuildtoolError, match="disk is full"):
            await here.push(f"{host}/x:large")
        assert (await there.pull(f"{host}/x:before")).id == before.id  # what was acknowledged is there
        with pytest.raises(NotFound):
            await there.pull(f"{host}/x:large")  # and what was not is not
        after = here.make(f"{host}/x:after", {"a": os.urandom(100_000)})
        await here.push(f"{host}/x:after")  # what the refused push wrote takes no space
        assert (await there.pull(f"{host}/x:after")).id == after.id
    finally:
        assert server.end() == 0


async def test_a_full_disk_of_the_puller(here: Side, ours: Running, small_disk: Path) -> None:
    name = f"{ours.host}/x:1"
    here.make(name, {"a": os.urandom(8 << 20)})
    await here.push(name)
    with Store.open(small_disk / "store") as store:
        registries = Registries(Images(store), RegistryConfig(), QUICK)
        with pytest.raises(StoreFull):
            await registries.pull(name, lambda _: None)
        await registries.close()
        await asyncio.sleep(0.1)  # gc spares what was made up to a clock tick before it began
        store.gc(Pins())
        assert not store.check() and not store.leftovers() and not list(store.blobs.list())
