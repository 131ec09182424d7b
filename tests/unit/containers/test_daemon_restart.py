"""A daemon ends (or dies), containers go on: what the next one finds."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from buildtool.cache.store import Store
from tests.unit.containers.conftest import opened


async def test_a_running_container_is_found_again_with_its_log(tmp_path: Path) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
    async with opened(tmp_path / "root", remove=False) as world:
        identity = await world.create("sh", "-c", script, name="web")
        await world.containers.start(identity)
        pid = world.containers.get(identity).state.pid
    await asyncio.sleep(0.2)
    async with opened(tmp_path / "root") as world:
        found = world.containers.get("web")
        assert found.state.running
        assert found.state.pid == pid
        attachment = await world.containers.attach("web", stdout=True)
        assert await asyncio.wait_for(attachment.read(), 5)
        await attachment.close()
        await world.containers.stop("web", timeout=0)
        lines = (await world.output(identity)).split()
        assert lines == [b"%d" % n for n in range(1, len(lines) + 1)]
        assert len(lines) > 10


async def test_what_ended_meanwhile_is_finished(tmp_path: Path) -> None:
    async with opened(tmp_path / "root", remove=False) as world:
        kept = await world.create("sh", "-c", "sleep 0.2; echo end; exit 6")
        gone = await world.create("sleep", "0.2", host={"AutoRemove": True})
        for identity in (kept, gone):
            await world.containers.start(identity)
    await asyncio.sleep(0.5)
    async with opened(tmp_path / "root") as world:
        state = (await world.containers.inspect(kept))["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 6)
        assert await world.output(kept) == b"end\n"
        assert [d["Id"] for d in await world.containers.list(all=True)] == [kept]
        assert "die" in world.seen()


async def test_a_killed_shim_is_an_exit(tmp_path: Path) -> None:
    async with opened(tmp_path / "root", remove=False) as world:
        identity = await world.create("sleep", "60")
        await world.containers.start(identity)
        pid = world.containers.get(identity).state.pid
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    await asyncio.sleep(0.1)
    async with opened(tmp_path / "root") as world:
        state = (await world.containers.inspect(identity))["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 255)
        await world.containers.start(identity)
        assert world.containers.get(identity).state.running


async def test_policies_are_applied_when_the_daemon_starts(tmp_path: Path) -> None:
    async with opened(tmp_path / "root", remove=False) as world:
        names = {}
        for name, policy, stop in (
            ("always", "always", True),
            ("unless", "unless-stopped", True),
            ("unless-killed", "unless-stopped", False),
            ("no", "no", False),
        ):
            identity = await world.create("sleep", "60", name=name, host={"RestartPolicy": {"Name": policy}})
            await world.containers.start(identity)
            names[name] = world.containers.get(identity).state.pid
            if stop:
                await world.containers.stop(identity, timeout=0)
        killed = [names["unless-killed"], names["no"]]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    async with opened(tmp_path / "root") as world:
        async with asyncio.timeout(5):
            while not (world.containers.get("always").state.running and world.containers.get("unless-killed").alive):
                await asyncio.sleep(0.02)
        running = {d["Names"][0] for d in await world.containers.list()}
        assert running == {"/always", "/unless-killed"}


async def test_created_and_paused_containers_are_as_they_were(tmp_path: Path) -> None:
    async with opened(tmp_path / "root", remove=False) as world:
        await world.create("true", name="created", host={"RestartPolicy": {"Name": "always"}})
        paused = await world.create("sleep", "60", name="paused")
        await world.containers.start(paused)
        await world.containers.pause(paused)
    async with opened(tmp_path / "root") as world:
        assert (await world.containers.inspect("created"))["State"]["Status"] == "created"
        assert (await world.containers.inspect("paused"))["State"]["Status"] == "paused"
        await world.containers.unpause("paused")
        await world.containers.stop("paused", timeout=0)


async def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    async with opened(tmp_path / "root", remove=False) as world:
        identity = await world.create("true", name="half")
        (world.root / "containers" / ("f" * 64) / "upper").mkdir(parents=True)
        document = world.store.state.documents("containers").get(identity)
        assert document is not None
        world.store.state.documents("containers").put("e" * 64, {**document, "Id": "e" * 64, "Name": "lost"})
    async with opened(tmp_path / "root") as world:
        assert [d["Names"] for d in await world.containers.list(all=True)] == [["/half"]]
        assert not (world.root / "containers" / ("f" * 64)).exists()


async def test_a_container_whose_start_was_not_recorded_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path / "root", remove=False) as world:
        identity = await world.create("sleep", "60")
        documents = world.store.state.documents("containers")
        before = documents.get(identity)
        assert before is not None
        await world.containers.start(identity)
    with Store.open(tmp_path / "root") as store:
        store.state.documents("containers").put(identity, before)
    async with opened(tmp_path / "root") as world:
        found = world.containers.get(identity)
        assert (found.state.status, found.state.pid > 0) == ("running", True)
        await world.containers.stop(identity, timeout=0)


async def test_processes_of_a_container_without_record_are_ended(tmp_path: Path) -> None:
    async with opened(tmp_path / "root", remove=False) as world:
        identity = await world.create("sleep", "60")
        await world.containers.start(identity)
        pid = world.containers.get(identity).state.pid
    with Store.open(tmp_path / "root") as store:
        store.state.documents("containers").delete(identity)
    async with opened(tmp_path / "root") as world:
        assert await world.containers.list(all=True) == []
        assert not (world.root / "containers" / identity).exists()
    assert not Path(f"/proc/{pid}").exists()


async def test_a_record_that_cannot_be_read_keeps_its_files(tmp_path: Path) -> None:
    async with opened(tmp_path / "root", remove=False) as world:
        identity = await world.create("true")
    with Store.open(tmp_path / "root") as store:
        store.state.documents("containers").put(identity, {"Id": identity, "Name": 5})
    async with opened(tmp_path / "root") as world:
        assert await world.containers.list(all=True) == []
        assert (world.root / "containers" / identity / "upper").is_dir()
