"""What the attributes of a service do in its container: one stack has them all, each row looks at one of them.

The rows are those of reference/stacks.md 1.3 and 1.4 that no other test shows; docs/stacks-keys.md lists which shows
which.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program
from tests.e2e.stacks.helpers import ON_DOCKERD, Stack, eventually, only_ours

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root"),
    pytest.mark.xdist_group("stack-keys"),
]

TEXT = """
    x-loop: &loop {image: busybox, stop_grace_period: 0s, command: LOOP}
    services:
      identity:
        <<: *loop
        container_name: PROJECT-called
        hostname: me
        domainname: example.org
        user: "33:34"
        group_add: ["50"]
        working_dir: /tmp
        labels: [a=b]
        annotations: {org.example.c: d}
        init: true
        tty: true
        stdin_open: true
        environment: [ONE=1, "TWO=a b"]
        expose: ["80", "90-91/udp"]
      words: {image: busybox, command: "sh -c 'echo $$0 \\"$$1\\"; sleep 1000' zero 'o n e'", stop_grace_period: 0s}
      entry: {image: busybox, entrypoint: [sh, -c, "echo from the entrypoint; sleep 1000"], stop_grace_period: 0s}
      limits:
        <<: *loop
        cpus: 0.5
        cpuset: "0"
        cpu_shares: 512
        mem_limit: 64m
        memswap_limit: 96m
        mem_reservation: 32m
        pids_limit: 50
        shm_size: 8m
        oom_score_adj: 100
        ulimits: {nofile: {soft: 100, hard: 200}, core: 0}
        sysctls: {net.core.somaxconn: 321}
      quota: {<<: *loop, cpu_quota: 20000, cpu_period: 100000}
      deployed:
        <<: *loop
        deploy:
          resources: {limits: {cpus: "0.25", memory: 32m, pids: 40}, reservations: {memory: 16m}}
          restart_policy: {condition: on-failure, max_attempts: 3}
      rights:
        <<: *loop
        cap_drop: [ALL]
        cap_add: [NET_BIND_SERVICE]
        read_only: true
        security_opt: ["no-new-privileges:true"]
        tmpfs: ["/scratch:size=1m"]
      mighty: {<<: *loop, privileged: true, profiles: [PROFILE]}
      devices: {<<: *loop, devices: ["/dev/zero:/dev/nought:r"]}
      names:
        <<: *loop
        dns: 192.0.2.1
        dns_search: [example.org]
        dns_opt: ["ndots:3"]
        extra_hosts: ["pinned=192.0.2.7", "host.docker.internal:host-gateway", "six=[::1]"]
        mac_address: 02:42:ac:11:00:99
      storage:
        <<: *loop
        depends_on: {prepare: {condition: service_completed_successfully}}
        volumes:
          - data:/data
          - ./file:/bound:ro
          - /anonymous
          - {type: bind, source: ./made, target: /made}
          - {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}
          - sized:/sized
      newer:
        <<: *loop
        profiles: [PROFILE]
        depends_on: {prepare: {condition: service_completed_successfully}}
        volumes:
          - {type: volume, source: data, target: /sub, volume: {subpath: inner}}
          - {type: image, source: busybox, target: /image}
      prepare:
        image: busybox
        command: [sh, -c, "mkdir -p /data/inner; echo in > /data/inner/f"]
        volumes: ["data:/data"]
      alone: {<<: *loop, network_mode: none}
      hosted: {<<: *loop, network_mode: host, ipc: host, pid: host, uts: host}
      sharing: {<<: *loop, ipc: "service:lending", pid: "service:lending"}
      lending: {<<: *loop, ipc: shareable}
      inside: {<<: *loop, networks: [inner]}
      logged: {<<: *loop, logging: {driver: json-file, options: {max-size: 1m, max-file: "2"}}}
      silent: {<<: *loop, logging: {driver: none}}
      polite:
        image: busybox
        command: [sh, -c, "trap 'exit 7' USR1; while :; do sleep 0.1; done"]
        stop_signal: SIGUSR1
        stop_grace_period: 30s
      stubborn: {image: busybox, command: [sh, -c, "exit 3"], restart: "on-failure:2"}
      checked:
        <<: *loop
        healthcheck: {test: "test -e /bin/sh", interval: 1m, start_interval: 100ms, start_period: 9s}
      unchecked: {<<: *loop, healthcheck: {disable: true}}
      scaled: {<<: *loop, scale: 2}
      ranged: {<<: *loop, ports: ["127.0.0.1::80-81", {target: 90, protocol: udp, host_ip: 127.0.0.1}]}
    networks:
      inner: {internal: true, name: PROJECT-in, labels: {a: b}, driver_opts: {com.docker.network.bridge.name: BRIDGE}}
    volumes:
      data: {labels: [x=y]}
      sized: {driver_opts: {type: tmpfs, device: tmpfs, o: "size=2m"}}
