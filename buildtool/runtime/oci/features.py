"""What this runtime can, told to callers. Source: OCI runtime-spec v1.2, features.md."""

from __future__ import annotations

from typing import Any

from buildtool.runtime import bpf_assembler, capabilities, cgroups, mounts, seccomp
from buildtool.runtime.oci.hooks import KINDS
from buildtool.runtime.oci.records import VERSION


def features() -> dict[str, Any]:
    """The document of `features`: what the program can, whatever this kernel has.

    AppArmor profiles are applied; on a kernel without AppArmor a start with one fails. A user namespace for one
    container is not made, so `user` is missing among the namespaces, and mounts are not mapped.
    """
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": list(KINDS),
        "mountOptions": mounts.option_names(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "uts"],
            "capabilities": [f"CAP_{name}" if not name.startswith("CAP_") else name for name in capabilities.NUMBERS],
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": list(seccomp.ACTIONS),
                "operators": list(bpf_assembler.OPERATORS),
                "archs": list(seccomp.ARCHITECTURES),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
        "annotations": {"org.buildtool.cgroup-parent": cgroups.DEFAULT_PARENT},
        "potentiallyUnsafeConfigAnnotations": [],
    }
