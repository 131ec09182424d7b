"""Further processes in a running container."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from buildtool.errors import CommandNotExecutable, CommandNotFound, NotFound
from buildtool.runtime import ResolvedUser, Task
from buildtool.runtime.spec import capability_set, process_spec

from .conftest import Lab, demultiplex, read_all


def process(*args: str, **options: object) -> dict[str, object]:
    chosen: dict[str, object] = {
        "env": ["PATH=/bin"],
        "cwd": "/",
        "user": ResolvedUser(),
        "capabilities": capability_set((), ()),
    }
    return process_spec(args=args, **{**chosen, **options})  # type: ignore[arg-type]


async def run(task: Task, *args: str, tty: bool = False, **options: object) -> tuple[int, bytes]:
    one = await task.exec(process(*args, **options), tty=tty, stdin=False, id="e" + "-".join(args)[:30])
    async with await one.attach() as stream:
        await one.start()
        data = await read_all(stream)
    return (await one.wait()).code, data if tty else demultiplex(data)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_exec_stays_in_the_container_when_the_daemon_is_in_a_changed_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    test = f"{Path(__file__)}::test_exec_shares_the_namespaces_and_has_its_own_exit_code"
    pytest_in_it = (
        f"{sys.executable} -m pytest -q -p no:cacheprovider -p no:xdist --basetemp /tmp/in-{root.parent.name} {test}"
    )
    script = (
        f"mount --rbind / {root} && mount --make-rprivate {root} && cd {root} && exec chroot {root} {pytest_in_it}"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    shutil.rmtree(f"/tmp/in-{root.parent.name}", ignore_errors=True)
    assert done.returncode == 0, done.stdout


async def test_exec_shares_the_namespaces_and_has_its_own_exit_code(lab: Lab) -> None:
    task = await lab.start(["sh", "-c", "echo here > /tmp/f; exec sleep 100"], hostname="box")
    written = "until grep -qs here /tmp/f; do sleep 0.01; done"
    code, out = await run(
        task,
        "sh",
        "-c",
        f"{written}; cat /tmp/f; hostname; ls -l /proc/self/ns > /dev/null; ps | grep -c sleep; exit 4",
    )
    assert (code, out.splitlines()[:2]) == (4, [b"here", b"box"])
    for kind in ("mnt", "pid", "net", "ipc", "uts"):
        script = f"readlink /proc/1/ns/{kind}; readlink /proc/self/ns/{kind}"
        _, names = await run(task, "sh", "-c", script, capabilities=["CAP_SYS_PTRACE", *capability_set((), ())])
        assert len(set(names.split())) == 1


async def test_exec_with_terminal_stdin_and_resize(lab: Lab) -> None:
    task = await lab.start(["sleep", "100"])
    one = await task.exec(process("sh", "-c", "tty; read x; stty size"), tty=True, stdin=True, id="t")
    async with await one.attach(stdin=True) as stream:
        await one.start()
        assert b"/dev/pts/0" in await stream.read()
        await one.resize(11, 22)
        await stream.write(b"\r")
        assert b"11 22" in await read_all(stream)
    assert (await one.wait()).code == 0


async def test_exec_stdin_closes_with_its_client(lab: Lab) -> None:
    task = await lab.start(["sleep", "100"])
    one = await task.exec(process("wc", "-c"), tty=False, stdin=True, id="s")
    async with await one.attach(stdin=True) as stream:
        await one.start()
        await stream.write(b"12345")
        stream.close_stdin()
        assert demultiplex(await read_all(stream))[0].strip() == b"5"


async def test_exec_as_another_user_has_no_capabilities(lab: Lab) -> None:
    task = await lab.start(["sleep", "100"])
    user = ResolvedUser(1000, 1000, (1000, 2000), "/home/app", "app")
    _, out = await run(task, "sh", "-c", "id -u; id -G; echo $HOME; grep CapEff /proc/self/status", user=user)
    assert out == b"1000\n1000 2000\n/home/app\nCapEff:\t0000000000000000\n"


@pytest.mark.parametrize(("command", "error"), [("nope", CommandNotFound), ("/etc/passwd", CommandNotExecutable)])
async def test_exec_of_what_is_not_there_is_refused_and_harmless(
    lab: Lab, command: str, error: type[Exception]
) -> None:
    task = await lab.start(["sleep", "100"])
    with pytest.raises(error):
        await task.exec(process(command), tty=False, stdin=False, id="x")
    assert (await run(task, "true"))[0] == 0
    assert task.exit is None


async def test_exec_is_signalled_alone(lab: Lab) -> None:
    task = await lab.start(["sleep", "100"])
    one = await task.exec(process("sleep", "100"), tty=False, stdin=False, id="k")
    await one.start()
    await one.signal(signal.SIGTERM)
    assert (await one.wait()).signal == signal.SIGTERM
    assert task.exit is None


async def test_execs_end_with_the_container(lab: Lab, no_new_zombies: None) -> None:
    task = await lab.start(["sleep", "100"])
    one = await task.exec(process("sleep", "100"), tty=False, stdin=False, id="k")
    await one.start()
    await task.signal(signal.SIGKILL)
    assert (await one.wait()).code == 137
    assert (await task.wait()).code == 137
    with pytest.raises(NotFound):
        await task.exec(process("true"), tty=False, stdin=False, id="late")


async def test_a_background_process_of_an_exec_does_not_hold_it(lab: Lab) -> None:
    task = await lab.start(["sleep", "100"])
    one = await task.exec(process("sh", "-c", "sleep 60 & echo started"), tty=False, stdin=False, id="b")
    async with await one.attach() as stream:
        await one.start()
        data = await asyncio.wait_for(read_all(stream), 10)
    assert demultiplex(data)[0] == b"started\n"


async def test_many_execs_at_once(lab: Lab, no_new_zombies: None) -> None:
    task = await lab.start(["sleep", "100"])
    results = await asyncio.gather(*(run(task, "sh", "-c", f"echo {n}; exit {n}") for n in range(30)))
    assert [code for code, _ in results] == list(range(30))
    assert [out for _, out in results] == [f"{n}\n".encode() for n in range(30)]


async def test_exec_counts_in_the_containers_control_group(lab: Lab) -> None:
    task = await lab.start(["sleep", "100"])
    one = await task.exec(process("sleep", "100"), tty=False, stdin=False, id="c")
    await one.start()
    assert sorted(await task.pids()) == sorted([task.pid, one.pid])
