from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from buildtool.errors import CommandNotExecutable, CommandNotFound, Conflict, InvalidInput, NotFound, NotModified
from tests.unit.containers.conftest import World

# Running


async def test_a_container_runs_and_its_output_is_logged(world: World) -> None:
    code, output = await world.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert code == 3
    assert sorted(output.splitlines()) == [b"err", b"out"]


async def test_the_environment_is_dockers(world: World) -> None:
    _, output = await world.run("/bin/env", Env=["A=1", "PATH"], Hostname="box")
    assert set(output.decode().splitlines()) == {"HOSTNAME=box", "A=1", "HOME=/root"}


async def test_user_workdir_and_groups(world: World) -> None:
    _, output = await world.run("sh", "-c", "id -u; id -G; pwd; echo $HOME", User="app", WorkingDir="/new/dir")
    assert output == b"1000\n1000 2000\n/new/dir\n/home/app\n"


async def test_unknown_users_are_refused_at_start(world: World) -> None:
    identity = await world.create("true", User="nobody-here")
    with pytest.raises(InvalidInput, match="unable to find user nobody-here: no matching entries in passwd file"):
        await world.containers.start(identity)


async def test_the_hosts_files_are_the_containers_own(world: World) -> None:
    _, output = await world.run(
        "sh",
        "-c",
        "cat /etc/hostname; grep db /etc/hosts; grep nameserver /etc/resolv.conf",
        Hostname="box",
        host={"ExtraHosts": ["db:10.1.2.3"], "Dns": ["9.9.9.9"]},
    )
    assert output == b"box\n10.1.2.3\tdb\nnameserver 9.9.9.9\n"


async def test_starting_changes_nothing_in_the_writable_layer(world: World) -> None:
    identity = await world.create("true")
    await world.containers.start(identity)
    await world.containers.wait(identity)
    assert await world.containers.files.changes(identity) is None


@pytest.mark.parametrize(
    ("command", "error", "code", "text"),
    [
        ("nope", CommandNotFound, 127, 'exec: "nope": executable file not found in $PATH'),
        ("/locked", CommandNotExecutable, 126, "permission denied"),
    ],
)
async def test_commands_that_cannot_run(
    world: World, command: str, error: type[Exception], code: int, text: str
) -> None:
    identity = await world.create(command)
    waiter = await world.containers.waiter(identity, "next-exit")
    attachment = await world.containers.attach(identity, stdout=True)
    with pytest.raises(error) as caught:
        await world.containers.start(identity)
    assert text in str(caught.value)
    assert (await waiter).exit_code == code
    assert await attachment.read() == b""
    state = (await world.containers.inspect(identity))["State"]
    assert (state["Status"], state["ExitCode"], state["Running"]) == ("created", code, False)
    assert text in state["Error"]


async def test_a_failed_start_removes_an_auto_remove_container(world: World) -> None:
    identity = await world.create("nope", host={"AutoRemove": True})
    with pytest.raises(CommandNotFound):
        await world.containers.start(identity)
    with pytest.raises(NotFound):
        world.containers.get(identity)


async def test_signals_end_with_128_and_their_number(world: World) -> None:
    identity = await world.create("sleep", "60")
    await world.containers.start(identity)
    await world.containers.kill(identity)
    assert (await world.containers.wait(identity)).exit_code == 137


# The state machine


async def test_the_events_of_a_life(world: World) -> None:
    identity = await world.create("sleep", "60", name="web")
    containers = world.containers
    await containers.start(identity)
    await containers.pause(identity)
    await containers.unpause(identity)
    await containers.stop(identity, timeout=0)
    await containers.rename(identity, "site")
    await containers.remove(identity)
    assert world.seen() == [
        *("create", "start", "pause", "unpause", "kill", "kill", "die", "stop", "rename", "destroy"),
    ]
    assert world.past()[-1]["Actor"]["Attributes"] == {"image": "busybox:latest", "name": "site"}


async def test_networks_and_volumes_tell_who_uses_them(world: World) -> None:
    await world.run("true", host={"Binds": ["named:/v"]})
    told = [
        (e["Type"], e["Action"], e["Actor"]["ID"][:5]) for e in world.past() if e["Type"] in ("network", "volume")
    ]
    network = told[2][2]
    assert told == [
        ("volume", "create", "named"),
        ("volume", "mount", "named"),
        ("network", "connect", network),
        ("network", "disconnect", network),
        ("volume", "unmount", "named"),
    ]


