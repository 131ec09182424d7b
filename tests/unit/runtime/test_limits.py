"""Control groups: limits, accounting, freezing, updates."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path

import pytest

from buildtool.errors import BuildtoolError
from buildtool.runtime.cgroups import DEFAULT_PARENT, Cgroup, Hierarchies

from .conftest import Lab

_MIB = 1 << 20


async def test_out_of_memory_is_flagged(lab: Lab) -> None:
    resources = {"memory": {"limit": 16 * _MIB, "swap": 16 * _MIB}}
    status, _, _ = await lab.run(["sh", "-c", "x=$(head -c 60000000 /dev/zero | tr '\\0' x)"], resources=resources)
    assert status.oom_killed
    assert status.code != 0


async def test_out_of_memory_of_a_child_is_flagged_too(lab: Lab) -> None:
    resources = {"memory": {"limit": 16 * _MIB, "swap": 16 * _MIB}}
    status, _, _ = await lab.run(["sh", "-c", "tail -c 60000000 /dev/zero; exit 0"], resources=resources)
    assert (status.code, status.oom_killed) == (0, True)


async def test_dockers_smallest_memory_limit_suffices(lab: Lab) -> None:
    status, out, _ = await lab.run(["echo", "ok"], resources={"memory": {"limit": 6 * _MIB, "swap": 6 * _MIB}})
    assert (status.code, status.oom_killed, out) == (0, False, b"ok\n")


async def test_pids_limit(lab: Lab) -> None:
    status, _, err = await lab.run(
        ["sh", "-c", "for i in 1 2 3 4 5 6; do sleep 5 & done; wait"], resources={"pids": {"limit": 4}}
    )
    assert status.code != 0
    assert b"fork" in err


async def test_cpu_and_cpuset_limits_are_set(lab: Lab) -> None:
    resources = {"cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"}}
    task = await lab.start(["sleep", "100"], resources=resources)
    hierarchies = Hierarchies.find()
    path = f"{DEFAULT_PARENT}/{task.id}"
    if hierarchies.is_v2:
        assert Path(hierarchies.unified + path, "cpu.max").read_text() == "50000 100000\n"
    else:
        assert Path(hierarchies.v1["cpu"] + path, "cpu.cfs_quota_us").read_text() == "50000\n"
        assert Path(hierarchies.v1["cpu"] + path, "cpu.shares").read_text() == "512\n"
    assert re.search(r"Cpus_allowed_list:\s+0\n", Path(f"/proc/{task.pid}/status").read_text())


async def test_a_value_that_the_kernel_refuses_is_named_and_leaves_nothing(lab: Lab) -> None:
    with pytest.raises(BuildtoolError, match=r"'9999' to cpuset\.cpus"):
        await lab.create(["true"], resources={"cpu": {"cpus": "9999"}})


async def test_pause_stops_and_resume_continues(lab: Lab) -> None:
    task = await lab.create(["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"])
    stream = await task.attach()
    await task.start()
    await stream.read()
    await task.pause()
    assert task.paused
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            while await stream.read():
                await asyncio.sleep(0)
    stream.close()
    await task.resume()
    async with await task.attach() as again:
        assert await again.read()


async def test_a_paused_container_can_be_killed(lab: Lab) -> None:
    task = await lab.start(["sleep", "100"])
    await task.pause()
    await task.signal(signal.SIGKILL)
    assert (await asyncio.wait_for(task.wait(), 5)).code == 137


async def test_update_changes_a_running_container(lab: Lab) -> None:
    task = await lab.start(["sleep", "100"], resources={"memory": {"limit": 32 * _MIB, "swap": 32 * _MIB}})
    for size in (64, 16):
        warnings = await task.update({"memory": {"limit": size * _MIB, "swap": size * _MIB}, "cpu": {"shares": 100}})
        assert warnings == []
        assert (await task.stats()).memory_limit == size * _MIB


async def test_stats_count(lab: Lab) -> None:
    task = await lab.start(["sh", "-c", "x=$(head -c 3000000 /dev/zero | tr '\\0' x); while :; do :; done"])
    before = await task.stats()
    await asyncio.sleep(0.4)
    after = await task.stats()
    assert after.cpu_total > before.cpu_total
    assert after.memory_usage > 0
    assert after.pids_current >= 1


async def test_processes_of_a_container_are_signalled_together(lab: Lab) -> None:
    task = await lab.create(["sh", "-c", "sleep 1000 & sleep 1000 & echo up; wait; wait"])
    async with await task.attach() as stream:
        await task.start()
        await stream.read()
        await task.signal(signal.SIGTERM, all=True)
        assert (await asyncio.wait_for(task.wait(), 5)).signal in (None, signal.SIGTERM)


@pytest.mark.skipif(os.geteuid() != 0, reason="making control groups needs root")
def test_version_1_without_a_unified_hierarchy_freezes_too() -> None:
    found = Hierarchies.find()
    if "freezer" not in found.v1:
        pytest.skip("no version 1 freezer here")
    parent = f"/bt-test-v1-{os.getpid()}"
    group = Cgroup.create(Hierarchies(found.v1, ""), f"{parent}/x", {})
    child = os.fork()
    if child == 0:
        group.join()
        while True:
            time.sleep(1)
    try:
        while group.pids() != [child]:
            time.sleep(0.005)
        group.freeze(True)
        for _ in range(200):
            if group.frozen():
                break
            time.sleep(0.005)
        assert group.frozen()
        group.freeze(False)
    finally:
        group.kill(signal.SIGKILL)
        os.waitpid(child, 0)
        assert group.remove()
        for place in found.v1.values():
            if Path(place + parent).is_dir():
                Path(place + parent).rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_without_rights_to_the_control_groups_it_goes_on_with_warnings(tmp_path: Path) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            group = Cgroup.create(Hierarchies.find(), "/bt-none/x", {"memory": {"limit": 16 * _MIB}, "devices": []})
            os.write(write, repr((group.directories, group.warnings)).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    answer = os.read(read, 1000).decode()
    os.close(read)
    assert answer.startswith("({}, ['the memory limit is not applied")
