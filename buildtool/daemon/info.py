"""The documents of GET /version and GET /info."""

from __future__ import annotations

import os
import platform
import uuid
from datetime import UTC, datetime
from typing import Any

import buildtool
from buildtool.containers import logdrivers, runtimes
from buildtool.daemon import host
from buildtool.daemon.negotiate import API_VERSION, MIN_API_VERSION
from buildtool.daemon.services import Services
from buildtool.runtime import apparmor, cdi

_INDEX_SERVER = "https://index.docker.io/v1/"
_RUNTIME = "buildtool"


def version() -> dict[str, Any]:
    """GET /version."""
    kernel = os.uname().release
    python = f"python{platform.python_version()}"
    details = {
        "ApiVersion": API_VERSION,
        "Arch": host.architecture(),
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": python,
        "KernelVersion": kernel,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": "linux",
    }
    return {
        "Platform": {"Name": "buildtool"},
        "Components": [{"Name": "Engine", "Version": buildtool.__version__, "Details": details}],
        "Version": buildtool.__version__,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": python,
        "Os": "linux",
        "Arch": host.architecture(),
        "KernelVersion": kernel,
        "BuildTime": "",
    }


def info(services: Services, states: dict[str, int]) -> dict[str, Any]:
    """GET /info. `states` counts the containers by status. Blocks: it reads files and the database."""
    name, os_version = host.operating_system()
    controllers = host.controllers()
    has_memory, has_cpu = "memory" in controllers, "cpu" in controllers
    cgroup_version = host.cgroup_version()
    rootless = host.in_user_namespace()
    options = ["name=apparmor"] if apparmor.KERNEL.supported() else []
    options += ["name=seccomp,profile=builtin"]
    options += ["name=rootless"] if rootless else []
    options += ["name=cgroupns"] if cgroup_version == "2" else []
    file_system = host.backing_file_system(services.root)
    return {
        "ID": daemon_id(services),
        "Containers": sum(states.values()),
        "ContainersRunning": states.get("running", 0) + states.get("restarting", 0),
        "ContainersPaused": states.get("paused", 0),
        "ContainersStopped": sum(states.get(state, 0) for state in ("created", "exited", "dead", "removing")),
        "Images": len(services.images.list()),
        "Driver": "overlay2",
        "DriverStatus": [
            ["Backing Filesystem", file_system],
            ["Supports d_type", "true"],
            ["Using metacopy", "false"],
            ["Native Overlay Diff", "true"],
            ["userxattr", "true" if rootless else "false"],
        ],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": None,
            "Log": sorted(logdrivers.DRIVERS),
        },
        "MemoryLimit": has_memory,
        "SwapLimit": host.swap_limit(),
        "CpuCfsPeriod": has_cpu,
        "CpuCfsQuota": has_cpu,
        "CPUShares": has_cpu,
        "CPUSet": "cpuset" in controllers,
        "PidsLimit": "pids" in controllers,
        "OomKillDisable": has_memory and cgroup_version == "1",
        "IPv4Forwarding": host.ip_forwarding(),
        "Debug": False,
        "NFd": host.open_files(),
        "NGoroutines": 0,
        "SystemTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup_version,
        "NEventsListener": services.events.listeners,
        "KernelVersion": os.uname().release,
        "OperatingSystem": name,
        "OSVersion": os_version,
        "OSType": "linux",
        "Architecture": os.uname().machine,
        "IndexServerAddress": _INDEX_SERVER,
        "RegistryConfig": _registry_config(),
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": host.memory_bytes(),
        "GenericResources": None,
        "DockerRootDir": str(services.root),
        "HttpProxy": os.environ.get("HTTP_PROXY", os.environ.get("http_proxy", "")),
        "HttpsProxy": os.environ.get("HTTPS_PROXY", os.environ.get("https_proxy", "")),
        "NoProxy": os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")),
        "Name": os.uname().nodename,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": buildtool.__version__,
        "Runtimes": runtimes.known(),
        "DefaultRuntime": _RUNTIME,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "docker-init",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": options,
        "DefaultAddressPools": [],
        "CDISpecDirs": list(cdi.DIRECTORIES),
        "Warnings": None,
    }


def daemon_id(services: Services) -> str:
    """The identity of this data root's daemon, made once."""
    documents = services.store.state.documents("daemon")
    found = documents.get("id")
    if found is None:
        found = {"id": str(uuid.uuid4())}
        documents.put("id", found)
    return str(found["id"])


def _registry_config() -> dict[str, Any]:
    index = {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}
    return {
        "AllowNondistributableArtifactsCIDRs": None,
        "AllowNondistributableArtifactsHostnames": None,
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
        "IndexConfigs": {"docker.io": index},
        "Mirrors": [],
    }
