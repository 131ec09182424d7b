"""What the solver itself costs, without daemon, client and HTTP: `python -m tests.bench.bench_solver [files]`.

Medians in milliseconds: a cached build of ten steps; COPY of many files into an empty store, unchanged, and with one
file touched; planning of 10, 100 and 1000 steps.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from buildtool.buildfile import parse
from buildtool.cache import Store
from buildtool.graph import BaseImage, PlanOptions, image_key, plan
from buildtool.images import Images
from buildtool.oci import host_platform, parse_reference
from buildtool.runtime import Runtime
from buildtool.solve import Builder, BuildRequest
from tests.unit.solve.fixtures import busybox_rootfs

FILES = 10_000


async def timed(work: Callable[[], Awaitable[object]], times: int = 9) -> float:
    """The median of some runs, in milliseconds."""
    found = []
    for _ in range(times):
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        await work()
        found.append(time.perf_counter() - began)
    return statistics.median(found) * 1000


def show(what: str, milliseconds: float) -> None:
    print(f"{what:<52} {milliseconds:>9.1f} ms")


async def bench_builds(root: Path, files: int) -> None:
    store = Store.open(root / "data")
    images = Images(store)
    images.import_tar(busybox_rootfs(), reference=parse_reference("busybox"))
    runtime = await Runtime.launch(root / "run", state_dir=root / "state")
    builder = Builder(store, images, runtime, root / "run")
    context = root / "context"
    context.mkdir()

    def build(text: str) -> Callable[[], Awaitable[object]]:
        request = BuildRequest(dockerfile=text, context=context, tags=("bench:latest",))
        return lambda: builder.build(request, lambda event: None)

    ten = build("FROM busybox\n" + "".join(f"RUN echo {number}\n" for number in range(8)) + "COPY . /src\n")
    (context / "file").write_text("content")
    show("10 steps, nothing cached (and imports)", await timed(ten, 1))
    show("10 steps, all cached", await timed(ten))
    runs = 0

    async def eight() -> None:
        nonlocal runs
        runs += 1
        await build("FROM busybox\n" + "".join(f"RUN echo {runs}.{number}\n" for number in range(8)))()

    show("8 tiny RUN steps, nothing cached", await timed(eight, 5))
    for number in range(files):
        directory = context / f"d{number // 100:04}"
        directory.mkdir(exist_ok=True)
        (directory / f"f{number:06}").write_bytes(os.urandom(200 + number % 1000))
    copy = build("FROM busybox\nCOPY . /src\n")
    time.sleep(0.1)
    show(f"COPY of {files} files, first", await timed(copy, 1))
    show(f"COPY of {files} files, second (racy entries)", await timed(copy, 1))
    show(f"COPY of {files} files, unchanged", await timed(copy))
    turn = 0

    async def touched() -> None:
        nonlocal turn
        turn += 1
        (context / "d0000" / "f000007").write_text(f"touched {turn}")
        await copy()

    show(f"COPY of {files} files, one changed", await timed(touched, 5))
    await builder.close()
    await runtime.close()
    store.close()


def bench_plans() -> None:
    from buildtool.oci import ImageConfig, RootFS, sha256

    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS("layers", [sha256(b"")]))
    bases = {image_key("busybox", host_platform()): BaseImage("busybox", config)}
    for count in (10, 100, 1000):
        text = "FROM busybox\n" + "".join(f"ENV A{n % 7}={n}\nRUN make {n}\n" for n in range(count))
        began = time.perf_counter()
        buildfile = parse(text)
        parsed = time.perf_counter()
        plan(buildfile, PlanOptions(), bases)
        show(f"parse {2 * count + 1} instructions", (parsed - began) * 1000)
        show(f"plan {count} steps", (time.perf_counter() - parsed) * 1000)


def main() -> None:
    """Run all of it in a temporary directory."""
    root = Path(tempfile.mkdtemp(prefix="solve-bench-", dir="/tmp"))
    try:
        asyncio.run(bench_builds(root, int(sys.argv[1]) if len(sys.argv) > 1 else FILES))
        bench_plans()
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
