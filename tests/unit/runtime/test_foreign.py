"""Other OCI runtime programs below the shim: runc, and our own as a program."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from buildtool.errors import CommandNotFound
from buildtool.runtime import Runtime, Task

from .conftest import Lab, demultiplex, read_all

PROGRAMS = {"runc": shutil.which("runc"), "buildtool-oci": str(Path(sys.executable).parent / "buildtool-oci")}


@pytest.fixture(params=PROGRAMS)
def runtime(request: pytest.FixtureRequest) -> str:
    path = PROGRAMS[request.param]
    if path is None or not Path(path).exists():
        pytest.skip(f"there is no {request.param} here")
    return path


async def test_streams_exit_code_and_identity(lab: Lab, runtime: str) -> None:
    script = "echo out; echo err >&2; hostname; id -u; exit 7"
    status, out, err = await lab.run(["sh", "-c", script], runtime=runtime, hostname="inside")
    assert (status.code, out, err) == (7, b"out\ninside\n0\n", b"err\n")


async def test_exec_with_streams_and_what_is_over_at_once(lab: Lab, runtime: str) -> None:
    task = await lab.start(["sleep", "100"], runtime=runtime)
    process = {"args": ["sh", "-c", "cat; exit 4"], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    further = await task.exec(process, tty=False, stdin=True, id="e1")
    async with await further.attach(stdin=True) as stream:
        await further.start()
        await stream.write(b"through\n")
        stream.close_stdin()
        assert demultiplex(await read_all(stream)) == (b"through\n", b"")
    assert (await further.wait()).code == 4
    quick = [
        await task.exec({**process, "args": ["true"]}, tty=False, stdin=False, id=f"q{number}") for number in range(4)
    ]
    await asyncio.gather(*(one.start() for one in quick))
    assert [(await one.wait()).code for one in quick] == [0, 0, 0, 0]
    with pytest.raises(CommandNotFound):
        await (await task.exec({**process, "args": ["nope"]}, tty=False, stdin=False, id="n")).start()


async def test_terminals_of_both_kinds(lab: Lab, runtime: str) -> None:
    task = await lab.create(["sh"], runtime=runtime, tty=True, stdin=True, console_size=(30, 90))
    async with await task.attach(stdin=True) as stream:
        await task.start()
        await task.resize(31, 91)
        await stream.write(b"stty size; exit 3\n")
        assert b"31 91" in await read_all(stream)
    assert (await task.wait()).code == 3
    sleeping = await lab.start(["sleep", "100"], runtime=runtime)
    process = {"args": ["sh"], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    further = await sleeping.exec(process, tty=True, stdin=True, id="t")
    async with await further.attach(stdin=True) as stream:
        await stream.write(b"tty; exit 5\n")
        await further.start()
        assert b"/dev/pts/" in await read_all(stream)
    assert (await further.wait()).code == 5


async def test_signals_pause_limits_and_survival(lab: Lab, runtime: str, tmp_path: Path) -> None:
    task = await lab.start(
        ["sleep", "100"], runtime=runtime, resources={"memory": {"limit": 64 << 20}, "pids": {"limit": 30}}
    )
    stats = await task.stats()
    assert (stats.memory_limit, stats.pids_current) == (64 << 20, 1)
    await task.pause()
    await task.resume()
    second = await Runtime.launch(tmp_path / "second", state_dir=tmp_path / "containers")
    directory = next(tmp_path.glob("*/bundle"))
    found = await second.reattach(directory)
    assert isinstance(found, Task) and found.pid == task.pid
    found.release()
    await second.close()
    await task.signal(signal.SIGTERM)
    await asyncio.sleep(0.1)
    await task.signal(signal.SIGKILL)
    assert (await task.wait()).code == 137


async def test_what_it_refuses_is_told_in_its_words(lab: Lab, runtime: str) -> None:
    with pytest.raises(CommandNotFound, match="executable file not found in"):
        await lab.create(["nope"], runtime=runtime)


async def test_nothing_is_left_with_the_program(lab: Lab) -> None:
    program = PROGRAMS["buildtool-oci"]
    assert program is not None
    await lab.run(["true"], runtime=program)
    (state,) = lab.base.glob("*/bundle/oci/root")
    listed = subprocess.run([program, "--root", str(state), "list", "-q"], capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == ""
