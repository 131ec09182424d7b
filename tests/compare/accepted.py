"""The reviewed differences: each with the reason why it stays.

The peer is Debian's dockerd 20.10 (API 1.41). Where Docker 28 answers otherwise than it did then, we do as 28 does.
"""

from __future__ import annotations

import re

from tests.compare.differences import Difference

_ANY = ("value", "type", "length", "more", "less")
_NEWER = "as Docker 28 has it"
_IDENTITY = "who the engine is, and how it stores things"
_MOMENT = "differs from run to run"
_STRICTER = "refused at create; Docker makes a container that cannot start, or drops the wish"
_CLIENTS_FAULT = "the client's fault is told as such (400, 409), not as 500; Docker 28 does for most of these"
_WORDING = "the same said in other words, or with more detail"

# step and path (regular expressions, whole), kinds, reason
_ACCEPTED: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("version", r"\$\.body\..*", ("value", "length"), _IDENTITY),
    (
        "info",
        r"\$\.body\.(DriverStatus|ID|Plugins\..*|DefaultRuntime|Runtimes\..*|SecurityOptions.*|ServerVersion|InitBinary"
        r"|LiveRestoreEnabled|RegistryConfig\..*|(Containerd|Runc|Init)Commit\..*|NFd|NGoroutines|Debug|Driver|Warnings)",
        _ANY,
        _IDENTITY,
    ),
    (
        "info",
        r"\$\.body\.(BridgeNfIp6?tables|BridgeNfIptables|CDISpecDirs|DefaultAddressPools|KernelMemory(TCP)?|Containerd"
        r"|FirewallBackend|DiscoveredDevices|ClusterAdvertise|ClusterStore)",
        ("more", "less"),
        _NEWER,
    ),
    (".*", r"\$\.body(\..*|\[.*)?\.(Created|Size|VirtualSize|LayersSize|SizeRootFs|SizeRw|Pid)", ("value",), _MOMENT),
    (".*: (created|everything|no command.*)", r"\$\.body\.Name", ("value",), _MOMENT),
    ("top.*", r"\$\.body\.Processes\[.*", ("value",), _MOMENT),
    ("stats.*", r"\$\.body\..*", ("value",), _MOMENT),
    ("stats.*", r"\$\.body\..*(memory_stats\.stats|percpu_usage|_recursive|networks|failcnt|pids_stats).*", _ANY,
     "what this kernel counts, and when"),
    ("events", r".*\.execDuration", ("more",), _NEWER),
    ("events", r"\$\.body\[\d+\]\.time(Nano)?", ("value",), _MOMENT),
    ("containers: prune", r"\$\.body\.ContainersDeleted", ("type", "length", "value"), _STRICTER),
    ("df: empty", r"\$\.body\.BuildCache", ("type",), "a list is a list when it is empty"),
    (".*", r"\$\.body(\[\d+\])?.*\.RepoDigests", ("type",), _NEWER),
    ("image: inspect", r"\$\.body\.(Descriptor|Config\.ArgsEscaped)", ("more",), _NEWER),
    ("image: inspect", r"\$\.body\.(DockerVersion|ContainerConfig|Container)(\..*)?", _ANY, _IDENTITY),
    ("image: inspect", r"\$\.body\.GraphDriver\..*", _ANY, _IDENTITY),
    ("inspect.*", r"\$\.body\.GraphDriver\..*", _ANY, _IDENTITY),
    ("inspect.*", r"\$\.body\.HostConfig\.(KernelMemory(TCP)?|MaskedPaths|ReadonlyPaths)", _ANY, _NEWER),
    ("inspect.*", r"\$\.body\.HostConfig\.(NetworkMode|PortBindings|RestartPolicy\.Name|Runtime)", _ANY, _NEWER),
    ("inspect.*", r"\$\.body\.HostConfig\.SecurityOpt", ("length",), "there is no SELinux to be switched off"),
    ("inspect.*", r"\$\.body\.NetworkSettings\.Sandbox(Key|ID)", _ANY, _NEWER),
    ("inspect.*|containers.*", r".*\.Networks\.[^.]+\.(DNSNames|GwPriority)", ("more",), _NEWER),
    ("containers.*", r".*\.HostConfig\.NetworkMode", ("value",), _NEWER),
    ("network.*", r".*\.EnableIPv4", ("more",), _NEWER),
    ("networks: list", r".*\.(IPAM\.Config.*|Options\..*)", _ANY, "the peer has an empty network of its own"),
    ("wait.*", r"\$\.body\.Error", ("less",), _NEWER),
    ("created: wait", r"\$\.(status|body\..*)", _ANY, _NEWER),
    ("create: bad (port|block weight|ipc mode|pid mode|uts mode|device rule)|create: absent container's network",
     r"\$\.(status|body\.(Id|Warnings|message))", _ANY, _STRICTER),
    ("image: tag badly|unpause: again|containers: bad (filter|limit)|build: nothing|events: bad since"
     "|create: (wrong type|malformed|bad bind|relative bind target|bad security option)",
     r"\$\.status", ("value",), _CLIENTS_FAULT),
    (".*", r"\$\.body\.(message|State\.Error)", ("value",), _WORDING),
)  # fmt: skip


def reason(difference: Difference) -> str:
    """Why this difference is accepted, "" when it is not."""
    for step, path, kinds, why in _ACCEPTED:
        if difference.kind in kinds and re.fullmatch(step, difference.step) and re.fullmatch(path, difference.path):
            return why
    return ""