"""


@pytest.fixture(scope="module")
def stack(cli: Program, busybox_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of them, up."""
    folder = tmp_path_factory.mktemp("keys") / f"t{os.getpid()}keys"
    folder.mkdir()
    made = Stack(cli, folder)
    (folder / "file").write_text("from the host")
    text = TEXT.replace("profiles: [PROFILE]", "profiles: [newer]" if ON_DOCKERD else "profiles: []")
    made.write(text.replace("PROJECT", made.name).replace("BRIDGE", f"k{os.getpid()}"))
    made("up", "-d")
    yield made
    made("down", "-v", "-t", "0", "--remove-orphans", check=False)


def look(stack: Stack, service: str, command: str) -> str:
    found: str = stack("exec", "-T", service, "sh", "-c", command).stdout
    return found.strip()


@pytest.mark.parametrize(
    ("service", "command", "expected"),
    [
        ("identity", "hostname", "me"),
        ("identity", "cat /proc/sys/kernel/domainname", "example.org"),
        ("identity", "id -u; id -g; id -G", "33\n34\n34 50"),
        ("identity", "pwd", "/tmp"),
        ("identity", "echo $ONE-$TWO", "1-a b"),
        ("limits", "cat /proc/1/oom_score_adj", "100"),
        ("limits", "cat /proc/sys/net/core/somaxconn", "321"),
        ("limits", "ulimit -n; ulimit -Hn; ulimit -c", "100\n200\n0"),
        ("limits", "df -k /dev/shm | tail -1 | awk '{print $2}'", "8192"),
        ("limits", "grep Cpus_allowed_list /proc/self/status | cut -f2", "0"),
        ("rights", "grep CapEff /proc/self/status | cut -f2", "0000000000000400"),
        ("rights", "grep NoNewPrivs /proc/self/status | cut -f2", "1"),
        ("rights", "touch /x 2>/dev/null || echo refused; touch /scratch/x && echo fine", "refused\nfine"),
        ("rights", "df -k /scratch | tail -1 | awk '{print $2}'", "1024"),
        pytest.param(
            "mighty", "test $(grep CapEff /proc/self/status | cut -f2) = 00000000a80425fb || echo more", "more",
            marks=only_ours,
        ),
        ("devices", "head -c1 /dev/nought | od -An -tx1", "00"),
        ("names", "grep -c '^192.0.2.7.pinned$' /etc/hosts", "1"),
        ("names", "grep -c '^::1.six$' /etc/hosts", "1"),
        ("names", "grep host.docker.internal /etc/hosts | grep -c '^[0-9.]*'", "1"),
        ("names", "grep -E 'search|options' /etc/resolv.conf | sort | head -c 20", "options ndots:3\nsear"),
        ("names", "cat /sys/class/net/eth0/address", "02:42:ac:11:00:99"),
        ("storage", "cat /data/inner/f /bound", "in\nfrom the host"),
        ("storage", "touch /bound 2>/dev/null || echo refused", "refused"),
        pytest.param("newer", "cat /sub/f", "in", marks=only_ours),
        pytest.param("newer", "test -x /image/bin/busybox && echo there", "there", marks=only_ours),
        ("storage", "stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'", "700\n1024"),
        ("storage", "df -k /sized | tail -1 | awk '{print $2}'", "2048"),
        ("storage", "test -d /anonymous -a -d /made && echo both", "both"),
        ("alone", "ls /sys/class/net", "lo"),
        pytest.param("inside", "ip route | grep -c default || true", "0", marks=only_ours),
        ("sharing", "readlink /proc/self/ns/ipc", "{lending}"),
    ],
)  # fmt: skip
def test_in_the_container(stack: Stack, service: str, command: str, expected: str) -> None:
    if expected == "{lending}":
        expected = look(stack, "lending", command)
    assert look(stack, service, command) == expected


@pytest.mark.parametrize(
    ("service", "path", "expected"),
    [
        ("identity", "Config.Labels.a", "b"),
        pytest.param("identity", "HostConfig.Annotations", {"org.example.c": "d"}, marks=only_ours),
        ("identity", "HostConfig.Init", True),
        ("identity", "Config.Tty", True),
        ("identity", "Config.OpenStdin", True),
        ("limits", "HostConfig.NanoCpus", 500_000_000),
        ("limits", "HostConfig.CpuShares", 512),
        ("limits", "HostConfig.Memory", 64 << 20),
        ("limits", "HostConfig.MemorySwap", 96 << 20),
        ("limits", "HostConfig.MemoryReservation", 32 << 20),
        ("limits", "HostConfig.PidsLimit", 50),
        ("quota", "HostConfig.CpuQuota", 20000),
        ("quota", "HostConfig.CpuPeriod", 100000),
        ("deployed", "HostConfig.NanoCpus", 250_000_000),
        ("deployed", "HostConfig.Memory", 32 << 20),
        ("deployed", "HostConfig.MemoryReservation", 16 << 20),
        ("deployed", "HostConfig.PidsLimit", 40),
        ("deployed", "HostConfig.RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": 3}),
        ("names", "HostConfig.Dns", ["192.0.2.1"]),
        ("logged", "HostConfig.LogConfig", {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}}),
        ("checked", "Config.Healthcheck.Test", ["CMD-SHELL", "test -e /bin/sh"]),
        ("unchecked", "Config.Healthcheck.Test", ["NONE"]),
    ],
)
def test_at_the_engine(stack: Stack, service: str, path: str, expected: Any) -> None:
    assert dig(inspect(stack, service), path) == expected


