from __future__ import annotations

import asyncio
import hashlib

import pytest

from buildtool.containers.attach import Attachment
from buildtool.errors import CommandNotFound, Conflict, InvalidInput, NotFound, Unavailable
from tests.unit.containers.conftest import World, payload


async def read_all(attachment: Attachment) -> bytes:
    out = b""
    async with asyncio.timeout(20):
        while block := await attachment.read():
            out += block
    return out


async def read_until(attachment: Attachment, text: bytes) -> bytes:
    out = b""
    async with asyncio.timeout(20):
        while text not in out:
            block = await attachment.read()
            assert block, f"the stream ended after {out!r}"
            out += block
    return out


# Attach


async def test_attaching_before_the_start_loses_nothing(world: World) -> None:
    identity = await world.create("sh", "-c", "seq 1 20000; echo end >&2")
    first = await world.containers.attach(identity, stdout=True, stderr=True)
    second = await world.containers.attach(identity, stdout=True)
    await world.containers.start(identity)
    numbers = b"".join(b"%d\n" % n for n in range(1, 20001))
    both, out = await asyncio.gather(read_all(first), read_all(second))
    assert payload(both, 1) == numbers
    assert payload(both, 2) == b"end\n"
    assert payload(out) == numbers


async def test_input_reaches_the_process_and_its_end_too(world: World) -> None:
    identity = await world.create("sh", "-c", "cat; echo done", OpenStdin=True, StdinOnce=True)
    attachment = await world.containers.attach(identity, stdin=True, stdout=True)
    writing = asyncio.ensure_future(attachment.write(b"hello\n"))
    await world.containers.start(identity)
    await writing
    await attachment.close_stdin()
    assert payload(await read_all(attachment)) == b"hello\ndone\n"


async def test_a_large_input_comes_back_whole(world: World) -> None:
    identity = await world.create("cat", OpenStdin=True, StdinOnce=True)
    attachment = await world.containers.attach(identity, stdin=True, stdout=True)
    await world.containers.start(identity)
    data = bytes(range(256)) * 4096 * 4
    reading = asyncio.ensure_future(read_all(attachment))
    for position in range(0, len(data), 65536):
        await attachment.write(data[position : position + 65536])
    await attachment.close_stdin()
    assert hashlib.sha256(payload(await reading)).digest() == hashlib.sha256(data).digest()


async def test_a_terminal_is_raw_and_has_a_size(world: World) -> None:
    identity = await world.create("sh", "-c", "read x; stty size; test -t 1 && echo tty", Tty=True, OpenStdin=True)
    attachment = await world.containers.attach(identity, stdin=True, stdout=True)
    await world.containers.start(identity)
    await world.containers.resize(identity, 33, 101)
    await attachment.write(b"\n")
    output = await read_all(attachment)
    assert b"33 101\r\n" in output
    assert b"tty\r\n" in output


async def test_the_detach_keys_leave_the_process_running(world: World) -> None:
    identity = await world.create("cat", Tty=True, OpenStdin=True)
    await world.containers.start(identity)
    attachment = await world.containers.attach(identity, stdin=True, stdout=True, detach_keys="ctrl-a,x")
    await attachment.write(b"hi\n\x01")
    await read_until(attachment, b"hi")
    await attachment.write(b"x")
    await read_all(attachment)
    assert attachment.detached
    assert "detach" in world.seen()
    assert world.containers.get(identity).state.running
    again = await world.containers.attach(identity, stdin=True, stdout=True)
    await again.write(b"back\n")
    await read_until(again, b"back")
    await again.close()


async def test_logs_come_before_the_live_output(world: World) -> None:
    script = "echo one; read x; echo two"
    identity = await world.create("sh", "-c", script, OpenStdin=True)
    await world.containers.start(identity)
    async for _ in world.containers.logs(identity, follow=True):
        break
    attachment = await world.containers.attach(identity, stdin=True, stdout=True, logs=True)
    await attachment.write(b"\n")
    assert payload(await read_all(attachment)) == b"one\ntwo\n"


async def test_removing_ends_attachments_of_a_container_that_never_ran(world: World) -> None:
    identity = await world.create("true")
    attachment = await world.containers.attach(identity, stdout=True)
    await world.containers.remove(identity)
    assert await read_all(attachment) == b""


