"""`--init`: the container's first process passes signals on, reaps, and ends as the program ended."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from buildtool.errors import CommandNotExecutable, CommandNotFound

from .conftest import Lab, read_all

_ORPHANS = """
for i in 1 2 3; do (setsid sh -c 'sleep 0.05' & exec true) ; done
sleep 0.4
grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | grep -c status
"""


async def test_it_is_pid_1_and_the_program_is_its_child(lab: Lab) -> None:
    out = await lab.sh("cat /proc/1/comm; echo $PPID; cat /proc/1/cmdline", init=True)
    name, parent, command = out.split("\n")
    assert (name, parent) == ("docker-init", "1")
    assert command.rstrip("\0").split("\0")[:4] == ["/sbin/docker-init", "--", "sh", "-c"]


@pytest.mark.parametrize(("command", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)])
async def test_its_exit_code_is_the_programs(lab: Lab, command: str, code: int) -> None:
    status, _, _ = await lab.run(["sh", "-c", command], init=True)
    assert status.code == code


async def test_orphans_are_reaped(lab: Lab) -> None:
    status, out, _ = await lab.run(["sh", "-c", _ORPHANS], init=True)
    assert (status.code, out) == (1, b"0\n")


async def test_signals_go_to_the_program_which_dies_of_those_it_does_not_handle(lab: Lab) -> None:
    handling = await lab.create(["sh", "-c", "trap 'exit 5' USR1; echo; while :; do sleep 0.05; done"], init=True)
    async with await handling.attach() as stream:
        await handling.start()
        await stream.read()
        await handling.signal(signal.SIGUSR1)
        assert (await handling.wait()).code == 5
    sleeping = await lab.start(["sleep", "100"], init=True)
    await sleeping.signal(signal.SIGTERM)
    assert (await sleeping.wait()).code == 143


async def test_what_cannot_be_executed_is_told_as_without_it(lab: Lab) -> None:
    with pytest.raises(CommandNotFound):
        await lab.create(["nope"], init=True)
    bundle = lab.bundle(["/tool"], init=True)
    upper: Path = bundle.rootfs.upper  # type: ignore[union-attr,assignment]
    (upper / "tool").write_text("garbage\0")
    (upper / "tool").chmod(0o755)
    task = await lab.runtime.create(bundle)
    lab.tasks.append(task)
    with pytest.raises(CommandNotExecutable, match="exec format error"):
        await task.start()


async def test_the_terminals_foreground_is_the_programs(lab: Lab) -> None:
    task = await lab.create(
        ["sh", "-c", "trap 'echo got; exit 3' INT; echo up; while :; do sleep 0.05; done"],
        init=True, tty=True, stdin=True,
    )  # fmt: skip
    async with await task.attach(stdin=True) as stream:
        await task.start()
        assert b"up" in await stream.read()
        await stream.write(b"\x03")
        assert b"got" in await read_all(stream)
    assert (await task.wait()).code == 3


async def test_its_program_has_no_more_rights_and_it_cannot_be_looked_into(lab: Lab) -> None:
    out = await lab.sh(
        "grep -E '^(CapEff|Seccomp):' /proc/1/status; grep -E '^(CapEff|Seccomp):' /proc/self/status;"
        "readlink /proc/1/exe || echo closed",
        init=True,
    )
    *fields, last = out.splitlines()
    assert fields[:2] == fields[2:]
    assert last == "closed"


async def test_in_the_hosts_pid_namespace_nothing_is_left_when_it_ends(lab: Lab) -> None:
    status, _, _ = await lab.run(["sh", "-c", "setsid sleep 987 & exit 4"], init=True, pid="host")
    assert status.code == 4
