"""What happens to containers when processes around them die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from buildtool.runtime import ExitStatus, ResolvedUser, Runtime, Task
from buildtool.runtime.spec import process_spec

from .conftest import Lab, cgroup_directories, demultiplex, processes_naming, read_all


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


def waiting_shims(lab: Lab) -> list[int]:
    """The shims that were made in advance (not their init processes)."""
    found = []
    for pid in processes_naming(str(lab.base), waiting=True):
        status = Path(f"/proc/{pid}/status").read_text()
        if f"PPid:\t{lab.runtime.spawner_pid}\n" in status and "Name:\tbuildtool-warm" in status:
            found.append(pid)
    return found


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def in_groups(shim: int) -> bool:
    return any(groups_of(init) for init in children_of(shim))


async def until_waiting(lab: Lab, count: int = 3) -> list[int]:
    for _ in range(500):
        shims = waiting_shims(lab)
        if len(shims) == count and all(in_groups(pid) for pid in shims):
            return shims
        await asyncio.sleep(0.01)
    raise AssertionError(f"{waiting_shims(lab)} wait")


def groups_of(pid: int) -> list[Path]:
    """The control groups that buildtool made for a process."""
    paths = {line.rpartition(":")[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}
    return [
        directory
        for path in paths
        if path.startswith("/buildtool/")
        for directory in cgroup_directories(path)
        if directory.is_dir()
    ]


async def test_waiting_shims_that_are_killed_are_replaced_and_no_container_notices(lab: Lab) -> None:
    for pid in await until_waiting(lab):
        os.kill(pid, signal.SIGKILL)
    runs = await asyncio.gather(*(lab.run(["echo", str(number)]) for number in range(5)))
    assert [out for _, out, _ in runs] == [f"{number}\n".encode() for number in range(5)]
    await until_waiting(lab)


async def test_a_container_takes_a_waiting_shim_and_its_groups(lab: Lab) -> None:
    shims = await until_waiting(lab)
    children = {child for pid in shims for child in children_of(pid)}
    task = await lab.start(["sleep", "1000"])
    assert task.pid in children
    lines = Path(f"/proc/{task.pid}/cgroup").read_text().splitlines()
    memory = [line for line in lines if "memory" in line.split(":")[1].split(",")]
    assert not memory or memory[0].endswith(f"/{task.id}")


async def test_a_container_with_a_parent_group_of_its_own_is_made_from_nothing(lab: Lab) -> None:
    shims = await until_waiting(lab)
    parent = f"/{lab.prefix}parent"
    task = await lab.start(["sleep", "1000"], cgroup_parent=parent)
    assert f"{parent}/{task.id}" in Path(f"/proc/{task.pid}/cgroup").read_text()
    assert waiting_shims(lab) == shims
    await task.delete()
    lab.tasks.remove(task)
    for directory in cgroup_directories(parent):
        if directory.is_dir():
            directory.rmdir()


async def test_a_container_with_namespaces_of_the_host_gets_those(lab: Lab) -> None:
    await until_waiting(lab)
    task = await lab.start(["sleep", "1000"], network="host", ipc="host", uts="host")
    for kind in ("net", "ipc", "uts"):
        assert os.readlink(f"/proc/{task.pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
    other = await lab.start(["sleep", "1000"])
    for kind in ("net", "ipc", "uts", "pid", "mnt"):
        assert os.readlink(f"/proc/{other.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


async def test_what_is_left_of_a_killed_shim_from_the_waiting_ones_is_cleaned_up(lab: Lab) -> None:
    await until_waiting(lab)
    task = await lab.start(["sleep", "1000"])
    groups = groups_of(task.pid)
    directory = lab.base / task.id / "bundle"
    status = Path(f"/proc/{task.pid}/status").read_text()
    os.kill(int(status.split("PPid:\t")[1].split("\n")[0]), signal.SIGKILL)
    assert await lab.runtime.reattach(directory) is None
    lab.tasks.remove(task)
    task.release()
    assert len(groups) > 1
    assert not any(group.exists() for group in groups)


async def test_a_killed_spawner_leaves_no_waiting_shims(lab: Lab) -> None:
    shims = await until_waiting(lab)
    groups = [
        group for pid in shims for group in groups_of(int(Path(f"/proc/{pid}/task/{pid}/children").read_text()))
    ]
    assert len(groups) > 3
    assert lab.runtime.spawner_pid is not None
    os.kill(lab.runtime.spawner_pid, signal.SIGKILL)
    for _ in range(500):
        if not any(Path(f"/proc/{pid}").exists() for pid in shims):
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError("they are still there")
    assert not any(group.exists() for group in groups)
