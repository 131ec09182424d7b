"""What the solver itself costs, without daemon, client and HTTP: `python -m tests.bench.bench_solver [files]`.

Medians in milliseconds: a cached build of ten steps; COPY of many files into an empty store, unchanged, and with one
file touched; planning of 10, 100 and 1000 steps and of 200 stages; 1000 records looked up. With `growth` instead of a
number: how the cost of a build grows with files and steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
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
    text = "FROM busybox AS s0\nRUN make 0\n"
    for n in range(1, 200):
        text += f"FROM busybox AS s{n}\nCOPY --from=s{n - 1} /out /in\nRUN make {n}\nENV N={n}\nRUN test {n}\n"
    began = time.perf_counter()
    plan(parse(text), PlanOptions(), bases)
    show("parse and plan 200 stages (wanted: < 1000)", (time.perf_counter() - began) * 1000)


def bench_records(root: Path, count: int = 1000) -> None:
    """Looking up records that no build of this process has seen: straight from disk."""
    from buildtool.oci import sha256
    from buildtool.solve.records import Records, StepResult

    store = Store.open(root / "records")
    records = Records(store)
    with store.snapshots.prepare() as draft:
        snapshot = draft.commit()
    keys = [sha256(f"key {n}".encode()) for n in range(count)]
    for key in keys:
        records.put(
            key, {"step": {"op": "exec", "args": ["/bin/sh", "-c", "make " + "x" * 200]}}, StepResult(snapshot, 1)
        )
    store.close()
    for when in ("from disk", "from memory"):
        if when == "from disk":
            store = Store.open(root / "records")
            records = Records(store)
        began = time.perf_counter()
        with store.leases.hold("bench") as lease:
            found = records.find_all(keys, lease)
        show(f"look up {count} records, {when} (wanted: < 50)", (time.perf_counter() - began) * 1000)
        assert len(found) == count
    store.close()


async def bench_growth(root: Path) -> None:
    """The cost of cached builds at ten times the size, and ten times that: about ten times, if it is linear."""
    kinds = {
        "files": (_grown_files, (1_000, 10_000, 100_000)),
        "steps": (_grown_steps, (10, 100, 1000)),
        "layers": (_grown_layers, (1, 10, 100)),
    }
    for label, (measure, sizes) in kinds.items():
        before: dict[str, float] = {}
        for size in sizes:
            folder = root / f"{label}-{size}"
            folder.mkdir()
            found = await measure(folder, size)
            for what, milliseconds in found.items():
                factor = f"  x {milliseconds / before[what]:.1f}" if what in before else ""
                print(f"{f'{what}, {size} {label}':<52} {milliseconds:>9.1f} ms{factor}", flush=True)
            before = found
            shutil.rmtree(folder)


async def _grown_files(folder: Path, size: int) -> dict[str, float]:
    context = folder / "context"
    for number in range(size):
        directory = context / f"d{number // 1000:03}" / f"d{number // 100:04}"
        if number % 100 == 0:
            directory.mkdir(parents=True)
        (directory / f"f{number:06}").write_bytes(b"%d" % number)
    await asyncio.sleep(0.1)
    found: dict[str, float] = {}
    async with _builder(folder) as builder:

        async def build() -> None:
            request = BuildRequest(dockerfile="FROM busybox\nCOPY . /src\n", context=context)
            await builder.build(request, lambda event: None)

        found["first"] = await timed(build, 1)
        await build()
        found["unchanged"] = await timed(build, 3)
        (context / "d000" / "d0000" / "f000007").write_text("touched")
        found["one changed"] = await timed(build, 1)
    return found


async def _grown_steps(folder: Path, size: int) -> dict[str, float]:
    """Stages of ten steps each, and a last one that copies from each of them."""
    (folder / "context").mkdir()
    found: dict[str, float] = {}
    text = copies = ""
    for n in range(size // 10):
        text += f"FROM busybox AS s{n}\n" + "".join(f"WORKDIR /s{n}/{k}\n" for k in range(9))
        copies += f"COPY --from=s{n} /s{n} /s{n}\n"
    text += f"FROM busybox\n{copies}"
    async with _builder(folder) as builder:

        async def build(text: str) -> None:
            await builder.build(BuildRequest(dockerfile=text, context=folder / "context"), lambda event: None)

        found["first"] = await timed(lambda: build(text), 1)
        found["unchanged"] = await timed(lambda: build(text), 3)
        found["other config"] = await timed(lambda: build(f"{text}ENV X=2\n"), 1)
    return found


async def _grown_layers(folder: Path, size: int) -> dict[str, float]:
    """A base of so many layers: a COPY and a RUN on it."""
    context = folder / "context"
    context.mkdir()
    (context / "a").write_text("a")
    found: dict[str, float] = {}
    base = "FROM busybox\n" + "".join(f"WORKDIR /d{n}\n" for n in range(size))
    async with _builder(folder) as builder:

        async def build(text: str, tag: str = "grown") -> None:
            request = BuildRequest(dockerfile=text, context=context, tags=(tag,))
            await builder.build(request, lambda event: None)

        await build(base, "base")
        await build("FROM base\nRUN true\n")
        found["COPY and RUN on them"] = await timed(lambda: build("FROM base\nCOPY a /a\nRUN echo a > /b\n"), 1)
        found["unchanged"] = await timed(lambda: build("FROM base\nCOPY a /a\nRUN echo a > /b\n"), 3)
    return found


@contextlib.asynccontextmanager
async def _builder(root: Path) -> AsyncIterator[Builder]:
    store = Store.open(root / "data")
    images = Images(store)
    images.import_tar(busybox_rootfs(), reference=parse_reference("busybox"))
    runtime = await Runtime.launch(root / "run", state_dir=root / "state")
    builder = Builder(store, images, runtime, root / "run")
    yield builder
    await builder.close()
    await runtime.close()
    store.close()


def main() -> None:
    """Run all of it in a temporary directory. `growth` as argument: only how costs grow."""
    root = Path(tempfile.mkdtemp(prefix="solve-bench-", dir="/tmp"))
    try:
        if sys.argv[1:] == ["growth"]:
            asyncio.run(bench_growth(root))
            return
        asyncio.run(bench_builds(root, int(sys.argv[1]) if len(sys.argv) > 1 else FILES))
        bench_plans()
        bench_records(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