async def test_states_and_what_they_forbid(world: World) -> None:
    containers = world.containers
    identity = await world.create("sleep", "60", name="web")

    async def status() -> str:
        return str((await containers.inspect(identity))["State"]["Status"])

    assert await status() == "created"
    with pytest.raises(NotModified):
        await containers.stop(identity)
    with pytest.raises(Conflict, match=f"cannot kill container: web: container {identity} is not running"):
        await containers.kill(identity)
    with pytest.raises(Conflict, match="is not running"):
        await containers.pause(identity)
    await containers.start("web")
    assert await status() == "running"
    with pytest.raises(NotModified):
        await containers.start(identity)
    with pytest.raises(Conflict, match='cannot remove container "/web": container is running: stop the container'):
        await containers.remove(identity)
    await containers.pause(identity)
    assert await status() == "paused"
    with pytest.raises(Conflict, match="already paused"):
        await containers.pause(identity)
    with pytest.raises(Conflict, match="cannot start a paused container, try unpause instead"):
        await containers.start(identity)
    with pytest.raises(Conflict, match="is paused, unpause the container before exec"):
        await containers.exec_create(identity, {"Cmd": ["true"]})
    await containers.unpause(identity)
    with pytest.raises(Conflict, match="is not paused"):
        await containers.unpause(identity)
    await containers.stop(identity, timeout=0)
    assert await status() == "exited"
    await containers.start(identity)
    assert await status() == "running"
    await containers.remove(identity, force=True)
    with pytest.raises(NotFound, match=f"No such container: {identity}"):
        await containers.inspect(identity)