async def test_attaching_to_a_paused_container_is_a_conflict(world: World) -> None:
    identity = await world.create("sleep", "60")
    await world.containers.start(identity)
    await world.containers.pause(identity)
    with pytest.raises(Conflict, match="is paused, unpause the container before attach"):
        await world.containers.attach(identity, stdout=True)
    with pytest.raises(InvalidInput):
        await world.containers.attach(identity, stdout=True, detach_keys="nonsense")


# Logs


async def test_follow_ends_with_the_container(world: World) -> None:
    identity = await world.create("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
    await world.containers.start(identity)
    async with asyncio.timeout(10):
        blocks = [block async for block in world.containers.logs(identity, follow=True)]
    assert payload(b"".join(blocks)) == b"1\n2\n3\n"


@pytest.mark.parametrize("compress", ["true", "false"])
async def test_rotated_logs_are_read_as_one(world: World, compress: str) -> None:
    config = {"max-size": "10k", "max-file": "3", "compress": compress}
    host = {"LogConfig": {"Type": "json-file", "Config": config}}
    script = "i=0; while [ $i -lt 10 ]; do seq $((i * 100 + 1)) $((i * 100 + 100)); i=$((i + 1)); sleep 0.02; done"
    _, output = await world.run("sh", "-c", script, host=host)
    lines = output.split()
    assert lines == [b"%d" % n for n in range(1001 - len(lines), 1001)]
    assert 100 < len(lines) < 1000


async def test_details_are_what_the_log_options_name(world: World) -> None:
    host = {"LogConfig": {"Type": "json-file", "Config": {"labels": "tier,none", "env": "A", "tag": "{{.Name}}"}}}
    label = {"tier": "front", "b": "c"}
    identity = await world.create("echo", "x", name="said", Labels=label, Env=["A=1"], host=host)
    await world.containers.start(identity)
    await world.containers.wait(identity)
    blocks = [block async for block in world.containers.logs(identity, details=True)]
    assert payload(b"".join(blocks)) == b"A=1,tag=said,tier=front x\n"


async def test_the_none_driver_keeps_nothing(world: World) -> None:
    identity = await world.create("echo", "x", host={"LogConfig": {"Type": "none"}})
    await world.containers.start(identity)
    await world.containers.wait(identity)
    with pytest.raises(Unavailable, match="configured logging driver does not support reading"):
        await world.output(identity)


# Exec


async def test_an_exec_runs_beside_the_container(world: World) -> None:
    identity = await world.create("sleep", "60", Env=["A=1"])
    await world.containers.start(identity)
    body = {
        "Cmd": ["sh", "-c", "echo $A $B; pwd; id -u; echo err >&2; exit 5"],
        "Env": ["B=2"],
        "WorkingDir": "/tmp",
        "User": "app",
        "AttachStdout": True,
        "AttachStderr": True,
    }
    exec_id = await world.containers.exec_create(identity, body)
    before = await world.containers.exec_inspect(exec_id)
    assert (before["Running"], before["ExitCode"], before["ContainerID"]) == (False, None, identity)
    attachment = await world.containers.exec_start(exec_id, {})
    assert attachment is not None
    output = await read_all(attachment)
    assert payload(output, 1) == b"1 2\n/tmp\n1000\n"
    assert payload(output, 2) == b"err\n"
    async with asyncio.timeout(5):
        while (after := await world.containers.exec_inspect(exec_id))["Running"]:
            await asyncio.sleep(0.01)
    assert after["ExitCode"] == 5
    assert after["ProcessConfig"] == {
        "tty": False,
        "entrypoint": "sh",
        "arguments": body["Cmd"][1:],
        "privileged": False,
        "user": "app",
    }
    with pytest.raises(Conflict, match="has already run"):
        await world.containers.exec_start(exec_id, {})
    assert [action.partition(":")[0] for action in world.seen()[-3:]] == ["exec_create", "exec_start", "exec_die"]


async def test_exec_with_input_and_with_a_terminal(world: World) -> None:
    identity = await world.create("sleep", "60")
    await world.containers.start(identity)
    plain = await world.containers.exec_create(identity, {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True})
    attachment = await world.containers.exec_start(plain, {})
    assert attachment is not None
    await attachment.write(b"data")
    await attachment.close_stdin()
    assert payload(await read_all(attachment)) == b"data"
    body = {"Cmd": ["sh", "-c", "stty size"], "Tty": True, "AttachStdout": True}
    terminal = await world.containers.exec_create(identity, body)
    attachment = await world.containers.exec_start(terminal, {"Tty": True, "ConsoleSize": [40, 90]})
    assert attachment is not None
    assert await read_all(attachment) == b"40 90\r\n"


async def test_a_detached_exec_goes_on_by_itself(world: World) -> None:
    identity = await world.create("sleep", "60")
    await world.containers.start(identity)
    exec_id = await world.containers.exec_create(identity, {"Cmd": ["sh", "-c", "echo x > /made"]})
    assert await world.containers.exec_start(exec_id, {"Detach": True}) is None
    async with asyncio.timeout(5):
        while (await world.containers.exec_inspect(exec_id))["ExitCode"] is None:
            await asyncio.sleep(0.01)
    assert (await world.containers.files.archive_stat(identity, "/made"))["size"] == 2


async def test_execs_that_cannot_be(world: World) -> None:
    identity = await world.create("sleep", "60")
    with pytest.raises(Conflict, match=f"container {identity} is not running"):
        await world.containers.exec_create(identity, {"Cmd": ["true"]})
    await world.containers.start(identity)
    with pytest.raises(InvalidInput, match="No exec command specified"):
        await world.containers.exec_create(identity, {})
    with pytest.raises(InvalidInput):
        await world.containers.exec_create(identity, {"Cmd": "x"})
    with pytest.raises(NotFound, match="No such exec instance: nope"):
        await world.containers.exec_inspect("nope")
    exec_id = await world.containers.exec_create(identity, {"Cmd": ["nope"]})
    with pytest.raises(CommandNotFound):
        await world.containers.exec_start(exec_id, {})
    assert (await world.containers.exec_inspect(exec_id))["ExitCode"] == 127


async def test_the_containers_end_ends_its_execs(world: World) -> None:
    identity = await world.create("sleep", "60")
    await world.containers.start(identity)
    exec_id = await world.containers.exec_create(identity, {"Cmd": ["sleep", "60"], "AttachStdout": True})
    attachment = await world.containers.exec_start(exec_id, {})
    assert attachment is not None
    assert (await world.containers.inspect(identity))["ExecIDs"] == [exec_id]
    await world.containers.kill(identity)
    assert await read_all(attachment) == b""


# Processes and figures


async def test_top_shows_the_processes(world: World) -> None:
    identity = await world.create("sh", "-c", "sleep 61; true")
    await world.containers.start(identity)
    await asyncio.sleep(0.1)
    table = await world.containers.top(identity)
    assert table["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert {row[7] for row in table["Processes"]} == {"sh -c sleep 61; true", "sleep 61"}
    custom = await world.containers.top(identity, "-o pid,comm")
    assert custom["Titles"] == ["PID", "COMMAND"]
    assert {row[1] for row in custom["Processes"]} == {"sh", "sleep"} or len(custom["Processes"]) == 0


async def test_stats_in_dockers_shape(world: World) -> None:
    identity = await world.create("sleep", "60", host={"Memory": 64 << 20})
    await world.containers.start(identity)
    (sample,) = [s async for s in world.containers.stats(identity, stream=False, one_shot=True)]
    assert sample["id"] == identity
    assert sample["memory_stats"]["limit"] == 64 << 20
    assert sample["memory_stats"]["usage"] > 0
    assert sample["pids_stats"]["current"] == 1
    assert sample["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert sample["cpu_stats"]["system_cpu_usage"] > sample["cpu_stats"]["cpu_usage"]["total_usage"]
    await world.containers.stop(identity, timeout=0)
    (stopped,) = [s async for s in world.containers.stats(identity, stream=False, one_shot=True)]
    assert (stopped["read"], stopped["memory_stats"]) == ("0001-01-01T00:00:00Z", {})
