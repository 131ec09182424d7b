"""Real stores, our server in this process, Debian's registry in another, and a proxy that cuts. All on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import io
import secrets
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from buildtool.cache import Store
from buildtool.images import Image, Images, LayerSource
from buildtool.oci import ContainerConfig, ImageConfig, RootFS, encode, parse_reference
from buildtool.registry import Registries, RegistryConfig, RetryPolicy
from buildtool.registry.server.app import Server, Settings
from buildtool.registry.server.bucket import Bucket
from buildtool.registry.server.objects import ObjectRepositories
from buildtool.registry.server.shared_uploads import SharedUploads

if TYPE_CHECKING:
    from tests.unit.registry.liar import Liar

QUICK = RetryPolicy(attempts=4, base=0.01, longest=0.05, patience=2.0)
EPOCH = 1_600_000_000
LONGEST = 60.0  # seconds for one push or pull: what takes longer hangs


def make_tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mtime, info.mode, info.size = 1_700_000_000, 0o644, len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Side:
    """A machine: a store, its images, its registry client, and what the client told of the last operation."""

    store: Store
    images: Images
    registries: Registries
    told: list[dict[str, Any]] = field(default_factory=list)

    def make(self, name: str, *layers: Mapping[str, bytes], architecture: str = "amd64") -> Image:
        """An image as a build leaves it: its layers exist only unpacked."""
        sources = []
        for files in layers:
            snapshot = self.store.layers.unpack(io.BytesIO(make_tar(files)), compression="")
            diff_id, size = self.store.layers.diff_id(snapshot, EPOCH)
            sources.append(LayerSource(diff_id, size, snapshot, epoch=EPOCH))
        rootfs = RootFS("layers", [source.diff_id for source in sources])
        config = ImageConfig(architecture, "linux", rootfs, config=ContainerConfig(cmd=["sh"]))
        return self.images.add(encode(config), sources, references=[parse_reference(name).with_default_tag()])

    def tell(self, message: dict[str, Any]) -> None:
        self.told.append(message)

    async def push(self, name: str, **options: Any) -> Any:
        self.told.clear()
        async with asyncio.timeout(LONGEST):
            return await self.registries.push(parse_reference(name), self.tell, **options)

    async def pull(self, name: str, **options: Any) -> Image:
        self.told.clear()
        async with asyncio.timeout(LONGEST):
            return await self.registries.pull(name, self.tell, **options)

    def said(self, status: str) -> list[str]:
        """The layers of which this was said."""
        return [message["id"] for message in self.told if message.get("status", "").startswith(status)]

    def files(self, image: Image) -> dict[str, bytes]:
        """The regular files of the image's layers."""
        found: dict[str, bytes] = {}
        for snapshot in self.images.snapshots(image):
            top = self.store.snapshots.fs(snapshot)
            found |= {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
        return found

    def is_clean(self) -> bool:
        """Whether the store is whole and nothing half-made is left in it."""
        return not self.store.check() and not self.store.leftovers()


@pytest.fixture
async def make_side(tmp_path: Path) -> AsyncIterator[Callable[..., Side]]:
    """`make_side("name")` opens one more machine."""
    opened: list[Side] = []

    def make(name: str, config: RegistryConfig | None = None, retry: RetryPolicy = QUICK) -> Side:
        store = Store.open(tmp_path / name)
        images = Images(store)
        opened.append(Side(store, images, Registries(images, config or RegistryConfig(), retry)))
        return opened[-1]

    yield make
    for side in opened:
        await side.registries.close()
        side.store.close()


@pytest.fixture
def here(make_side: Callable[..., Side]) -> Side:
    """The machine that pushes."""
    return make_side("here")


@pytest.fixture
def there(make_side: Callable[..., Side]) -> Side:
    """Another one, that pulls."""
    return make_side("there")


@dataclass
class Running:
    """Our server: `host` is its `127.0.0.1:port`."""

    host: str
    server: Server
    store: Store

    @property
    def url(self) -> str:
        return f"http://{self.host}"


@pytest.fixture
async def make_server(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    """`await make_server(access=…)` starts our server in this process; with `bucket` it keeps everything there."""
    async with contextlib.AsyncExitStack() as stack:
        count = iter(range(100))

        async def make(
            tls: Any = None, bucket: Bucket | None = None, redirect: bool = False, **options: Any
        ) -> Running:
            store = stack.enter_context(Store.open(tmp_path / f"registry{next(count)}"))
            settings = Settings(**options)
            if bucket is None:
                server = Server(store, settings)
            else:
                writable = ObjectRepositories(bucket, settings.immutable, redirect=redirect)
                server = Server(store, settings, writable=writable, uploads=SharedUploads(store, bucket))
            protocol = await server.open()
            stack.push_async_callback(server.close)
            stack.push_async_callback(protocol.shutdown, 0.1)
            listening = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=tls)
            stack.callback(listening.close)
            return Running(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", server, store)

        yield make


@pytest.fixture
async def ours(make_server: Callable[..., Awaitable[Running]]) -> Running:
    """Our server, open to everybody."""
    return await make_server()


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a server that speaks S3; skips where there is none."""
    program = Path(sys.executable).with_name("moto_server")
    pytest.importorskip("obstore")
    if not program.exists():
        pytest.skip("there is no moto_server in this environment")
    port = free_port()
    command = [str(program), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process, 30.0)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def s3_options(url: str) -> dict[str, str]:
    """What `--s3-option` is given to speak to it."""
    return {"endpoint": url, "region": "us-east-1", "access_key_id": "test", "secret_access_key": "test"}


@pytest.fixture
def bucket(s3: str) -> Bucket:
    """A bucket of its own."""
    name = f"b{secrets.token_hex(8)}"
    with urllib.request.urlopen(urllib.request.Request(f"{s3}/{name}", method="PUT")) as answer:
        assert answer.status == 200
    return Bucket.open(f"s3://{name}/some/prefix", s3_options(s3))


@pytest.fixture
def folder_bucket(tmp_path: Path) -> Bucket:
    """A folder in the place of a bucket."""
    return Bucket.open(f"file://{tmp_path}/bucket", {})


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The `host:port` of Debian's docker-registry; skips where it is not installed."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("there is no docker-registry on this machine")
    folder = tmp_path_factory.mktemp("docker-registry")
    port = free_port()
    (folder / "config.yml").write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage:\n  filesystem: {{rootdirectory: {folder}/data}}\n  delete: {{enabled: true}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        wait_for_port(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_for_port(port: int, process: subprocess.Popen[Any], seconds: float = 15.0) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError("the registry did not start")


@pytest.fixture(params=["ours", "debian"])
def host(request: pytest.FixtureRequest) -> str:
    """The address of a registry: once ours, once Debian's."""
    if request.param == "debian":
        return str(request.getfixturevalue("debian"))
    return str(request.getfixturevalue("ours").host)


@dataclass
class Cutter:
    """A proxy that lets `limits[i]` bytes of the i-th large transfer through and then cuts it; later ones pass.

    `direction`: "down" counts what the registry sends, "up" what it is sent.
    """

    upstream: str
    direction: str = "down"
    limits: list[int] = field(default_factory=list)
    host: str = ""
    cuts: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address, _, port = self.upstream.rpartition(":")
        try:
            up_reader, up_writer = await asyncio.open_connection(address, int(port))
        except OSError:
            writer.transport.abort()
            return
        budget = _Budget(self)
        tasks = [
            asyncio.ensure_future(_pump(reader, up_writer, budget if self.direction == "up" else None)),
            asyncio.ensure_future(_pump(up_reader, writer, budget if self.direction == "down" else None)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in (writer, up_writer):
            one.transport.abort()


class _Budget:
    def __init__(self, cutter: Cutter) -> None:
        self._cutter = cutter
        self._passed = 0

    def allows(self, size: int) -> int:
        """How much of a piece passes."""
        limits = self._cutter.limits
        if not limits:
            return size
        left = limits[0] - self._passed
        self._passed += size
        if left > size:
            return size
        limits.pop(0)
        self._cutter.cuts += 1
        return -max(1, left)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: _Budget | None) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            allowed = len(data) if budget is None else budget.allows(len(data))
            writer.write(data[: abs(allowed)])
            await writer.drain()
            if allowed < 0:
                await asyncio.sleep(0.02)  # what was let through arrives
                return


@pytest.fixture
async def make_cutter() -> AsyncIterator[Callable[..., Awaitable[Cutter]]]:
    """`await make_cutter(host, "down", [bytes, …])` starts a proxy before a registry."""
    servers: list[asyncio.Server] = []

    async def make(upstream: str, direction: str, limits: Sequence[int]) -> Cutter:
        cutter = Cutter(upstream, direction, list(limits))
        servers.append(await asyncio.start_server(cutter.serve, "127.0.0.1", 0))
        cutter.host = f"127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}"
        return cutter

    yield make
    for server in servers:
        server.close()


@pytest.fixture
async def liar() -> AsyncIterator[Liar]:
    """A registry that says what the test tells it to."""
    from tests.unit.registry.liar import Liar

    liar = Liar()
    server = web.Server(liar.handle)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    liar.host = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield liar
    listening.close()
    await server.shutdown(0.1)
