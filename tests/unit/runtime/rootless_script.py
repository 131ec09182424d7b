"""Run by test_rootless as a plain user: makes a user namespace and runs containers in it; prints JSON."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from buildtool.errors import BuildtoolError
from buildtool.runtime import Bundle, ResolvedUser, Rootfs, Runtime, SpecOptions, Task, container_spec
from buildtool.runtime.spec import capability_set, process_spec
from buildtool.runtime.userns import enter_user_namespace


def image(root: Path) -> Path:
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "gone").write_text("")
    (root / "opaque/inner").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in ("sh", "id", "rm", "ls", "cat", "mount", "grep", "stat", "touch", "ip", "tty", "mkdir", "sleep"):
        (root / "bin" / applet).symlink_to("busybox")
    return root


async def run(runtime: Runtime, base: Path, lower: Path, name: str, script: str, **options: object) -> list[object]:
    upper, work = base / name / "fs", base / name / "work"
    upper.mkdir(parents=True)
    work.mkdir()
    tty = bool(options.get("tty"))
    spec = container_spec(
        SpecOptions(id=name, args=["sh", "-c", script], env=["PATH=/bin"], rootless=True, **options)  # type: ignore[arg-type]
    )
    directory = base / name / "bundle"
    bundle = Bundle(id=name, directory=directory, spec=spec, rootfs=Rootfs([lower], upper, work), tty=tty)
    try:
        task = await runtime.create(bundle)
    except BuildtoolError as error:
        return [-1, str(error)]
    async with await task.attach() as stream:
        await task.start()
        data = b""
        while chunk := await stream.read():
            data += chunk
    status = await task.wait()
    await task.delete()
    if not tty:
        text = b""
        while data:
            size = int.from_bytes(data[4:8], "big")
            text += data[8 : 8 + size]
            data = data[8 + size :]
        data = text
    return [status.code, data.decode()]


async def exec_in(runtime: Runtime, base: Path, lower: Path) -> int:
    upper, work = base / "ex/fs", base / "ex/work"
    upper.mkdir(parents=True)
    work.mkdir()
    spec = container_spec(SpecOptions(id="ex", args=["sleep", "100"], env=["PATH=/bin"], rootless=True))
    task: Task = await runtime.create(
        Bundle(id="ex", directory=base / "ex/bundle", spec=spec, rootfs=Rootfs([lower], upper, work))
    )
    await task.start()
    process = process_spec(
        args=["sh", "-c", "exit 7"],
        env=["PATH=/bin"],
        cwd="/",
        user=ResolvedUser(),
        capabilities=capability_set((), ()),
    )
    one = await task.exec(process, tty=False, stdin=False, id="e")
    await one.start()
    code = (await one.wait()).code
    await task.delete()
    return code


async def main() -> None:
    base = Path(tempfile.mkdtemp(prefix="bt-rootless-"))
    lower = image(base / "image")
    runtime = await Runtime.launch(base / "run", state_dir=base / "containers")
    answers: dict[str, object] = {"uid": os.getuid(), "map": Path("/proc/self/uid_map").read_text().split()}
    try:
        script = (
            "id -u; grep ' / ' /proc/mounts; rm -r /gone /opaque; mkdir /opaque; touch /made; ls /dev; "
            "grep -E '^(CapEff|Seccomp:)' /proc/self/status; ip -o addr; echo > /dev/null; "
            "cat /proc/sys/kernel/hostname"
        )
        answers["plain"] = await run(runtime, base, lower, "a", script, hostname="box")
        upper = base / "a/fs"
        answers["upper"] = sorted(entry.name for entry in upper.iterdir())
        answers["opaque"] = os.getxattr(upper / "opaque", "user.overlay.opaque").decode()
        answers["whiteout"] = os.lstat(upper / "gone").st_rdev
        answers["host"] = await run(runtime, base, lower, "b", "ls -d /sys/class && id -u", network="host")
        answers["tty"] = await run(runtime, base, lower, "c", "tty", tty=True)
        answers["user"] = await run(runtime, base, lower, "d", "id -u; id -g", user=ResolvedUser(1000, 1000, (1000,)))
        limits = {"memory": {"limit": 1 << 26}}
        answers["limited"] = await run(runtime, base, lower, "e", "id -u", resources=limits)
        answers["pid_host"] = await run(runtime, base, lower, "f", "sleep 1000 & id -u", pid="host")
        answers["exec"] = await exec_in(runtime, base, lower)
    finally:
        await runtime.close()
        answers["log"] = (base / "run/spawner.log").read_text()
        shutil.rmtree(base)
    print(json.dumps(answers))


if __name__ == "__main__":
    enter_user_namespace()
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    asyncio.run(main())
