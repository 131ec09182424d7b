"""What a container may see and do: Docker's default posture, and the options that change it."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from buildtool.errors import BuildtoolError
from buildtool.runtime import ResolvedUser
from buildtool.runtime.spec import MASKED_PATHS, READONLY_PATHS

from .conftest import Lab

_DEFAULT_CAPABILITIES = "00000000a80425fb"
_APP = ResolvedUser(1000, 1000, (1000, 2000), "/home/app", "app")


async def test_capabilities_are_dockers_default_for_root(lab: Lab) -> None:
    lines = (await lab.sh("grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status")).split()
    status = dict(zip(lines[::2], lines[1::2], strict=True))
    assert status == {
        "CapInh:": "0" * 16,
        "CapPrm:": _DEFAULT_CAPABILITIES,
        "CapEff:": _DEFAULT_CAPABILITIES,
        "CapBnd:": _DEFAULT_CAPABILITIES,
        "CapAmb:": "0" * 16,
        "NoNewPrivs:": "0",
        "Seccomp:": "2",
    }


async def test_a_plain_user_has_no_capabilities(lab: Lab) -> None:
    out = await lab.sh(
        "grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status; id -u; id -G; umask; cat /proc/self/oom_score_adj", user=_APP
    )
    assert out.split() == [
        *("CapPrm:", "0" * 16, "CapEff:", "0" * 16, "CapBnd:", _DEFAULT_CAPABILITIES),
        *("1000", "1000", "2000", "0022", "0"),
    ]


async def test_capabilities_can_be_added_and_dropped(lab: Lab) -> None:
    out = await lab.sh("grep CapEff /proc/self/status", cap_drop=["ALL"], cap_add=["net_admin", "CAP_KILL"])
    assert int(out.split()[1], 16) == 1 << 12 | 1 << 5


async def test_no_new_privileges(lab: Lab) -> None:
    for user in (ResolvedUser(), _APP):
        out = await lab.sh("grep -E '^(NoNew|Seccomp:)' /proc/self/status", no_new_privileges=True, user=user)
        assert out.split() == ["NoNewPrivs:", "1", "Seccomp:", "2"]


@pytest.mark.parametrize(
    "command",
    [
        "unshare -m true",
        "unshare -U true",
        "mount -t tmpfs x /tmp",
        "mount -o remount,rw /sys",
        "umount /proc",
        "mknod /tmp/disk b 254 0 && cat /tmp/disk",
        "echo 1 > /proc/sys/kernel/sysrq",
        "echo b > /proc/sysrq-trigger",
        "touch /sys/x",
        "touch /sys/fs/cgroup/memory/x",
        "cat /dev/vda",
        "chroot / mount -t proc x /tmp",
        "ip link set lo down",
        "nice -n -5 true",
    ],
)
async def test_default_posture_denies(lab: Lab, command: str) -> None:
    status, _, err = await lab.run(["sh", "-c", command])
    assert status.code != 0
    assert err


def test_seccomp_answers_by_system_call() -> None:
    """In a forked child of this interpreter, because busybox has no applet for these calls."""
    from buildtool.runtime import syscalls as sc
    from buildtool.runtime.capabilities import DEFAULT
    from buildtool.runtime.seccomp import assemble, default_filter

    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
        sc.seccomp_filter(assemble(default_filter(DEFAULT)))
        answers = []
        for number in (
            250,
            248,
            246,
            323,
            435,
            1023,
            272,
            298,
        ):  # keyctl add_key kexec_load userfaultfd clone3 none unshare perf
            sc._syscall(sc._long(number), sc._long(-1), sc._long(-1), sc._long(-1))
            answers.append(str(sc.ctypes.get_errno()))
        for family in (38, 40, socket.AF_UNIX):
            try:
                socket.socket(family, socket.SOCK_SEQPACKET if family != 40 else socket.SOCK_STREAM).close()
                answers.append("0")
            except OSError as error:
                answers.append(str(error.errno))
        os.write(write, " ".join(answers).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    answers = os.read(read, 200).decode().split()
    os.close(read)
    assert answers == ["1", "1", "1", "1", "38", "38", "1", "1", "1", "1", "0"]


async def test_unconfined_seccomp_and_sys_admin_may_mount(lab: Lab) -> None:
    for options in ({"seccomp": "unconfined"}, {}):
        await lab.sh("mount -t tmpfs x /data && touch /data/y", cap_add=["SYS_ADMIN"], **options)


async def test_own_seccomp_profile(lab: Lab) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30}
    status, _, err = await lab.run(
        ["sh", "-c", "mkdir /tmp/x"], seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    )
    assert status.code != 0
    assert b"Read-only file system" in err


async def test_masked_paths_are_empty(lab: Lab) -> None:
    script = "for p in {}; do if [ -d $p ]; then ls -A $p; elif [ -e $p ]; then cat $p; fi; done".format(
        " ".join(MASKED_PATHS)
    )
    assert await lab.sh(script) == ""


async def test_readonly_paths_are_read_only(lab: Lab) -> None:
    mounts = await lab.sh("cat /proc/mounts")
    for path in READONLY_PATHS:
        if Path(path).exists():
            assert re.search(rf"^proc {path} proc ro,", mounts, re.MULTILINE), path


async def test_privileged_sees_and_may_all(lab: Lab) -> None:
    out = await lab.sh(
        "grep CapEff /proc/self/status; mount -t tmpfs x /data; echo > /proc/sys/kernel/domainname; "
        "mkdir /sys/fs/cgroup/memory/inner; rmdir /sys/fs/cgroup/memory/inner; mknod /data/k c 1 11 && : < /data/k; "
        "grep ^Seccomp: /proc/self/status",
        privileged=True,
    )
    own = re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
    assert own is not None
    assert out.split()[1] == own[1]
    assert out.split()[2:] == ["Seccomp:", "0"]


async def test_namespaces_are_new_unless_shared_with_the_host(lab: Lab) -> None:
    kinds = ("mnt", "uts", "ipc", "net", "pid")
    script = f"for k in {' '.join(kinds)}; do readlink /proc/self/ns/$k; done"
    own = dict(zip(kinds, (await lab.sh(script)).split(), strict=True))
    host = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}
    assert all(own[kind] != host[kind] for kind in kinds)
    shared = (await lab.sh(script, network="host", pid="host", ipc="host", uts="host")).split()
    assert dict(zip(kinds, shared, strict=True)) == host | {"mnt": shared[0]}


async def test_host_pid_mode_leaves_no_process_behind(lab: Lab) -> None:
    task = await lab.create(["sh", "-c", "setsid sleep 1000 & echo $!"], pid="host")
    async with await task.attach() as stream:
        await task.start()
        pid = int((await stream.read())[8:])
        await task.wait()
    assert not Path(f"/proc/{pid}").exists()


async def test_network_none_has_loopback_only_and_it_is_up(lab: Lab) -> None:
    out = await lab.sh("ip -o addr; ls /sys/class/net")
    assert "127.0.0.1/8" in out
    assert out.split()[-1] == "lo"


async def test_network_of_another_container(lab: Lab) -> None:
    first = await lab.start(["sleep", "100"])
    path = f"/proc/{first.pid}/ns/net"
    assert (await lab.sh("readlink /proc/self/ns/net", network=path)).strip() == os.readlink(path)


async def test_hostname_and_domainname(lab: Lab) -> None:
    assert (
        await lab.sh("hostname; cat /proc/sys/kernel/domainname", hostname="box", domainname="example")
        == "box\nexample\n"
    )
    assert socket.gethostname() != "box"


async def test_devices_are_the_default_ones(lab: Lab) -> None:
    names = (
        await lab.sh("ls /dev; cat /dev/null; head -c 4 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c")
    ).split()
    assert names[:-2] == """fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero""".split()  # noqa: SIM905
    assert names[-2:] == ["4", "3"]


async def test_an_added_device_is_usable_with_its_permissions(lab: Lab) -> None:
    device = {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o640, "gid": 5, "access": "r"}
    out = await lab.sh(
        "stat -c '%a %g %t:%T' /dev/kmsg; (: < /dev/kmsg) && echo open; (: > /dev/kmsg) || echo denied",
        devices=[device],
        cap_add=["SYSLOG"],
    )
    assert out.split() == ["640", "5", "1:b", "open", "denied"]


async def test_shm_size_and_temporary_file_systems(lab: Lab) -> None:
    mounts = [
        {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["noexec", "size=1m", "mode=700"]}
    ]
    out = await lab.sh(
        "grep -E ' (/dev/shm|/scratch) ' /proc/mounts; stat -c %a /scratch", shm_size=1 << 20, mounts=mounts
    )
    assert re.search(r"^shm /dev/shm tmpfs rw,nosuid,nodev,noexec,.*size=1024k", out, re.MULTILINE)
    assert re.search(r"^tmpfs /scratch tmpfs rw,noexec,.*size=1024k", out, re.MULTILINE)
    assert out.endswith("700\n")


async def test_bind_mounts_of_directories_and_files(lab: Lab) -> None:
    source = lab.base / "source"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("content\n")
    mounts = [
        {"destination": "/v/rw", "type": "bind", "source": str(source), "options": ["rbind", "rprivate"]},
        {"destination": "/v/ro", "type": "bind", "source": str(source), "options": ["rbind", "ro"]},
        {"destination": "/etc/hosts", "type": "bind", "source": str(source / "file"), "options": ["bind", "ro"]},
    ]
    out = await lab.sh(
        "cat /etc/hosts /v/ro/file; touch /v/rw/new; touch /v/ro/no || echo refused; ls /v/ro", mounts=mounts
    )
    assert out.split() == ["content", "content", "refused", "file", "new", "sub"]
    assert (source / "new").exists()


async def test_bind_propagation(lab: Lab) -> None:
    from buildtool.runtime import syscalls as sc

    source = lab.base / "source"
    (source / "inner").mkdir(parents=True)
    sc.mount(str(source), str(source), None, sc.MS_BIND)
    sc.mount(None, str(source), None, sc.MS_SHARED)
    try:
        options = {"slave": ["rbind", "rslave"], "private": ["rbind"], "shared": ["rbind", "rshared"]}
        mounts = [
            {"destination": f"/{name}", "type": "bind", "source": str(source), "options": one}
            for name, one in options.items()
        ]
        task = await lab.create(["sh", "-c", "read x; for d in slave private shared; do ls /$d/inner | wc -l; done"],
                                mounts=mounts, stdin=True, stdin_once=True)  # fmt: skip
        async with await task.attach(stdin=True) as stream:
            await task.start()
            sc.mount("tmpfs", str(source / "inner"), "tmpfs", 0)
            (source / "inner/seen").touch()
            await stream.write(b"\n")
            data = b""
            while chunk := await stream.read():
                data += chunk
        assert re.findall(rb"\d", data.replace(b"\0", b"")) == [b"1", b"0", b"1"]
    finally:
        for _ in range(2):
            if str(source / "inner") in Path("/proc/self/mountinfo").read_text():
                sc.umount(str(source / "inner"), sc.MNT_DETACH)
        sc.umount(str(source), sc.MNT_DETACH)


async def test_destinations_never_lead_out_of_the_root(lab: Lab) -> None:
    outside = lab.base / "outside"
    outside.mkdir()
    bundle = lab.bundle(
        ["sh", "-c", "cat /inside/f"],
        mounts=[
            {"destination": "/link/f", "type": "bind", "source": "/etc/passwd", "options": ["bind"]},
            {"destination": "/up/g", "type": "bind", "source": "/etc/passwd", "options": ["bind"]},
        ],
    )
    upper = bundle.rootfs.upper  # type: ignore[union-attr]
    assert upper is not None
    (upper / "link").symlink_to("/inside")
    (upper / "up").symlink_to("../" * 20 + str(outside).lstrip("/"))
    task = await lab.runtime.create(bundle)
    lab.tasks.append(task)
    await task.start()
    assert (await task.wait()).code == 0
    assert list(outside.iterdir()) == []
    assert (upper / str(outside).lstrip("/") / "g").exists()


@pytest.mark.parametrize(
    ("mount", "text"),
    [
        ({"type": "bind", "source": "/no/such", "options": ["bind"]}, "no such file or directory"),
        ({"type": "bind", "source": "/etc", "options": ["bind"]}, "are you trying to mount a directory onto a file"),
        ({"type": "nofs", "source": "x", "options": []}, "no such device"),
        ({"type": "tmpfs", "source": "x", "options": ["bogus"]}, "invalid argument"),
    ],
)
async def test_a_mount_that_fails_is_named(lab: Lab, mount: dict[str, object], text: str) -> None:
    destination = "/etc/passwd" if mount["source"] == "/etc" else "/data"
    with pytest.raises(BuildtoolError, match=re.escape(f'to rootfs at "{destination}"')) as raised:
        await lab.create(["true"], mounts=[{"destination": destination, **mount}])
    assert text in str(raised.value)


async def test_read_only_root(lab: Lab) -> None:
    out = await lab.sh(
        "touch /x || echo no; touch /tmp/x || echo no; touch /dev/shm/x && echo yes", readonly_rootfs=True
    )
    assert out.split() == ["no", "no", "yes"]


async def test_ulimits_and_sysctls(lab: Lab) -> None:
    limit = {"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456}
    out = await lab.sh(
        "ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax",
        ulimits=[limit],
        sysctls={"net.ipv4.ip_unprivileged_port_start": "0", "kernel.msgmax": "4096"},
    )
    assert out.split() == ["123", "456", "0", "4096"]
    with pytest.raises(BuildtoolError, match=r"sysctl no\.such"):
        await lab.create(["true"], sysctls={"no.such": "1"})


async def test_environment_has_nothing_of_the_daemons(lab: Lab) -> None:
    out = await lab.sh("exec env", env=["PATH=/bin", "A=1", "A=2", "EMPTY="], user=_APP)
    assert sorted(set(out.split()) - {"PWD=/", "SHLVL=0", "SHLVL=1"}) == [
        "A=2",
        "EMPTY=",
        "HOME=/home/app",
        "PATH=/bin",
    ]


async def test_no_descriptor_but_the_standard_ones_is_open(lab: Lab) -> None:
    assert (await lab.sh("ls /proc/self/fd")).split() == ["0", "1", "2", "3"]  # 3 is ls reading the directory


async def test_oom_score(lab: Lab) -> None:
    assert await lab.sh("cat /proc/self/oom_score_adj", oom_score_adj=77) == "77\n"


async def test_container_dies_with_its_shim(lab: Lab) -> None:
    task = await lab.start(["sleep", "1000"])
    shim = int(Path(f"/proc/{task.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    assert (await task.wait()).code == 255
    assert await lab.runtime.reattach(lab.base / task.id / "bundle") is None
    lab.tasks.remove(task)
    task.release()


async def test_the_interpreter_is_not_writable_through_its_exe_link(lab: Lab) -> None:
    """The way of CVE-2019-5736: the program's "interpreter" is what executes it, the host's own binary."""
    task = await lab.start(["sleep", "100"])
    shim = int(Path(f"/proc/{task.pid}/stat").read_text().rpartition(")")[2].split()[1])
    exe = os.open(f"/proc/{shim}/exe", os.O_RDONLY)
    assert os.fstatvfs(exe).f_flag & os.ST_RDONLY
    os.close(exe)


async def test_a_working_directory_through_a_descriptor_leads_nowhere(lab: Lab) -> None:
    for number in range(3, 20):
        with pytest.raises(BuildtoolError, match=r"chdir to cwd|mkdir|outside of the container"):
            await lab.create(["true"], cwd=f"/proc/self/fd/{number}")