async def test_a_paused_container_can_be_stopped(world: World) -> None:
    identity = await world.create("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    await world.containers.start(identity)
    await asyncio.sleep(0.2)
    await world.containers.pause(identity)
    await world.containers.stop(identity)
    assert world.containers.get(identity).state.exit_code == 7


async def test_stop_sends_the_stop_signal(world: World) -> None:
    script = "trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.05; done"
    identity = await world.create("sh", "-c", script, StopSignal="SIGUSR1")
    await world.containers.start(identity)
    async for _ in world.containers.logs(identity, follow=True):
        break
    await world.containers.stop(identity)
    assert world.containers.get(identity).state.exit_code == 5
    assert await world.output(identity) == b"ready\ncaught\n"


async def test_names_are_unique_and_can_be_used_again(world: World) -> None:
    first = await world.create("true", name="web")
    with pytest.raises(Conflict) as caught:
        await world.create("true", name="web")
    assert str(caught.value) == (
        f'Conflict. The container name "/web" is already in use by container "{first}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    await world.containers.remove("web")
    await world.create("true", name="web")


async def test_rename_refuses_taken_and_malformed_names(world: World) -> None:
    await world.create("true", name="one")
    two = await world.create("true", name="two")
    with pytest.raises(Conflict):
        await world.containers.rename(two, "one")
    with pytest.raises(InvalidInput):
        await world.containers.rename(two, "")
    with pytest.raises(InvalidInput):
        await world.containers.rename(two, "-")
    assert world.containers.get("two").id == two


async def test_create_with_an_unknown_image_leaves_nothing(world: World) -> None:
    with pytest.raises(NotFound, match="No such image: nope:latest"):
        await world.containers.create({"Image": "nope", "Cmd": ["x"]}, name="web")
    await world.create("true", name="web")


async def test_a_refused_create_leaves_nothing(world: World) -> None:
    with pytest.raises(InvalidInput):
        await world.create("true", name="web", host={"Binds": ["/a:/b:bad"]})
    assert await world.containers.list(all=True) == []
    assert [p.name for p in (world.root / "containers").iterdir() if not p.name.startswith(".")] == []


# Waiting and removing


async def test_auto_remove_answers_the_waiter_first(world: World) -> None:
    identity = await world.create("sh", "-c", "exit 4", host={"AutoRemove": True})
    exit_waiter = await world.containers.waiter(identity, "next-exit")
    removal = await world.containers.waiter(identity, "removed")
    await world.containers.start(identity)
    assert (await exit_waiter).exit_code == 4
    assert (await removal).exit_code == 4
    assert await world.containers.list(all=True) == []
    assert not (world.root / "containers" / identity).exists()


async def test_waiting_for_what_is_over_answers_at_once(world: World) -> None:
    identity = await world.create("true")
    assert (await world.containers.wait(identity)).document() == {"StatusCode": 0}
    with pytest.raises(InvalidInput, match='invalid condition: "x"'):
        await world.containers.waiter(identity, "x")


async def test_many_waiters_are_all_answered(world: World) -> None:
    identity = await world.create("true")
    waiters = [await world.containers.waiter(identity, "next-exit") for _ in range(20)]
    await world.containers.start(identity)
    assert {result.exit_code for result in await asyncio.gather(*waiters)} == {0}


async def test_removing_twice_at_once_is_a_conflict(world: World) -> None:
    identity = await world.create("sleep", "60")
    await world.containers.start(identity)
    first = asyncio.ensure_future(world.containers.remove(identity, force=True))
    await asyncio.sleep(0)
    with pytest.raises((Conflict, NotFound)):
        await world.containers.remove(identity, force=True)
    await first


async def test_prune_removes_what_does_not_run(world: World) -> None:
    running = await world.create("sleep", "60")
    await world.containers.start(running)
    stopped = await world.create("true", Labels={"keep": "no"})
    kept = await world.create("true", Labels={"keep": "yes"})
    answer = await world.containers.prune({"label!": ["keep=yes"]})
    assert answer["ContainersDeleted"] == [stopped]
    assert {d["Id"] for d in await world.containers.list(all=True)} == {running, kept}


# Restarting


async def test_a_failing_container_is_restarted_so_often(world: World) -> None:
    identity = await world.create(
        "sh", "-c", "echo try; exit 1", host={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    )
    await world.containers.start(identity)
    async with asyncio.timeout(10):
        async for _ in world.containers.logs(identity, follow=True):
            pass
    document = await world.containers.inspect(identity)
    assert document["RestartCount"] == 2
    assert document["State"]["Status"] == "exited"
    assert await world.output(identity) == b"try\n" * 3


async def test_stop_ends_the_restarts(world: World) -> None:
    identity = await world.create("false", host={"RestartPolicy": {"Name": "always"}})
    waiter = await world.containers.waiter(identity, "next-exit")
    await world.containers.start(identity)
    await waiter
    assert (await world.containers.inspect(identity))["State"]["Status"] == "restarting"
    await world.containers.stop(identity)
    assert (await world.containers.inspect(identity))["State"]["Status"] == "exited"
    await asyncio.sleep(0.3)
    assert (await world.containers.inspect(identity))["State"]["Status"] == "exited"


async def test_restart_keeps_an_auto_remove_container(world: World) -> None:
    identity = await world.create("sleep", "60", host={"AutoRemove": True})
    await world.containers.start(identity)
    pid = world.containers.get(identity).state.pid
    await world.containers.restart(identity, timeout=0)
    assert world.containers.get(identity).state.pid not in (0, pid)


async def test_files_survive_a_restart(world: World) -> None:
    identity = await world.create("sh", "-c", "echo x >> /kept; cat /kept")
    for _ in range(2):
        await world.containers.start(identity)
        await world.containers.wait(identity)
    assert await world.output(identity) == b"x\nx\nx\n"


# Limits, isolation, updates


async def test_update_changes_limits_and_policy(world: World) -> None:
    identity = await world.create("sleep", "60", host={"Memory": 64 << 20})
    await world.containers.start(identity)
    await world.containers.update(identity, {"Memory": 32 << 20, "MemorySwap": 64 << 20, "PidsLimit": 50})
    await world.containers.update(identity, {"RestartPolicy": {"Name": "always"}})
    host = (await world.containers.inspect(identity))["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["RestartPolicy"]["Name"]) == (32 << 20, 50, "always")
    with pytest.raises(InvalidInput, match="Minimum memory limit allowed is 6MB"):
        await world.containers.update(identity, {"Memory": 5})


async def test_sysctls_of_the_host_cannot_be_set(world: World) -> None:
    identity = await world.create("true", host={"Sysctls": {"kernel.core_pattern": "|/x"}})
    with pytest.raises(InvalidInput, match="is not in a separate kernel namespace"):
        await world.containers.start(identity)


async def test_a_container_can_join_anothers_namespaces(world: World) -> None:
    first = await world.create("sleep", "60", name="first")
    host = {"NetworkMode": "container:first", "PidMode": "container:first"}
    second = await world.create("ps", host=host)
    with pytest.raises(Conflict, match="cannot join network namespace of a non running container"):
        await world.containers.start(second)
    await world.containers.start(first)
    await world.containers.start(second)
    assert (await world.containers.wait(second)).exit_code == 0
    assert b"sleep 60" in await world.output(second)
    shared = await world.create("hostname", host={"NetworkMode": "container:first"})
    await world.containers.start(shared)
    await world.containers.wait(shared)
    assert await world.output(shared) == f"{first[:12]}\n".encode()


async def test_unknown_networks_are_not_found(world: World) -> None:
    identity = await world.create("true", host={"NetworkMode": "front"})
    with pytest.raises(NotFound, match="network front not found"):
        await world.containers.start(identity)
    assert (await world.containers.inspect(identity))["State"]["Error"] == "network front not found"


async def test_nothing_is_left_behind(world: World) -> None:
    for _ in range(3):
        identity = await world.create("true", host={"AutoRemove": True})
        removal = await world.containers.waiter(identity, "removed")
        await world.containers.start(identity)
        await removal
    assert str(world.root) not in Path("/proc/self/mounts").read_text()
    assert [p.name for p in (world.root / "containers").iterdir() if not p.name.startswith(".")] == []
    assert list(world.store.state.documents("containers").items()) == []
