"""From options to an OCI spec, without a kernel."""

from __future__ import annotations

import json
from typing import Any

import pytest

from buildtool.errors import InvalidInput
from buildtool.runtime import ResolvedUser
from buildtool.runtime.capabilities import DEFAULT, NUMBERS, mask_of
from buildtool.runtime.spec import SpecOptions, capability_set, container_spec


def spec(**options: Any) -> dict[str, Any]:
    document = container_spec(SpecOptions(id="abc", args=["x"], **options))
    json.dumps(document)
    return document


def namespace_kinds(document: dict[str, Any]) -> set[str]:
    return {one["type"] for one in document["linux"]["namespaces"]}


def test_default_posture() -> None:
    document = spec()
    assert namespace_kinds(document) == {"mount", "uts", "ipc", "pid", "network"}
    assert document["process"]["capabilities"]["bounding"] == list(DEFAULT)
    assert "inheritable" not in document["process"]["capabilities"]
    assert document["linux"]["cgroupsPath"] == "/buildtool/abc"
    assert document["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert document["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "/proc/kcore" in document["linux"]["maskedPaths"]
    assert [mount["destination"] for mount in document["mounts"]] == [
        *("/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"),
    ]


@pytest.mark.parametrize(("parent", "path"), [("jobs", "/jobs/abc"), ("/a/../../b/", "/b/abc"), ("", "/abc")])
def test_the_cgroup_parent_stays_below_the_mount_point(parent: str, path: str) -> None:
    assert spec(cgroup_parent=parent)["linux"]["cgroupsPath"] == path


def test_modes_of_namespaces() -> None:
    shared = spec(network="host", pid="host", ipc="host", uts="host", cgroup="private")
    assert namespace_kinds(shared) == {"mount", "cgroup"}
    joined = spec(network="/proc/1/ns/net", pid="/proc/1/ns/pid")["linux"]["namespaces"]
    assert {"type": "network", "path": "/proc/1/ns/net"} in joined
    assert {"type": "pid", "path": "/proc/1/ns/pid"} in joined


def test_own_mounts_replace_default_ones_and_stand_in_order_of_depth() -> None:
    mounts = [
        {"destination": "/a/b/c"},
        {"destination": "/a"},
        {"destination": "/dev/shm/"},
        {"destination": "/../x//y"},
    ]
    found = [mount["destination"] for mount in spec(mounts=mounts)["mounts"]]
    assert found.count("/dev/shm") == 1
    assert found[-4:] == ["/a", "/dev/shm", "/x/y", "/a/b/c"]


def test_a_mount_over_dev_hides_the_default_mounts_below_it() -> None:
    found = [mount["destination"] for mount in spec(mounts=[{"destination": "/dev", "type": "bind"}])["mounts"]]
    assert found == ["/proc", "/sys", "/sys/fs/cgroup", "/dev"]


def test_privileged_lifts_everything() -> None:
    document = spec(privileged=True)
    assert set(document["process"]["capabilities"]["effective"]) == set(NUMBERS)
    assert "seccomp" not in document["linux"]
    assert document["linux"]["maskedPaths"] == document["linux"]["readonlyPaths"] == []
    assert document["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert all("ro" not in mount["options"] for mount in document["mounts"])


def test_devices_get_rules_and_nodes() -> None:
    device = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "access": "rw"}
    linux = spec(devices=[device])["linux"]
    assert linux["devices"] == [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    assert linux["resources"]["devices"][1] == {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}


def test_home_comes_from_the_user_unless_given() -> None:
    user = ResolvedUser(1, 1, (1,), "/home/u", "u")
    assert spec(user=user)["process"]["env"] == ["HOME=/home/u"]
    assert spec(user=user, env=["HOME=/x"])["process"]["env"] == ["HOME=/x"]


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], set(DEFAULT)),
        (["NET_ADMIN"], [], {*DEFAULT, "CAP_NET_ADMIN"}),
        ([], ["chown", "CAP_KILL"], set(DEFAULT) - {"CAP_CHOWN", "CAP_KILL"}),
        (["all"], ["SYS_ADMIN"], set(NUMBERS) - {"CAP_SYS_ADMIN"}),
        (["kill"], ["ALL"], {"CAP_KILL"}),
    ],
)
def test_capabilities_added_and_dropped(add: list[str], drop: list[str], expected: set[str]) -> None:
    assert set(capability_set(add, drop)) == expected


def test_an_unknown_capability_is_refused_with_dockers_text() -> None:
    with pytest.raises(InvalidInput, match='invalid CapAdd: unknown capability: "CAP_NOPE"'):
        capability_set(["nope"], [])


def test_the_default_capabilities_mask() -> None:
    assert mask_of(DEFAULT) == 0xA80425FB
    assert mask_of(["CAP_UNKNOWN"]) == 0


def test_an_unknown_seccomp_profile_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="invalid seccomp profile"):
        spec(seccomp="strict")
