"""From the flags of `run` to the body of the create call."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from buildtool.cli.container_config import container_body, extra_host
from buildtool.cli.container_mounts import parse_mount
from buildtool.cli.container_resources import parse_ulimit
from buildtool.cli.ports import displayable_ports, exposed, published
from buildtool.errors import InvalidInput

from .calls import make_call


def body(line: str | list[str], *, detach: bool = False) -> dict[str, Any]:
    return container_body(make_call(line), detach=detach)


def test_a_plain_run_attaches_output_only() -> None:
    made = body("run busybox echo hi")
    assert made["Image"] == "busybox" and made["Cmd"] == ["echo", "hi"]
    assert (made["AttachStdin"], made["AttachStdout"], made["AttachStderr"]) == (False, True, True)
    assert (made["Tty"], made["OpenStdin"], made["StdinOnce"]) == (False, False, False)
    assert made["HostConfig"]["NetworkMode"] == "default"
    assert "Entrypoint" not in made and "User" not in made and "Healthcheck" not in made


def test_interactive_attaches_stdin_once() -> None:
    made = body("run -it busybox")
    assert (made["AttachStdin"], made["OpenStdin"], made["StdinOnce"], made["Tty"]) == (True, True, True, True)
    assert made["Cmd"] is None
    assert body("run -a stderr busybox")["AttachStdout"] is False
    made = body("run -di busybox", detach=True)
    assert (made["AttachStdin"], made["AttachStdout"], made["OpenStdin"], made["StdinOnce"]) == (
        False,
        False,
        True,
        False,
    )


def test_config_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "v")
    made = body(
        "run -e A=1 -e FROM_HERE -l x=y -l z -h name --domainname d -u 1:2 -w /w --stop-signal INT --stop-timeout 3 "
        "--entrypoint sh busybox -c x"
    )
    assert made["Env"] == ["A=1", "FROM_HERE=v"]
    assert made["Labels"] == {"x": "y", "z": ""}
    assert (made["Hostname"], made["Domainname"], made["User"], made["WorkingDir"]) == ("name", "d", "1:2", "/w")
    assert (made["StopSignal"], made["StopTimeout"], made["Entrypoint"]) == ("INT", 3, ["sh"])
    assert body(["run", "--entrypoint", "", "busybox"])["Entrypoint"] == [""]


def test_host_config_fields() -> None:
    host = body(
        "run --rm --privileged --read-only -P --cap-add NET_ADMIN --cap-drop ALL --dns 1.1.1.1 --add-host a:1.2.3.4 "
        "--add-host b=::1 --group-add 5 --volumes-from c --init --pid host --ipc none --uts host --userns host "
        "--cgroupns private --cgroup-parent /p --runtime r --sysctl a.b=1 --storage-opt size=1g --annotation k=v "
        "--log-driver none --log-opt a=b --cidfile /c --network none busybox"
    )["HostConfig"]
    expected = {
        "AutoRemove": True,
        "Privileged": True,
        "ReadonlyRootfs": True,
        "PublishAllPorts": True,
        "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["ALL"],
        "Dns": ["1.1.1.1"],
        "ExtraHosts": ["a:1.2.3.4", "b:::1"],
        "GroupAdd": ["5"],
        "VolumesFrom": ["c"],
        "Init": True,
        "PidMode": "host",
        "IpcMode": "none",
        "UTSMode": "host",
        "UsernsMode": "host",
        "CgroupnsMode": "private",
        "CgroupParent": "/p",
        "Runtime": "r",
        "Sysctls": {"a.b": "1"},
        "StorageOpt": {"size": "1g"},
        "Annotations": {"k": "v"},
        "LogConfig": {"Type": "none", "Config": {"a": "b"}},
        "ContainerIDFile": "/c",
        "NetworkMode": "none",
    }
    assert {key: host[key] for key in expected} == expected


def test_resources() -> None:
    host = body(
        "run -m 64m --memory-swap -1 --memory-reservation 32m --memory-swappiness 10 --cpus 1.5 -c 512 "
        "--cpu-period 1 --cpu-quota 2 --cpuset-cpus 0,1 --cpuset-mems 0 --pids-limit 9 --shm-size 1g "
        "--oom-kill-disable --oom-score-adj -5 --blkio-weight 100 --ulimit nofile=1:2 --ulimit core=-1 "
        "--device /dev/a "
        "--device /dev/a:/dev/b:r --device /dev/c:rw --device-read-bps /dev/a:1mb --gpus all busybox"
    )["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["MemoryReservation"]) == (64 << 20, -1, 32 << 20)
    assert (host["NanoCpus"], host["CpuShares"], host["CpusetCpus"], host["PidsLimit"]) == (
        1_500_000_000,
        512,
        "0,1",
        9,
    )
    assert (host["ShmSize"], host["OomKillDisable"], host["OomScoreAdj"]) == (1 << 30, True, -5)
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1, "Hard": 2}, {"Name": "core", "Soft": -1, "Hard": -1}]
    assert [device["CgroupPermissions"] for device in host["Devices"]] == ["rwm", "r", "rw"]
    assert host["Devices"][1]["PathInContainer"] == "/dev/b"
    assert host["BlkioDeviceReadBps"] == [{"Path": "/dev/a", "Rate": 1 << 20}]
    assert host["DeviceRequests"][0]["Count"] == -1
    assert "KernelMemory" not in body("run busybox")["HostConfig"]


def test_healthcheck() -> None:
    made = body(["run", "--health-cmd", "curl x", "--health-interval", "5s", "--health-retries", "2", "busybox"])
    assert made["Healthcheck"]["Test"] == ["CMD-SHELL", "curl x"]
    assert (made["Healthcheck"]["Interval"], made["Healthcheck"]["Retries"]) == (5 * 10**9, 2)
    assert body("run --no-healthcheck busybox")["Healthcheck"] == {"Test": ["NONE"]}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("run --rm --restart always busybox", "cannot specify both --restart and --rm"),
        ("run --no-healthcheck --health-retries 1 busybox", "conflicts with --health-"),
        ("run --health-interval -1s busybox", "--health-interval cannot be negative"),
        ("run -a both busybox", "valid streams are STDIN, STDOUT and STDERR"),
        ("run --restart :3 busybox", "no policy provided before colon"),
        ("run --restart on-failure:x busybox", "maximum retry count must be an integer"),
        ("run --memory-swappiness 101 busybox", "Valid memory swappiness range is 0-100"),
        ("run --add-host a busybox", "bad format for add-host"),
        ("run --add-host a:b busybox", "invalid IP address in add-host"),
        ("run --ulimit nofile busybox", "invalid ulimit argument: nofile"),
        ("run --ulimit nofile=2:1 busybox", "soft limit must be less than or equal to hard limit"),
        ("run --device a:b:c:d busybox", "invalid device specification"),
        ("run --device-read-bps x:1 busybox", "bad format for device path"),
        ("run --network-alias a busybox", "only for containers in user defined networks"),
        ("run --security-opt seccomp=/none busybox", "opening seccomp profile"),
        ("run --env-file /none busybox", "open /none: no such file"),
        ("run -e =x busybox", "invalid environment variable"),
    ],
)
def test_contradictions_are_refused_in_dockers_words(line: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        body(line)


def test_volumes_and_mounts() -> None:
    made = body("run -v /a -v /h:/c:ro -v ./rel:/r -v name:/n --tmpfs /t:size=1m --tmpfs /u --mount dst=/m busybox")
    host = made["HostConfig"]
    assert made["Volumes"] == {"/a": {}}
    assert host["Binds"] == ["/h:/c:ro", f"{os.getcwd()}/rel:/r", "name:/n"]
    assert host["Tmpfs"] == {"/t": "size=1m", "/u": ""}
    assert host["Mounts"] == [{"Type": "volume", "Target": "/m"}]


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("type=bind,src=/a,dst=/b,ro", {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}),
        (
            "type=bind,source=/a,target=/b,readonly=false,bind-propagation=rslave",
            {
                "Type": "bind",
                "Source": "/a",
                "Target": "/b",
                "ReadOnly": False,
                "BindOptions": {"Propagation": "rslave"},
            },
        ),
        (
            'src=v,dst=/v,volume-nocopy,"volume-opt=o=a,b",volume-label=k=v',
            {
                "Type": "volume",
                "Source": "v",
                "Target": "/v",
                "VolumeOptions": {
                    "NoCopy": True,
                    "DriverConfig": {"Options": {"o": "a,b"}},
                    "Labels": {"k": "v"},
                },
            },
        ),
        (
            "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770",
            {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 64 << 20, "Mode": 0o1770}},
        ),
    ],
)
def test_mount_specs(text: str, mount: dict[str, Any]) -> None:
    assert parse_mount(text) == mount


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("type=bind,src=/a", "target is required"),
        ("type=bind,dst=/a", "source is required"),
        ("type=magic,dst=/a", "mount type unknown"),
        ("dst=/a,colour=red", "unexpected key 'colour'"),
        ("dst=/a,red", "must be a key=value pair"),
        ("type=tmpfs,dst=/a,volume-nocopy=true", "cannot mix 'volume-\\*' options"),
        ("dst=/a,readonly=maybe", "invalid value"),
        ("type=tmpfs,dst=/a,tmpfs-size=x", "invalid value for tmpfs-size"),
    ],
)
def test_wrong_mounts(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        parse_mount(text)


@pytest.mark.parametrize(
    ("spec", "bindings"),
    [
        ("80", {"80/tcp": [{"HostIp": "", "HostPort": ""}]}),
        ("8080:80/udp", {"80/udp": [{"HostIp": "", "HostPort": "8080"}]}),
        ("127.0.0.1:8080:80", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}),
        ("127.0.0.1::80", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}),
        ("[::1]:8080:80", {"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]}),
        (
            "8000-8001:90-91",
            {"90/tcp": [{"HostIp": "", "HostPort": "8000"}], "91/tcp": [{"HostIp": "", "HostPort": "8001"}]},
        ),
        ("8000-8010:80", {"80/tcp": [{"HostIp": "", "HostPort": "8000-8010"}]}),
    ],
)
def test_published_ports(spec: str, bindings: dict[str, Any]) -> None:
    assert published([spec]) == bindings


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("1:2:3:4", "invalid IP address: 1:2"),
        ("80/xyz", "invalid proto"),
        ("x", "invalid containerPort: x"),
        ("x:80", "invalid hostPort: x"),
        ("8000-8002:80-81", "invalid ranges"),
        ("99999", "invalid containerPort"),
        ("80:", "no port specified"),
    ],
)
def test_wrong_ports(spec: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        published([spec])


def test_ports_expose_themselves() -> None:
    made = body("run -p 8080:80 --expose 90-91 --expose 53/udp busybox")
    assert set(made["ExposedPorts"]) == {"80/tcp", "90/tcp", "91/tcp", "53/udp"}
    assert set(exposed(["1"])) == {"1/tcp"}


def test_ports_are_shown_as_docker_does() -> None:
    ports = [
        {"PrivatePort": 81, "PublicPort": 8081, "IP": "0.0.0.0", "Type": "tcp"},
        {"PrivatePort": 80, "PublicPort": 8080, "IP": "0.0.0.0", "Type": "tcp"},
        {"PrivatePort": 443, "Type": "tcp"},
        {"PrivatePort": 80, "PublicPort": 8080, "IP": "::", "Type": "tcp"},
    ]
    assert displayable_ports(ports) == "0.0.0.0:8080-8081->80-81/tcp, [::]:8080->80/tcp, 443/tcp"


def test_seccomp_profiles_are_read_here(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text('{ "defaultAction": "SCMP_ACT_ALLOW" }')
    host = body(["run", "--security-opt", f"seccomp={profile}", "--security-opt", "no-new-privileges", "busybox"])[
        "HostConfig"
    ]
    assert json.loads(host["SecurityOpt"][0].removeprefix("seccomp=")) == {"defaultAction": "SCMP_ACT_ALLOW"}
    assert host["SecurityOpt"][1] == "no-new-privileges"
    unconfined = body("run --security-opt systempaths=unconfined busybox")["HostConfig"]
    assert (unconfined["MaskedPaths"], unconfined["ReadonlyPaths"]) == ([], [])


def test_networks_and_their_settings() -> None:
    made = body("run --network mine --network-alias web --ip 10.0.0.5 busybox")
    assert made["HostConfig"]["NetworkMode"] == "mine"
    endpoint = made["NetworkingConfig"]["EndpointsConfig"]["mine"]
    assert endpoint == {"Aliases": ["web"], "IPAMConfig": {"IPv4Address": "10.0.0.5"}}
    assert body("run --network container:x busybox")["NetworkingConfig"]["EndpointsConfig"] == {}
    assert body("run --network bridge busybox")["NetworkingConfig"]["EndpointsConfig"] == {}


def test_several_networks_and_the_long_form() -> None:
    made = body("run --network bridge --network name=two,alias=a,alias=b,ip=10.0.0.5,gw-priority=7 busybox")
    assert made["HostConfig"]["NetworkMode"] == "bridge"
    assert made["NetworkingConfig"]["EndpointsConfig"] == {
        "bridge": {},
        "two": {"Aliases": ["a", "b"], "IPAMConfig": {"IPv4Address": "10.0.0.5"}, "GwPriority": 7},
    }
    for words, text in (
        ("--network a=b", "invalid field 'a=b'"),
        ("--network alias=b", "is not specified"),
        ("--network mine --network mine", "specified multiple times"),
        ("--network name=mine,ip=10.0.0.1 --ip 10.0.0.2", "conflicting options"),
    ):
        with pytest.raises(InvalidInput, match=text):
            body(f"run {words} busybox")


def test_small_parsers() -> None:
    assert extra_host("a=host-gateway") == "a:host-gateway"
    assert extra_host("a:[::1]") == "a:::1"
    assert parse_ulimit("core=unlimited") == {"Name": "core", "Soft": -1, "Hard": -1}
