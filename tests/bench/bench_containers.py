"""What a trivial container costs over the service, without HTTP: `python -m tests.bench.bench_containers [COUNT]`.

Prints medians in milliseconds of create, start, wait and remove of `true`, and the processor time of the
daemon's side.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.unit.containers.conftest import World, opened

PHASES = ("create", "start", "wait", "remove", "all")


async def once(world: World, *, auto_remove: bool) -> tuple[list[float], float]:
    """Seconds of each phase, and the processor seconds this process took."""
    containers = world.containers
    body = {
        "Image": "busybox:latest",
        "Cmd": ["true"],
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {"NetworkMode": "none", "AutoRemove": auto_remove},
    }
    processor, moments = time.process_time(), [time.perf_counter()]
    identity, _ = await containers.create(body)
    moments.append(time.perf_counter())
    waiter = await containers.waiter(identity, "next-exit")
    removed = await containers.waiter(identity, "removed")
    await containers.start(identity)
    moments.append(time.perf_counter())
    await waiter
    moments.append(time.perf_counter())
    if not auto_remove:
        await containers.remove(identity)
    await removed
    moments.append(time.perf_counter())
    phases = [after - before for before, after in itertools.pairwise(moments)]
    return [*phases, moments[-1] - moments[0]], time.process_time() - processor


async def main(count: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="bench-containers-") as directory:
        async with opened(Path(directory) / "root") as world:
            for auto_remove in (True, False):
                await once(world, auto_remove=auto_remove)
                runs = [await once(world, auto_remove=auto_remove) for _ in range(count)]
                medians = [
                    statistics.median(values) * 1000 for values in zip(*(phases for phases, _ in runs), strict=True)
                ]
                processor = statistics.median(cpu for _, cpu in runs) * 1000
                text = "  ".join(f"{name} {value:6.2f}" for name, value in zip(PHASES, medians, strict=True))
                print(f"{'--rm' if auto_remove else 'rm  '}  {text}  ms; daemon CPU {processor:.2f} ms")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
