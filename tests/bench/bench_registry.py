"""Push and pull against our server and Debian's docker-registry, with our client.

`python -m tests.bench.bench_registry`. Interleaved rounds, medians. Layers hold random bytes; they are compressed
before the clock starts. "raw" downloads the layers without unpacking them: what the server alone can do.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
from yarl import URL

from buildtool.cache import Store
from buildtool.images import Image, Images, LayerSource
from buildtool.oci import ContainerConfig, ImageConfig, RootFS, encode, parse_reference
from buildtool.registry import Registries, RegistryConfig
from buildtool.registry.forms import Making

MIB = 1 << 20
SHAPES = ((1, 256 * MIB), (10, 16 * MIB), (100, MIB))
LARGE = ((10, 64 * MIB),)


class RegistryProcess:
    """A registry under test: its address, its CPU seconds, its peak memory."""

    def __init__(self, name: str, command: list[str], port: int, log: Path) -> None:
        self.name = name
        self.host = f"127.0.0.1:{port}"
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit(f"{name} does not start; see {log}")

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def registries(folder: Path) -> Iterator[list[RegistryProcess]]:
    """Both, on roots of their own."""
    port, other = _free_port(), _free_port()
    program = shutil.which("docker-registry")
    if program is None:
        raise SystemExit("no docker-registry here: apt-get install docker-registry")
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage:\n  filesystem: {{rootdirectory: {folder}/theirs}}\n  cache: {{blobdescriptor: inmemory}}\n"
        f"http: {{addr: '127.0.0.1:{other}'}}\n"
    )
    serve = [
        sys.executable,
        "-m",
        "buildtool.registry.server",
        "--root",
        str(folder / "ours"),
        "--log-level",
        "error",
    ]
    sides = [
        RegistryProcess("buildtool", [*serve, "--addr", f"127.0.0.1:{port}"], port, folder / "ours.log"),
        RegistryProcess("docker-registry", [program, "serve", str(config)], other, folder / "theirs.log"),
    ]
    try:
        yield sides
    finally:
        for side in sides:
            side.end()


def make_image(images: Images, count: int, size: int, name: str) -> Image:
    """An image of `count` layers of random bytes, each with its compressed blob."""
    sources = []
    for number in range(count):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            info = tarfile.TarInfo(f"file{number}")
            info.size = size
            tar.addfile(info, io.BytesIO(os.urandom(size)))
        buffer.seek(0)
        snapshot = images.store.layers.unpack(buffer, compression="")
        diff_id, length = images.store.layers.diff_id(snapshot, 1_600_000_000)
        sources.append(LayerSource(diff_id, length, snapshot, epoch=1_600_000_000))
        with images.store.leases.hold("bench") as lease:
            Making(images.store, sources[-1], lease, lambda done: None).run()
    rootfs = RootFS("layers", [source.diff_id for source in sources])
    config = ImageConfig("amd64", "linux", rootfs, config=ContainerConfig(cmd=[name]))
    return images.add(encode(config), sources, references=[parse_reference(name)])


async def measure(folder: Path, sides: list[RegistryProcess], count: int, size: int, rounds: int) -> None:
    """One shape: push, raw, pull, for each side in turn."""
    seconds: dict[tuple[str, str], list[float]] = {}
    cpu: dict[tuple[str, str], list[float]] = {}
    with Store.open(folder / "pusher") as store:
        images = Images(store)
        for number in range(rounds):
            image = make_image(images, count, size, f"local/x{number}:{count}")
            pusher = Registries(images, RegistryConfig())
            order = sides if number % 2 else sides[::-1]
            for side in order:
                name = f"{side.host}/bench/x{number}:{count}"
                images.tag(image.id, parse_reference(name))
                used, began = side.cpu(), time.perf_counter()
                await pusher.push(parse_reference(name), lambda _: None)
                seconds.setdefault((side.name, "push"), []).append(time.perf_counter() - began)
                cpu.setdefault((side.name, "push"), []).append(side.cpu() - used)
            await pusher.close()
            blobs = [store.layers.blobs_of(layer.diff_id)[0].digest for layer in image.layers]
            for side in order:
                used, began = side.cpu(), time.perf_counter()
                await raw(side, f"bench/x{number}", list(blobs))
                seconds.setdefault((side.name, "raw"), []).append(time.perf_counter() - began)
                cpu.setdefault((side.name, "raw"), []).append(side.cpu() - used)
            for side in order:
                await pull(folder, side, f"{side.host}/bench/x{number}:{count}", seconds, cpu)
    total = count * size / MIB
    for what in ("push", "raw", "pull"):
        ours, theirs = (statistics.median(seconds[side.name, what]) for side in sides)
        our_cpu, their_cpu = (statistics.median(cpu[side.name, what]) for side in sides)
        print(
            f"{count:4} × {size // MIB:4} MiB  {what:5} ours {ours:6.2f} s {total / ours:6.0f} MiB/s, "
            f"theirs {theirs:6.2f} s {total / theirs:6.0f} MiB/s: {theirs / ours:5.2f} × "
            f"(server CPU {our_cpu:.2f} s, {their_cpu:.2f} s)",
            flush=True,
        )


async def pull(
    folder: Path,
    side: RegistryProcess,
    name: str,
    seconds: dict[tuple[str, str], list[float]],
    cpu: dict[tuple[str, str], list[float]],
) -> None:
    """Into a store of its own, which is removed afterwards."""
    target = folder / "puller"
    with Store.open(target) as store:
        client = Registries(Images(store), RegistryConfig())
        used, began = side.cpu(), time.perf_counter()
        await client.pull(name, lambda _: None)
        seconds.setdefault((side.name, "pull"), []).append(time.perf_counter() - began)
        cpu.setdefault((side.name, "pull"), []).append(side.cpu() - used)
        await client.close()
    shutil.rmtree(target)


async def raw(side: RegistryProcess, repository: str, digests: list[str]) -> None:
    """Eight at a time, read and thrown away."""

    async def worker() -> None:
        while digests:
            url = f"http://{side.host}/v2/{repository}/blobs/{digests.pop()}"
            async with session.get(url) as answer:
                assert answer.status == 200, await answer.text()
                async for _ in answer.content.iter_any():
                    pass

    async with aiohttp.ClientSession(auto_decompress=False, read_bufsize=MIB) as session:
        await asyncio.gather(*(worker() for _ in range(8)))


async def manifests(side: RegistryProcess, count: int, workers: int) -> tuple[float, float]:
    """Put and get so many manifests of about 3 KiB; seconds for each."""
    config = b"{}"
    digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    base = f"http://{side.host}/v2/bench/manifests"
    media_type = "application/vnd.oci.image.manifest.v1+json"
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{base}/blobs/uploads/") as answer:
            location = answer.headers["Location"]
        location = location if location.startswith("http") else f"http://{side.host}{location}"
        glue = "&" if "?" in location else "?"
        async with session.put(f"{location}{glue}digest={digest}", data=config) as answer:
            assert answer.status == 201, await answer.text()

        async def each(work: list[int], put: bool) -> None:
            while work:
                number = work.pop()
                url = f"{base}/manifests/t{number}"
                if put:
                    body = (
                        f'{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"application/x",'
                        f'"digest":"{digest}","size":2}},"layers":[],"annotations":{{"n":"{number}{"x" * 2800}"}}}}'
                    )
                    async with session.put(url, data=body, headers={"Content-Type": media_type}) as answer:
                        assert answer.status == 201, await answer.text()
                else:
                    async with session.get(url, headers={"Accept": media_type}) as answer:
                        assert answer.status == 200, await answer.text()
                        await answer.read()

        took = []
        for put in (True, False):
            work = list(range(count))
            began = time.perf_counter()
            await asyncio.gather(*(each(work, put) for _ in range(workers)))
            took.append(time.perf_counter() - began)
    return took[0], took[1]


async def crowd(side: RegistryProcess, clients: int, size: int) -> float:
    """So many clients push a blob of random bytes each at once, in chunks of 1 MiB; the seconds it took."""

    async def push(number: int) -> None:
        chunks = [os.urandom(MIB) for _ in range(size // MIB)]
        digest = f"sha256:{hashlib.sha256(b''.join(chunks)).hexdigest()}"
        base = f"http://{side.host}"
        async with session.post(f"{base}/v2/bench/crowd{number}/blobs/uploads/") as answer:
            location = str(answer.url.join(URL(answer.headers["Location"], encoded=True)))

        async def body() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        async with session.patch(location, data=body()) as answer:
            assert answer.status == 202, await answer.text()
            location = str(answer.url.join(URL(answer.headers["Location"], encoded=True)))
        glue = "&" if "?" in location else "?"
        async with session.put(URL(f"{location}{glue}digest={digest}", encoded=True)) as answer:
            assert answer.status == 201, await answer.text()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(push(number) for number in range(clients)))
        return time.perf_counter() - began


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="10 layers of 64 MiB instead of the other shapes")
    parser.add_argument("--folder", default="/tmp", help="where everything lies; /dev/shm leaves the disk out")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bt-bench-registry-", dir=given.folder))
    try:
        with registries(folder) as sides:
            for count, size in LARGE if given.large else SHAPES:
                await measure(folder, sides, count, size, given.rounds)
            for side in sides:
                put, get = await manifests(side, 1000, 32)
                print(f"1000 manifests at 32: {side.name:16} put {1000 / put:6.0f}/s, get {1000 / get:6.0f}/s")
            for side in sides:
                before, took = side.peak(), await crowd(side, 50, 8 * MIB)
                print(
                    f"50 clients push 8 MiB each: {side.name:16} {took:.1f} s, peak memory {before:.0f} MiB before, "
                    f"{side.peak():.0f} MiB after"
                )
            for side in sides:
                print(f"peak memory: {side.name:16} {side.peak():.0f} MiB")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
