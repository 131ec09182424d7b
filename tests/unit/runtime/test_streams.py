"""Standard streams: attach, stdin, terminals, logs, slow and vanished clients."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from pathlib import Path

import pytest

from buildtool.errors import Conflict, NotFound
from buildtool.runtime import LogConfig

from .conftest import Lab, demultiplex, read_all


def log_records(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_attach_before_start_gets_both_streams_in_frames(lab: Lab) -> None:
    status, out, err = await lab.run(["sh", "-c", "echo out; echo err >&2"])
    assert (status.code, out, err) == (0, b"out\n", b"err\n")


async def test_attach_to_one_stream_only(lab: Lab) -> None:
    task = await lab.create(["sh", "-c", "echo out; echo err >&2"])
    async with await task.attach(stdout=False, stderr=True) as stream:
        await task.start()
        assert demultiplex(await read_all(stream)) == (b"", b"err\n")


async def test_ten_megabytes_arrive_complete_at_a_slow_reader_and_in_the_log(lab: Lab) -> None:
    script = "i=0; while [ $i -lt 10 ]; do seq -w 1 12500 | sed s/^/$PAD/; i=$((i+1)); done"
    pad = "x" * 74
    task = await lab.create(["sh", "-c", script], env=["PATH=/bin", f"PAD={pad}"])
    async with await task.attach() as stream:
        await task.start()
        await asyncio.sleep(0.3)
        received = b""
        while chunk := await stream.read(30_000):
            received += chunk
            await asyncio.sleep(0)
    out, _ = demultiplex(received)
    expected = b"".join(b"%s%05d\n" % (pad.encode(), number) for number in range(1, 12501)) * 10
    assert hashlib.sha256(out).digest() == hashlib.sha256(expected).digest()
    await task.wait()
    logged = "".join(record["log"] for record in log_records(lab.base / task.id / "log"))
    assert logged.encode() == expected


async def test_a_client_that_vanishes_does_not_block_the_container(lab: Lab) -> None:
    task = await lab.create(["sh", "-c", "yes $(seq 20) | head -c 5000000; echo done >&2"])
    stream = await task.attach()
    other = await task.attach(stdout=False, stderr=True)
    await task.start()
    await stream.read(1000)
    stream.close()
    assert demultiplex(await read_all(other))[1] == b"done\n"
    other.close()
    assert (await task.wait()).code == 0


async def test_two_clients_see_the_same(lab: Lab) -> None:
    task = await lab.create(["seq", "1", "50000"])
    streams = [await task.attach() for _ in range(2)]
    await task.start()
    first, second = await asyncio.gather(*(read_all(stream) for stream in streams))
    for stream in streams:
        stream.close()
    expected = "".join(f"{number}\n" for number in range(1, 50001)).encode()
    assert demultiplex(first)[0] == demultiplex(second)[0] == expected


async def test_output_without_any_client_flows(lab: Lab) -> None:
    task = await lab.start(["sh", "-c", "yes $(seq 20) | head -c 3000000"], log=LogConfig())
    assert (await asyncio.wait_for(task.wait(), 20)).code == 0


async def test_stdin_ends_with_the_client_when_once(lab: Lab) -> None:
    task = await lab.create(["sh", "-c", "cat; echo end"], stdin=True, stdin_once=True)
    async with await task.attach(stdin=True) as stream:
        await stream.write(b"before start\n")
        await task.start()
        await stream.write(b"after start\n")
        stream.close_stdin()
        assert demultiplex(await read_all(stream))[0] == b"before start\nafter start\nend\n"


async def test_stdin_stays_open_for_the_next_client_when_not_once(lab: Lab) -> None:
    task = await lab.create(["cat"], stdin=True)
    first = await task.attach(stdin=True)
    await task.start()
    await first.write(b"one\n")
    first.close()
    async with await task.attach(stdin=True) as second:
        await second.write(b"two\n")
        received = b""
        while b"two\n" not in received:
            received += await second.read()
        await task.close_stdin()
        await read_all(second)
    assert (await task.wait()).code == 0
    assert [record["log"] for record in log_records(lab.base / task.id / "log")] == ["one\n", "two\n"]


async def test_input_written_just_before_closing_arrives(lab: Lab) -> None:
    task = await lab.create(["sh", "-c", "sleep 0.2; wc -c"], stdin=True, stdin_once=True)
    stream = await task.attach(stdin=True, stdout=False, stderr=False)
    output = await task.attach()
    await task.start()
    await stream.write(b"x" * 150_000)
    stream.close()
    assert demultiplex(await read_all(output))[0].strip() == b"150000"
    output.close()


async def test_megabytes_through_stdin_and_back(lab: Lab) -> None:
    data = bytes(range(256)) * 16384
    task = await lab.create(["cat"], stdin=True, stdin_once=True, log=LogConfig())
    async with await task.attach(stdin=True) as stream:
        await task.start()

        async def feed() -> None:
            await stream.write(data)
            stream.close_stdin()

        feeding = asyncio.create_task(feed())
        out, _ = demultiplex(await read_all(stream))
        await feeding
    assert out == data


async def test_without_stdin_the_program_reads_nothing(lab: Lab) -> None:
    assert await lab.sh("wc -c; readlink /proc/self/fd/0") == "0\n/dev/null\n"


async def test_terminal_size_echo_and_control_characters(lab: Lab) -> None:
    script = "stty size; tty; trap 'stty size; exit 5' WINCH; read x; echo got $x; read y"
    task = await lab.create(["sh", "-c", script], tty=True, stdin=True, console_size=(33, 77))
    async with await task.attach(stdin=True) as stream:
        await task.start()
        seen = b""
        while b"/dev/" not in seen:
            seen += await stream.read()
        assert seen.startswith(b"33 77\r\n")
        await stream.write(b"hello\r")
        while b"got" not in seen:
            seen += await stream.read()
        assert b"hello\r\n" in seen
        assert b"got hello\r\n" in seen
        await task.resize(50, 120)
        with contextlib.suppress(BrokenPipeError):  # the trap may have ended it already
            await stream.write(b"\r")
        seen += await read_all(stream)
    assert b"50 120" in seen
    assert (await task.wait()).code == 5


async def test_control_c_interrupts_in_a_terminal(lab: Lab) -> None:
    script = "trap 'echo interrupted; exit 9' INT; echo up; while :; do sleep 0.05; done"
    task = await lab.create(["sh", "-c", script], tty=True, stdin=True)
    async with await task.attach(stdin=True) as stream:
        await task.start()
        assert b"up" in await stream.read()
        await stream.write(b"\x03")
        assert b"interrupted" in await read_all(stream)
    assert (await task.wait()).code == 9


async def test_resizing_without_a_terminal_is_a_conflict(lab: Lab) -> None:
    task = await lab.create(["true"])
    with pytest.raises(Conflict, match="no terminal"):
        await task.resize(1, 1)


async def test_attaching_after_the_end_is_not_found(lab: Lab) -> None:
    task = await lab.start(["true"])
    await task.wait()
    with pytest.raises(NotFound):
        await task.attach()


async def test_log_is_complete_when_wait_returns(lab: Lab) -> None:
    task = await lab.start(["sh", "-c", "seq 1 20000; printf unfinished"])
    await task.wait()
    records = log_records(lab.base / task.id / "log")
    assert "".join(record["log"] for record in records) == "".join(f"{n}\n" for n in range(1, 20001)) + "unfinished"
    assert {record["stream"] for record in records} == {"stdout"}


async def test_log_rotates(lab: Lab) -> None:
    path = lab.base / "rotating"
    log = LogConfig("json-file", path, max_size=20_000, max_file=3)
    await lab.run(["seq", "1", "2000"], log=log)
    assert sorted(entry.name for entry in lab.base.glob("rotating*")) == ["rotating", "rotating.1", "rotating.2"]
    assert all(entry.stat().st_size <= 20_000 for entry in lab.base.glob("rotating*"))
    newest = [record["log"] for record in log_records(path)]
    assert newest[-1] == "2000\n"


async def test_a_full_log_disk_does_not_stop_the_container(lab: Lab) -> None:
    status, out, _ = await lab.run(["seq", "1", "1000"], log=LogConfig("json-file", Path("/dev/full")))
    assert status.code == 0
    assert out.endswith(b"1000\n")


async def test_stdout_can_be_reopened_by_its_users(lab: Lab) -> None:
    from buildtool.runtime import ResolvedUser

    out = await lab.sh("echo one > /dev/stdout; echo two > /dev/stderr 2>&1", user=ResolvedUser(1000, 1000, (1000,)))
    assert out == "one\n"