def dig(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[key]
    return document


def inspect(stack: Stack, service: str) -> Any:
    return json.loads(stack.cli("inspect", stack("ps", "-a", "-q", service).stdout.split()[0]).stdout)[0]


def test_the_container_is_called_as_its_service_says(stack: Stack) -> None:
    assert inspect(stack, "identity")["Name"] == f"/{stack.name}-called"


def test_commands_are_split_as_a_shell_does_and_entrypoints_take_the_images_place(stack: Stack) -> None:
    eventually(lambda: stack("logs", "--no-log-prefix", "words").stdout == "zero o n e\n")
    eventually(lambda: stack("logs", "--no-log-prefix", "entry").stdout == "from the entrypoint\n")


def test_exposed_ports_and_ranges_of_published_ones(stack: Stack) -> None:
    assert set(inspect(stack, "identity")["Config"]["ExposedPorts"]) == {"80/tcp", "90/udp", "91/udp"}
    bindings = inspect(stack, "ranged")["NetworkSettings"]["Ports"]
    assert set(bindings) == {"80/tcp", "81/tcp", "90/udp"}
    assert {item["HostIp"] for found in bindings.values() for item in found} == {"127.0.0.1"}


def test_namespaces_of_the_host(stack: Stack) -> None:
    for kind in (
        ("ipc", "pid", "uts") if ON_DOCKERD else ("net", "ipc", "pid", "uts")
    ):  # that has a network of its own
        assert look(stack, "hosted", f"readlink /proc/self/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")


def test_scale_without_deploy(stack: Stack) -> None:
    assert len(stack("ps", "-q", "scaled").stdout.split()) == 2


def test_networks_and_volumes_have_their_names_labels_and_options(stack: Stack) -> None:
    network = json.loads(stack.cli("network", "inspect", f"{stack.name}-in").stdout)[0]
    assert (network["Internal"], network["Labels"]["a"]) == (True, "b")
    assert network["Options"] == {"com.docker.network.bridge.name": f"k{os.getpid()}"}
    volume = json.loads(stack.cli("volume", "inspect", f"{stack.name}_data").stdout)[0]
    assert volume["Labels"]["x"] == "y"


def test_a_service_without_logs(stack: Stack) -> None:
    assert "not support reading" in stack.cli("logs", f"{stack.name}-silent-1", check=False).stderr


def test_restart_on_failure_gives_up_at_its_number(stack: Stack) -> None:
    eventually(lambda: inspect(stack, "stubborn")["RestartCount"] == 2)


def test_health_is_looked_at(stack: Stack) -> None:
    eventually(lambda: inspect(stack, "checked")["State"]["Health"]["Status"] == "healthy")


def test_stop_sends_the_services_signal_and_waits_its_time(stack: Stack) -> None:
    begun = time.monotonic()
    stack("stop", "polite")
    assert inspect(stack, "polite")["State"]["ExitCode"] == 7
    assert time.monotonic() - begun < 25


def test_what_the_machine_has_not_is_refused(stack: Stack, tmp_path: Path, unique: str) -> None:
    folder = tmp_path / unique
    folder.mkdir()
    other = Stack(stack.cli, folder)
    for text in ("gpus: all", "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}"):
        other.write(f"services: {{a: {{image: busybox, {text}}}}}")
        failed = other("up", "-d", check=False)
        assert failed.returncode == 1 and "gpu" in failed.stderr
    other.write("services: {a: {image: busybox, secrets: [s]}}\nsecrets: {s: {external: true}}")
    failed = other("up", "-d", check=False)
    assert failed.returncode == 1 and "external" in failed.stderr
    other("down")


def test_a_service_may_be_left_out_of_the_output(stack: Stack, tmp_path: Path, unique: str) -> None:
    folder = tmp_path / unique
    folder.mkdir()
    other = Stack(stack.cli, folder)
    other.write(
        """
        services:
          loud: {image: busybox, command: echo loud}
          still: {image: busybox, command: echo still, attach: false}
        """
    )
    shown = other("up").stdout
    assert "loud" in shown and "| still" not in shown
    other("down")
