"""What happens to containers when processes around them die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from buildtool.runtime import ExitStatus, ResolvedUser, Runtime, Task
from buildtool.runtime.spec import process_spec

from .conftest import Lab, demultiplex, processes_naming, read_all


async def test_containers_survive_the_spawners_death_and_new_ones_start(lab: Lab) -> None:
    old = await lab.start(["sh", "-c", "sleep 0.5; echo alive; exit 3"])
    assert lab.runtime.spawner_pid is not None
    os.kill(lab.runtime.spawner_pid, signal.SIGKILL)
    status, out, _ = await lab.run(["echo", "new"])
    assert (status.code, out) == (0, b"new\n")
    assert (await old.wait()).code == 3


async def test_many_creates_while_the_spawner_is_restarted(lab: Lab) -> None:
    assert lab.runtime.spawner_pid is not None
    os.kill(lab.runtime.spawner_pid, signal.SIGKILL)
    runs = await asyncio.gather(*(lab.run(["echo", str(number)]) for number in range(8)))
    assert [out for _, out, _ in runs] == [f"{number}\n".encode() for number in range(8)]


async def test_a_restarted_daemon_finds_the_container_and_its_log_is_complete(lab: Lab) -> None:
    task = await lab.start(
        ["sh", "-c", "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 6"]
    )
    directory = lab.base / task.id / "bundle"
    lab.tasks.remove(task)
    task.release()
    await lab.runtime.close()
    second = await Runtime.launch(lab.base / "run", state_dir=lab.base / "containers")
    try:
        again = await second.reattach(directory)
        assert isinstance(again, Task)
        assert (again.pid, again.started, again.exit) == (task.pid, True, None)
        async with await again.attach() as stream:
            assert b"line" in demultiplex(await read_all(stream))[0]
        assert (await again.wait()).code == 6
        await again.delete()
    finally:
        await second.close()
    records = [json.loads(line)["log"] for line in (lab.base / task.id / "log").read_text().splitlines()]
    assert records == [f"line {number}\n" for number in range(60)]


async def test_a_container_that_ended_meanwhile_is_an_exit_status(lab: Lab) -> None:
    task = await lab.start(["sh", "-c", "sleep 0.1; exit 9"])
    directory = lab.base / task.id / "bundle"
    lab.tasks.remove(task)
    task.release()
    for _ in range(300):
        if (directory / "exit.json").exists() and not (directory / "shim.sock").exists():
            break
        await asyncio.sleep(0.01)
    ended = await lab.runtime.reattach(directory)
    assert isinstance(ended, ExitStatus)
    assert ended.code == 9


async def test_a_container_that_never_was_is_none(lab: Lab) -> None:
    assert await lab.runtime.reattach(lab.base / "nothing") is None


async def test_a_container_that_is_not_detached_dies_with_its_daemon(lab: Lab) -> None:
    task = await lab.start(["sleep", "1000"], detached=False)
    lab.tasks.remove(task)
    task.release()
    for _ in range(500):
        if processes_naming(str(lab.base)) == [lab.runtime.spawner_pid]:
            break
        await asyncio.sleep(0.01)
    assert not Path(f"/proc/{task.pid}").exists()
    assert '"code": 137' in (lab.base / task.id / "bundle/exit.json").read_text()


async def test_an_exec_that_was_never_started_goes_with_its_creator(lab: Lab) -> None:
    task = await lab.start(["sleep", "1000"])
    directory = lab.base / task.id / "bundle"
    process = process_spec(args=["true"], env=["PATH=/bin"], cwd="/", user=ResolvedUser(), capabilities=[])
    one = await task.exec(process, tty=False, stdin=True, id="e")
    second = await lab.runtime.reattach(directory)
    assert isinstance(second, Task)
    lab.tasks[:] = [second]
    task.release()
    for _ in range(300):
        if not Path(f"/proc/{one.pid}").exists():
            break
        await asyncio.sleep(0.01)
    assert await second.pids() == [second.pid]


async def test_a_killed_client_process_does_not_disturb(lab: Lab, tmp_path: Path) -> None:
    task = await lab.create(["sh", "-c", "yes $(seq 20) | head -c 3000000; echo end >&2"])
    stream = await task.attach()
    other = await task.attach(stdout=False, stderr=True)
    child = os.fork()  # a client that reads nothing and dies
    if child == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    stream.close()  # the only descriptors left are the stopped process's
    await task.start()
    await asyncio.sleep(0.2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert demultiplex(await asyncio.wait_for(read_all(other), 20))[1] == b"end\n"
    other.close()


async def test_shims_memory_is_small(lab: Lab) -> None:
    task = await lab.start(["sleep", "100"])
    await asyncio.sleep(0.1)
    shim = Path(f"/proc/{task.pid}/stat").read_text().rpartition(")")[2].split()[1]
    rollup = Path(f"/proc/{shim}/smaps_rollup").read_text()
    private = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_Dirty"))
    assert private < 5 * 1024


async def test_spawner_imports_nothing_heavy(lab: Lab) -> None:
    maps = Path(f"/proc/{lab.runtime.spawner_pid}/maps").read_text()
    assert not [name for name in ("msgspec", "_asyncio", "_ssl", "_sqlite3") if name in maps]
