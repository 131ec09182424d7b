"""Run by test_cgroup_v2 where only version 2 control groups are mounted; prints JSON."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path

from buildtool.runtime import Bundle, Rootfs, Runtime, SpecOptions, container_spec


async def main(lower: Path) -> None:
    base = Path(tempfile.mkdtemp(prefix="bt-v2-"))
    runtime = await Runtime.launch(base / "run", state_dir=base / "containers")
    answers: dict[str, object] = {}
    try:
        for mode in ("private", "host"):
            upper, work = base / mode / "fs", base / mode / "work"
            upper.mkdir(parents=True)
            work.mkdir()
            script = "cat /proc/self/cgroup /proc/mounts; ls /sys/fs/cgroup; (: < /dev/kmsg); sleep 100"
            options = SpecOptions(
                id=f"v2-{mode}", args=["sh", "-c", script], env=["PATH=/bin"], cgroup=mode, cap_add=["SYSLOG"],
                cgroup_parent="/bt-test-v2", resources={"memory": {"limit": 1 << 26}},
                devices=[{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "access": "m"}],
            )  # fmt: skip
            task = await runtime.create(
                Bundle(options.id, base / mode / "bundle", container_spec(options), Rootfs([lower], upper, work))
            )
            async with await task.attach() as stream:
                await task.start()
                text = b""
                while b"Operation" not in text:
                    text += await stream.read()
            await task.pause()
            await task.resume()
            stats = await task.stats()
            answers[mode] = [text.decode(errors="replace"), task.warnings, stats.unified, await task.pids() != []]
            await task.delete()
    finally:
        await runtime.close()
        answers["log"] = (base / "run/spawner.log").read_text()
        shutil.rmtree(base)
        Path("/sys/fs/cgroup/bt-test-v2").rmdir()
    print(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
