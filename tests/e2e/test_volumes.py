"""Volumes as users see them: where their data lies, who shares it, backups, and what a killed daemon leaves."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(autouse=True)
def clean(daemon: Daemon, busybox_image: str) -> Iterator[None]:
    """A test finds no container and no volume, leaves none to the next one, and nothing mounted."""
    remove_all(daemon)
    yield
    remove_all(daemon)
    assert mounted(daemon) == []


def remove_all(daemon: Daemon) -> None:
    """The worker's daemon serves other modules too, and anonymous volumes outlive a plain `rm`."""
    for container in daemon.request("GET", "/containers/json?all=1"):
        daemon.raw("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for volume in daemon.request("GET", "/volumes")["Volumes"]:
        daemon.raw("DELETE", f"/volumes/{volume['Name']}?force=1")


def mounted(daemon: Daemon) -> list[str]:
    """What is mounted below the volumes of a daemon."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if point.startswith(f"{daemon.data}/volumes/")]


def run(cli: Program, *flags: str, command: str) -> str:
    return str(cli("run", "--rm", *flags, "busybox", "sh", "-c", command).stdout)


def inspect(cli: Program, kind: str, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cli(kind, "inspect", name).stdout)[0]
    return document


def test_a_tmpfs_volume_is_shared_while_it_is_used_and_empty_afterwards(cli: Program, daemon: Daemon) -> None:
    cli("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=1000,mode=0700", "quick")
    assert inspect(cli, "volume", "quick")["Options"]["o"] == "size=1m,uid=1000,mode=0700"
    usage = cli("system", "df", "-v").stdout.partition("VOLUME NAME")[2]
    assert ["quick", "0", "N/A"] in [line.split() for line in usage.splitlines()]
    cli("run", "-d", "--name", "one", "-v", "quick:/q", "busybox", "sleep", "600")
    cli("exec", "one", "sh", "-c", "echo shared > /q/file")
    assert run(cli, "-v", "quick:/q", command="cat /q/file; stat -c '%u %a' /q") == "shared\n1000 700\n"
    assert mounted(daemon) == [str(daemon.data / "volumes/quick/_data")]
    assert cli("exec", "one", "sh", "-c", "head -c 2000000 /dev/zero > /q/big", check=False).returncode != 0
    cli("rm", "-f", "one")
    assert mounted(daemon) == []
    assert run(cli, "-v", "quick:/q", command="ls /q") == ""


def test_a_bind_volume_is_a_directory_of_the_host_that_outlives_it(cli: Program, tmp_path: Path) -> None:
    options = ("-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}")
    cli("volume", "create", *options, "there")
    run(cli, "-v", "there:/t", command="echo kept > /t/file")
    assert (tmp_path / "file").read_text() == "kept\n"
    cli("create", "--name", "stopped", "-v", "there:/t", "busybox")
    cli("cp", "/etc/hostname", "stopped:/t/copied")
    assert (tmp_path / "copied").exists()
    cli("rm", "stopped")
    cli("volume", "rm", "there")
    assert (tmp_path / "file").exists()
    read_only = run(
        cli,
        "--mount",
        f"type=volume,src=other,dst=/o,volume-opt=type=none,volume-opt=o=bind,volume-opt=device={tmp_path},ro",
        command="cat /o/file; touch /o/new 2>&1 || true",
    )
    assert read_only.startswith("kept\n") and "Read-only file system" in read_only


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("colour=red",), 'invalid option: "colour"'),
        (("type=tmpfs",), 'missing required option: "device"'),
        (("device=/x",), 'missing required option: "type"'),
        (("o=bind",), 'missing required option: "device"'),
        (("size=1m",), "no quota support"),
        (("type=none", "o=bind", "device=here"), "absolute path"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(cli: Program, options: tuple[str, ...], reason: str) -> None:
    flags = [part for option in options for part in ("-o", option)]
    refused = cli("volume", "create", *flags, "bad", check=False)
    assert refused.returncode != 0 and reason in refused.stderr
    assert cli("volume", "ls", "-q").stdout == ""


def test_what_the_kernel_cannot_mount_is_refused_at_the_start_with_its_reason(cli: Program) -> None:
    cli("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/not/there", "gone")
    refused = cli("run", "--rm", "-v", "gone:/g:nocopy", "busybox", "true", check=False)
    assert refused.returncode == 127 and "mount /not/there:" in refused.stderr
    assert "no such file or directory" in refused.stderr
    options = ("-o", "type=cifs", "-o", "device=//127.0.0.1/x", "-o", "o=addr=127.0.0.1,username=u,password=secret")
    cli("volume", "create", *options, "share")
    refused = cli("run", "--rm", "-v", "share:/g:nocopy", "busybox", "true", check=False)
    assert refused.returncode != 0 and "password=********" in refused.stderr and "secret" not in refused.stderr
    if "nfs" not in Path("/proc/filesystems").read_text():
        cli("volume", "create", "-o", "type=nfs", "-o", "o=addr=127.0.0.1,rw", "-o", "device=:/x", "far")
        refused = cli("run", "--rm", "-v", "far:/g:nocopy", "busybox", "true", check=False)
        assert refused.returncode == 125 and "failed to mount local volume" in refused.stderr
        assert "no file system of type 'nfs'" in refused.stderr


@pytest.mark.parametrize("name", ["backup.tar", "backup.tar.gz", "backup.tar.zst"])
def test_a_volume_goes_into_an_archive_and_comes_back(cli: Program, tmp_path: Path, name: str) -> None:
    fill = "cd /v; echo data > file; chown 7:8 file; chmod 4750 file; ln -s file link; mkdir -m 700 d; ln file d/hard"
    look = "cd /v; stat -c '%n %u:%g %a %h %F %Y' . file link d d/hard; readlink link; cat d/hard"
    run(cli, "-v", "source:/v", command=fill)
    before = run(cli, "-v", "source:/v", command=look)
    cli("volume", "export", "source", "-o", str(tmp_path / name))
    assert cli("volume", "import", "copy", str(tmp_path / name)).stdout == "copy\n"
    assert run(cli, "-v", "copy:/v", command=look) == before
    piped = cli("volume", "import", "piped", input=(tmp_path / name).read_bytes(), text=False).stdout
    assert piped == b"piped\n" and run(cli, "-v", "piped:/v", command=look) == before


def test_an_import_replaces_nothing_unless_asked_and_changes_nothing_when_it_fails(
    cli: Program, tmp_path: Path
) -> None:
    run(cli, "-v", "full:/v", command="echo old > /v/old")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("new")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"new\n"))
    (tmp_path / "good.tar").write_bytes(archive.getvalue())
    (tmp_path / "bad.tar").write_bytes(archive.getvalue()[:700] + b"garbage" * 99)
    refused = cli("volume", "import", "full", str(tmp_path / "good.tar"), check=False)
    assert refused.returncode != 0 and "not empty" in refused.stderr and "--replace" in refused.stderr
    for bad in ("full", "fresh"):
        assert cli("volume", "import", "--replace", bad, str(tmp_path / "bad.tar"), check=False).returncode != 0
    assert run(cli, "-v", "full:/v", command="ls /v") == "old\n"
    assert cli("volume", "ls", "-q").stdout == "full\n"
    cli("run", "-d", "--name", "user", "-v", "full:/v", "busybox", "sleep", "600")
    busy = cli("volume", "import", "--replace", "full", str(tmp_path / "good.tar"), check=False)
    assert busy.returncode != 0 and "in use by running containers" in busy.stderr
    cli("rm", "-f", "user")
    cli("volume", "import", "--replace", "full", str(tmp_path / "good.tar"))
    assert run(cli, "-v", "full:/v", command="cat /v/*") == "new\n"
    assert cli("volume", "export", "nothing", "-o", str(tmp_path / "x.tar"), check=False).returncode != 0


def test_volumes_from_another_container_keep_their_places_and_modes(cli: Program, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("of the host\n")
    volumes = ("-v", "named:/n", "-v", "/anonymous", "-v", f"{tmp_path}:/h:ro")
    cli("create", "--name", "data", *volumes, "--tmpfs", "/own", "busybox")
    run(cli, "--volumes-from", "data", command="echo one > /n/a; echo two > /anonymous/b; test ! -e /own")
    assert (
        run(cli, "--volumes-from", "data:ro", command="cat /n/a /anonymous/b /h/hosts") == "one\ntwo\nof the host\n"
    )
    assert cli("run", "--rm", "--volumes-from", "data:ro", "busybox", "touch", "/n/x", check=False).returncode == 1
    assert cli("run", "--rm", "--volumes-from", "data", "busybox", "touch", "/h/x", check=False).returncode == 1
    own = run(cli, "--volumes-from", "data", "-v", "mine:/n", command="ls /n; ls /anonymous")
    assert own == "b\n"
    refused = cli("run", "--rm", "--volumes-from", "data:xx", "busybox", "true", check=False)
    assert refused.returncode == 125 and "invalid mode: xx" in refused.stderr
    cli("rm", "-v", "data")
    assert cli("volume", "ls", "-q").stdout.split() == ["mine", "named"]


def test_part_of_a_volume_or_of_an_image_is_mounted(cli: Program, tmp_path: Path) -> None:
    run(cli, "-v", "whole:/v", command="mkdir -p /v/a/b; echo deep > /v/a/b/c; ln -s /etc /v/out")
    part = ("--mount", "type=volume,src=whole,dst=/p,volume-subpath=a/b")
    assert run(cli, *part, command="ls /p; cat /p/c") == "c\ndeep\n"
    for wrong in ("nothing", "out/passwd", "../x"):
        spec = f"type=volume,src=whole,dst=/p,volume-subpath={wrong}"
        assert cli("run", "--rm", "--mount", spec, "busybox", "true", check=False).returncode == 125
    (tmp_path / "Buildfile").write_text("FROM busybox\nRUN mkdir -p /d/e && echo 1 > /d/e/f\nRUN echo 2 > /d/e/g\n")
    cli("build", "-t", "parts", str(tmp_path))
    assert run(cli, "--mount", "type=image,src=parts,dst=/i", command="cat /i/d/e/*") == "1\n2\n"
    assert run(cli, "--mount", "type=image,src=parts,dst=/i,image-subpath=d/e", command="cat /i/*") == "1\n2\n"
    assert run(cli, "--mount", "type=image,src=parts,dst=/i,image-subpath=d/e/f", command="cat /i") == "1\n"
    fixed = cli("run", "--rm", "--mount", "type=image,src=parts,dst=/i", "busybox", "touch", "/i/x", check=False)
    assert fixed.returncode == 1 and "Read-only" in fixed.stderr
    missing = cli(
        "run", "--rm", "--mount", "type=image,src=parts,dst=/i,image-subpath=zz", "busybox", "true", check=False
    )
    assert missing.returncode == 125 and "cannot access path zz" in missing.stderr
    cli("rmi", "parts")


def test_read_only_means_what_is_mounted_below_too(cli: Program, tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    with mount_tmpfs(below):
        touch = "(touch /m/below/x && echo written) 2>&1"
        bind = f"type=bind,src={tmp_path},dst=/m,ro"
        assert "Read-only" in run(cli, "-v", f"{tmp_path}:/m:ro", command=f"{touch} || true")
        assert "Read-only" in run(cli, "--mount", bind, command=f"{touch} || true")
        assert run(cli, "--mount", f"{bind},bind-recursive=writable", command=touch) == "written\n"
        alone = run(cli, "--mount", f"{bind},bind-recursive=disabled", command="ls /m/below")
        assert alone == ""


class mount_tmpfs:
    """Context manager: a tmpfs at a directory."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> None:
        from buildtool.runtime import syscalls

        syscalls.mount("tmpfs", str(self._target), "tmpfs", 0, "size=1m")

    def __exit__(self, *_exc: object) -> None:
        from buildtool.runtime import syscalls

        syscalls.umount(str(self._target), syscalls.MNT_DETACH)


def test_a_container_that_sees_the_daemons_root_lets_its_mounts_go(cli: Program, daemon: Daemon) -> None:
    cli("create", "--name", "above", "-v", f"{daemon.root}:/r", "busybox")
    assert inspect(cli, "container", "above")["Mounts"][0]["Propagation"] == "rslave"
    cli("create", "--name", "beside", "-v", "/etc:/e", "busybox")
    assert inspect(cli, "container", "beside")["Mounts"][0]["Propagation"] == "rprivate"
    refused = cli("create", "-v", f"{daemon.data}:/r:private", "busybox", check=False)
    assert refused.returncode != 0 and 'either propagation mode "rslave" or "rshared"' in refused.stderr


def test_prune_takes_the_anonymous_and_with_all_the_named_that_match(cli: Program) -> None:
    cli("create", "--name", "user", "-v", "used:/u", "-v", "/anonymous", "busybox")
    for label, name in (("keep=yes", "kept"), ("keep=no", "named")):
        cli("volume", "create", "--label", label, name)
    cli("volume", "create")
    assert cli("volume", "prune", "-f").stdout.count("\n") >= 2
    assert {"kept", "named", "used"} < set(cli("volume", "ls", "-q").stdout.split())
    assert len(cli("volume", "ls", "-q", "-f", "dangling=false").stdout.split()) == 2
    cli("volume", "prune", "-f", "-a", "--filter", "label!=keep=yes")
    assert set(cli("volume", "ls", "-q", "-f", "dangling=true").stdout.split()) == {"kept"}
    cli("volume", "prune", "-f", "-a", "--filter", "label=keep")
    assert cli("volume", "ls", "-q", "-f", "dangling=true").stdout == ""
    assert "cluster" in cli("volume", "update", "used", check=False).stderr


@pytest.fixture
def fragile(make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon of its own, to be killed."""
    daemon = make_daemon()
    load_busybox(daemon)
    yield daemon
    daemon.close()


def test_mounted_volumes_survive_a_killed_daemon_and_go_with_their_last_container(fragile: Daemon) -> None:
    cli = Program(BUILDTOOL, fragile.environment)
    cli("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "quick")
    cli("run", "-d", "--name", "one", "-v", "quick:/q", "busybox", "sh", "-c", "echo here > /q/f; exec sleep 61.25")
    cli("run", "-d", "--name", "two", "-v", "other:/o", "busybox", "sleep", "600")
    fragile.kill()
    fragile.start()
    assert run(cli, "-v", "quick:/q", command="cat /q/f") == "here\n"
    fragile.kill()
    os.kill(process_with("sleep\x0061.25"), 9)
    fragile.start()
    assert mounted(fragile) == []
    half = fragile.data / "volumes/other/import-half"
    fragile.kill()
    half.mkdir()
    fragile.start()
    assert not half.exists()


def process_with(mark: str) -> int:
    """A process that has this in its command line."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    raise AssertionError(f"there is no process with {mark}")


@pytest.fixture
def seeded(cli: Program, tmp_path: Path) -> Iterator[str]:
    """An image that has files at the place of its volume."""
    folder = tmp_path / "seeded"
    folder.mkdir()
    (folder / "Buildfile").write_text(
        "FROM busybox\nRUN mkdir -p /data/d && echo seed > /data/f && ln -s f /data/l && chown 7:8 /data /data/f "
        "&& chmod 2750 /data && chmod 640 /data/f && touch -d @1000 /data/f\nVOLUME /data\n"
    )
    cli("build", "-t", "seeded", str(folder))
    yield "seeded"
    remove_all_containers(cli)
    cli("rmi", "seeded")


def remove_all_containers(cli: Program) -> None:
    names = cli("ps", "-aq").stdout.split()
    if names:
        cli("rm", "-f", "-v", *names)


LOOK = "stat -c '%u:%g %a %Y' /data/f; stat -c '%u:%g %a' /data; readlink /data/l; ls /data"
SEED = "7:8 640 1000\n7:8 2750\nf\nd\nf\nl\n"


def test_an_empty_volume_gets_what_the_image_has_at_its_place(cli: Program, seeded: str) -> None:
    def look(*flags: str) -> str:
        return str(cli("run", "--rm", *flags, seeded, "sh", "-c", LOOK).stdout)

    assert look() == SEED and cli("volume", "ls", "-q").stdout == ""  # anonymous, gone with --rm
    assert look("-v", "named:/data") == SEED
    cli("run", "--rm", "-v", "named:/data", seeded, "sh", "-c", "rm /data/*; echo own > /data/own", check=False)
    assert cli("run", "--rm", "-v", "named:/data", seeded, "cat", "/data/own").stdout == "own\n"
    assert "f" not in cli("run", "--rm", "-v", "named:/data", seeded, "ls", "/data").stdout.split()
    for flags in (("-v", "bare:/data:nocopy"), ("--mount", "type=volume,src=bare,dst=/data,volume-nocopy")):
        assert cli("run", "--rm", *flags, seeded, "ls", "/data").stdout == ""
    cli("create", "--name", "kept", seeded)
    (anonymous,) = [name for name in cli("volume", "ls", "-q").stdout.split() if name not in ("named", "bare")]
    assert inspect(cli, "container", "kept")["Mounts"][0]["Name"] == anonymous
    cli("rm", "kept")
    assert anonymous in cli("volume", "ls", "-q", "-f", "dangling=true").stdout.split()


def test_binds_see_mounts_of_the_host_as_their_propagation_says(cli: Program, tmp_path: Path) -> None:
    with shared_mount(tmp_path):
        (tmp_path / "sub").mkdir()
        for mode in ("rprivate", "rslave", "rshared"):
            cli("run", "-d", "--privileged", "--name", mode, "-v", f"{tmp_path}:/m:{mode}", "busybox", "sleep", "600")
        assert inspect(cli, "container", "rslave")["Mounts"][0]["Propagation"] == "rslave"
        with mount_tmpfs(tmp_path / "sub"):
            (tmp_path / "sub/late").touch()
            seen = {mode: cli("exec", mode, "ls", "/m/sub").stdout for mode in ("rprivate", "rslave", "rshared")}
            assert seen == {"rprivate": "", "rslave": "late\n", "rshared": "late\n"}
        for mode, expected in (("rslave", False), ("rshared", True)):
            cli("exec", mode, "sh", "-c", "mkdir -p /m/own && mount -t tmpfs own /m/own && touch /m/own/inner")
            assert (tmp_path / "own/inner").exists() is expected
            cli("exec", mode, "umount", "/m/own")
        cli("rm", "-f", "rprivate", "rslave", "rshared")
    (tmp_path / "plain").mkdir()
    with private_mount(tmp_path / "plain"):
        refused = cli("run", "--rm", "-v", f"{tmp_path}/plain:/m:rshared", "busybox", "true", check=False)
        assert refused.returncode != 0 and "but it is not a shared mount" in refused.stderr
        refused = cli("run", "--rm", "-v", f"{tmp_path}/plain:/m:slave", "busybox", "true", check=False)
        assert refused.returncode != 0 and "but it is not a shared or slave mount" in refused.stderr


@contextlib.contextmanager
def shared_mount(target: Path) -> Iterator[None]:
    """A directory that is a shared mount of its own."""
    from buildtool.runtime import syscalls

    syscalls.mount(str(target), str(target), None, syscalls.MS_BIND)
    syscalls.mount(None, str(target), None, syscalls.MS_SHARED)
    try:
        yield
    finally:
        syscalls.umount(str(target), syscalls.MNT_DETACH)


@contextlib.contextmanager
def private_mount(target: Path) -> Iterator[None]:
    """A directory that is a private mount of its own."""
    from buildtool.runtime import syscalls

    syscalls.mount(str(target), str(target), None, syscalls.MS_BIND)
    syscalls.mount(None, str(target), None, syscalls.MS_PRIVATE)
    try:
        yield
    finally:
        syscalls.umount(str(target), syscalls.MNT_DETACH)


def test_tmpfs_mounts_have_the_options_asked_for(cli: Program) -> None:
    look = "grep ' /t tmpfs' /proc/mounts; stat -c %a /t"
    plain = run(cli, "--tmpfs", "/t", command=look)
    assert "nosuid,nodev,noexec" in plain and plain.endswith("1777\n")
    shaped = run(cli, "--tmpfs", "/t:size=64k,mode=700,exec,uid=7", command=look)
    assert "size=64k" in shaped and "noexec" not in shaped and "uid=7" in shaped and shaped.endswith("\n700\n")
    long = run(cli, "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770", command=look)
    assert "size=1024k" in long and long.endswith("1770\n")
    assert "ro," in run(cli, "--mount", "type=tmpfs,dst=/t,ro", command=look)
    full = cli(
        "run", "--rm", "--tmpfs", "/t:size=64k", "busybox", "sh", "-c", "head -c 99999 /dev/zero > /t/f", check=False
    )
    assert full.returncode != 0


def test_volumes_are_found_by_filters_and_weighed(cli: Program) -> None:
    for name, label in (("shop-db", "tier=one"), ("shop-files", "tier=two"), ("other", "x=y")):
        cli("volume", "create", "--label", label, name)
    cli("create", "--name", "user", "-v", "shop-db:/d", "busybox")

    def names(*filters: str) -> set[str]:
        flags = [part for text in filters for part in ("-f", text)]
        return set(cli("volume", "ls", "-q", *flags).stdout.split())

    assert names("name=shop") == {"shop-db", "shop-files"} == names("label=tier")
    assert names("label=tier=two") == {"shop-files"} and names("driver=local") == names()
    assert names("driver=far") == set() and names("dangling=true") == {"shop-files", "other"}
    assert "invalid filter" in cli("volume", "ls", "-f", "colour=red", check=False).stderr
    run(cli, "-v", "shop-db:/d", command="head -c 2000000 /dev/zero > /d/big")
    rows = cli("system", "df", "-v").stdout.partition("VOLUME NAME")[2].splitlines()
    assert ["shop-db", "1", "2MB"] in [row.split() for row in rows]
    assert "no such volume" in cli("volume", "rm", "nothing", check=False).stderr
    assert "volume is in use" in cli("volume", "rm", "shop-db", check=False).stderr
