"""From create to delete: exit codes, signals, refusals, many at once."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from buildtool.errors import BuildtoolError, CommandNotExecutable, CommandNotFound, Conflict, NotFound
from buildtool.runtime import Rootfs

from .conftest import Lab, demultiplex, processes_naming, read_all


async def test_exit_code_is_the_commands_own(lab: Lab, no_new_zombies: None) -> None:
    status, _, _ = await lab.run(["sh", "-c", "exit 42"])
    assert (status.code, status.signal, status.oom_killed) == (42, None, False)
    assert status.exited_at > 1_700_000_000


async def test_death_by_signal_is_128_plus_its_number(lab: Lab) -> None:
    task = await lab.start(["sleep", "100"])
    await task.signal(signal.SIGKILL)
    status = await task.wait()
    assert (status.code, status.signal) == (137, signal.SIGKILL)
    assert task.exit == status


async def test_a_trapped_signal_reaches_the_program(lab: Lab) -> None:
    task = await lab.create(["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"])
    async with await task.attach() as stream:
        await task.start()
        assert b"ready" in await stream.read()
        await task.signal(signal.SIGTERM)
        assert (await task.wait()).code == 7


async def test_program_sees_default_signal_dispositions(lab: Lab) -> None:
    status = await lab.sh("exec grep -E '^Sig(Blk|Ign)' /proc/self/status")
    assert set(status.split()[1::2]) == {"0" * 16}


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        (["nope"], CommandNotFound, 'exec: "nope": executable file not found in $PATH'),
        ([""], CommandNotFound, 'exec: "": executable file not found in $PATH'),
        (["/no/pe"], CommandNotFound, 'exec: "/no/pe": stat /no/pe: no such file or directory'),
        (["/etc/passwd"], CommandNotExecutable, 'exec: "/etc/passwd": permission denied'),
        (["/etc"], CommandNotExecutable, 'exec: "/etc": is a directory'),
    ],
)
async def test_create_refuses_what_cannot_be_executed(
    lab: Lab, args: list[str], error: type[BuildtoolError], text: str
) -> None:
    with pytest.raises(error) as raised:
        await lab.create(args)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        ("garbage\0", CommandNotExecutable, "exec format error"),
        ("#!/no/sh\n", CommandNotFound, "no such file or directory"),
    ],
)
async def test_start_reports_what_the_kernel_refuses(
    lab: Lab, content: str, error: type[BuildtoolError], reason: str
) -> None:
    bundle = lab.bundle(["/tool"])
    assert isinstance(bundle.rootfs, Rootfs)
    assert bundle.rootfs.upper is not None
    tool = bundle.rootfs.upper / "tool"
    tool.write_text(content)
    tool.chmod(0o755)
    task = await lab.runtime.create(bundle)
    with pytest.raises(error) as raised:
        await task.start()
    assert str(raised.value) == f"exec /tool: {reason}"
    assert (await task.wait()).code == 127
    await task.delete()


async def test_working_directory_is_made_and_a_file_is_refused(lab: Lab) -> None:
    assert await lab.sh("pwd", cwd="/deep/er") == "/deep/er\n"
    with pytest.raises(CommandNotExecutable, match="not a directory"):
        await lab.create(["true"], cwd="/etc/passwd/x")


async def test_a_second_start_is_a_conflict_and_after_the_end_there_is_nothing(lab: Lab) -> None:
    task = await lab.start(["sleep", "100"])
    with pytest.raises(Conflict):
        await task.start()
    await task.delete()
    with pytest.raises(NotFound):
        await task.signal(signal.SIGTERM)


async def test_deleting_a_created_container_leaves_nothing(lab: Lab) -> None:
    task = await lab.create(["true"])
    await task.delete()
    assert (await task.wait()).code == 137


async def test_deleting_does_not_wait_for_a_client_that_reads_later(lab: Lab) -> None:
    task = await lab.create(["sh", "-c", "yes $(seq 20) | head -c 900000"])
    stream = await task.attach()
    await task.start()
    await task.wait()
    await asyncio.wait_for(task.delete(), 5)
    assert not (lab.base / task.id / "bundle/shim.sock").exists()
    assert len(demultiplex(await read_all(stream))[0]) == 900000
    stream.close()


async def test_cancelling_a_create_leaves_nothing(lab: Lab) -> None:
    creation = asyncio.create_task(lab.runtime.create(lab.bundle(["sleep", "100"])))
    await asyncio.sleep(0.004)
    creation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creation
    await asyncio.sleep(0.2)  # the spawner may only be about to fork
    for _ in range(300):
        if processes_naming(str(lab.base)) == [lab.runtime.spawner_pid]:
            break
        await asyncio.sleep(0.01)


async def test_init_adopts_and_reaps_orphans_and_takes_everything_with_it(lab: Lab, no_new_zombies: None) -> None:
    task = await lab.create(["sh", "-c", "setsid sleep 1000 & (sleep 0 &) ; echo up; exec sleep 1000"])
    async with await task.attach() as stream:
        await task.start()
        await stream.read()
    pids = await task.pids()
    assert len(pids) >= 2
    await task.signal(signal.SIGKILL)
    await task.wait()
    assert not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids)


async def test_fifty_containers_at_once(lab: Lab, no_new_zombies: None) -> None:
    runs = await asyncio.gather(*(lab.run(["sh", "-c", f"echo {number}; exit {number}"]) for number in range(50)))
    for number, (status, out, _) in enumerate(runs):
        assert (status.code, out) == (number, f"{number}\n".encode())


async def test_more_layers_than_a_mount_option_string_holds(lab: Lab) -> None:
    layers = [lab.tree]
    for number in range(140):
        layer = lab.base / "layers" / f"a-rather-long-directory-name-for-layer-{number}"
        layer.mkdir(parents=True)
        (layer / f"file{number}").touch()
        layers.append(layer)
    upper, work = lab.base / "many/fs", lab.base / "many/work"
    upper.mkdir(parents=True)
    work.mkdir()
    assert await lab.sh("ls -d /file* | wc -l", rootfs=Rootfs(layers, upper, work)) == "140\n"


async def test_root_may_be_a_plain_directory_or_read_only_layers(lab: Lab) -> None:
    assert await lab.sh("echo ok", rootfs=lab.tree) == "ok\n"
    status, _, err = await lab.run(["touch", "/file"], rootfs=Rootfs([lab.tree]))
    assert status.code == 1
    assert b"Read-only" in err
    assert not (lab.tree / "file").exists()


async def test_bundle_holds_the_oci_config_and_the_exit_record(lab: Lab) -> None:
    task = await lab.start(["sh", "-c", "exit 3"])
    status = await task.wait()
    directory = lab.base / task.id / "bundle"
    assert '"ociVersion"' in (directory / "config.json").read_text()
    assert f'"code": {status.code}' in (directory / "exit.json").read_text()


async def test_volatile_overlay_is_not_synced(lab: Lab) -> None:
    upper, work = lab.base / "vol/fs", lab.base / "vol/work"
    upper.mkdir(parents=True)
    work.mkdir()
    assert "volatile" in await lab.sh(
        "grep ' / ' /proc/mounts", rootfs=Rootfs([lab.tree], upper, work, volatile=True)
    )


async def test_created_mount_points_are_reported(lab: Lab) -> None:
    mounts = [{"destination": "/new/place", "type": "tmpfs", "source": "tmpfs", "options": []}]
    task = await lab.create(["true"], mounts=mounts)
    assert task.created == ["/new", "/new/place"]
    assert os.path.isdir(lab.base / task.id / "fs/new/place")
