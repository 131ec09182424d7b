"""Figures of the runtime: container start to end, memory of spawner and shim, output throughput.

Run as root: `.venv/bin/python tests/bench/bench_runtime.py [ROUNDS]`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from buildtool.runtime import Bundle, LogConfig, Rootfs, Runtime, SpecOptions, Task, container_spec


def image(root: Path) -> Path:
    """A busybox tree."""
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in ("sh", "true", "sleep", "cat", "head", "yes"):
        (root / "bin" / applet).symlink_to("busybox")
    return root


def bundle(base: Path, lower: Path, name: str, args: list[str], *, log: bool = True) -> Bundle:
    upper, work = base / "snapshots" / name / "fs", base / "snapshots" / name / "work"
    upper.mkdir(parents=True)
    work.mkdir()
    spec = container_spec(SpecOptions(id=name, args=args, env=["PATH=/bin"], hostname=name, cgroup_parent="/bench"))
    directory = base / "containers" / name
    config = LogConfig("json-file", directory / "log") if log else LogConfig()
    return Bundle(id=name, directory=directory, spec=spec, rootfs=Rootfs([lower], upper, work), log=config)


async def life(runtime: Runtime, one: Bundle) -> tuple[float, ...]:
    marks = [time.perf_counter()]
    task = await runtime.create(one)
    marks.append(time.perf_counter())
    await task.start()
    marks.append(time.perf_counter())
    status = await task.wait()
    marks.append(time.perf_counter())
    await task.delete()
    marks.append(time.perf_counter())
    assert status.code == 0, status
    return (*(after - before for before, after in itertools.pairwise(marks)), marks[-1] - marks[0])


def memory(pid: int) -> dict[str, int]:
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value = line.split(":")
        fields[key] = int(value.split()[0])
    return fields


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def throughput(runtime: Runtime, one: Bundle, size: int) -> float:
    task = await runtime.create(one)
    stream = await task.attach(stdout=True, stderr=True)
    started = time.perf_counter()
    await task.start()
    received = 0
    while data := await stream.read():
        received += len(data)
    elapsed = time.perf_counter() - started
    stream.close()
    await task.wait()
    await task.delete()
    assert received >= size
    return size / elapsed / 1e6


async def main(rounds: int) -> None:
    base = Path(tempfile.mkdtemp(prefix="runtime-bench-"))
    lower = image(base / "image")
    runtime = await Runtime.launch(base / "run", state_dir=base / "containers")
    tasks: list[Task] = []
    try:
        for number in range(3):
            await life(runtime, bundle(base, lower, f"warm{number}", ["true"]))
        rows = [await life(runtime, bundle(base, lower, f"r{number}", ["true"])) for number in range(rounds)]
        for label, column in zip(
            ("create", "start", "wait", "delete", "total"), zip(*rows, strict=True), strict=True
        ):
            print(f"{label:7} median {statistics.median(column) * 1e3:6.2f} ms   min {min(column) * 1e3:6.2f} ms")
        started = time.perf_counter()
        await asyncio.gather(*(life(runtime, bundle(base, lower, f"p{number}", ["true"])) for number in range(50)))
        print(f"50 at once: {(time.perf_counter() - started) / 50 * 1e3:.2f} ms each")

        assert runtime.spawner_pid is not None
        for number in range(3):
            task = await runtime.create(bundle(base, lower, f"m{number}", ["sleep", "100"]))
            await task.start()
            tasks.append(task)
        await asyncio.sleep(0.2)
        spawner, shim = memory(runtime.spawner_pid), memory(parent(tasks[0].pid))
        print(
            f"spawner: Rss {spawner['Rss']} kB, Pss {spawner['Pss']} kB, Private_Dirty {spawner['Private_Dirty']} kB"
        )
        print(f"shim:    Rss {shim['Rss']} kB, Pss {shim['Pss']} kB, Private_Dirty {shim['Private_Dirty']} kB")
        size = 50_000_000
        script = ["sh", "-c", f"head -c {size} /dev/zero"]
        rate = await throughput(runtime, bundle(base, lower, "flow", script, log=False), size)
        print(f"attach without log: {rate:.0f} MB/s")
        lines = [
            "sh",
            "-c",
            f"yes 'a line of some ordinary length, as programs log them' | head -c {size // 5}",
        ]
        rate = await throughput(runtime, bundle(base, lower, "lines", lines), size // 5)
        print(f"attach with json-file log, short lines: {rate:.0f} MB/s")
    finally:
        for task in tasks:
            await task.delete()
        await runtime.close()
        shutil.rmtree(base)
        for controller in os.listdir("/sys/fs/cgroup"):
            place = Path("/sys/fs/cgroup", controller, "bench")
            if place.is_dir():
                place.rmdir()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 40))
