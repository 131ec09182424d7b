"""OCI resources as control group writes, and device rules as a BPF program."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from buildtool.runtime.cgroup_limits import device_rules, v1_settings, v2_settings
from buildtool.runtime.cgroups import Hierarchies
from buildtool.runtime.devices_bpf import attach_device_rules, device_program

_RESOURCES = {
    "memory": {"limit": 100, "swap": 300, "reservation": 50, "swappiness": 0},
    "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0"},
    "pids": {"limit": 7},
    "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
}


def test_version_1() -> None:
    assert v1_settings(_RESOURCES) == {
        "memory": [
            ("memory.limit_in_bytes", "100", False),
            ("memory.memsw.limit_in_bytes", "300", True),
            ("memory.soft_limit_in_bytes", "50", False),
            ("memory.swappiness", "0", True),
        ],
        "cpu": [
            ("cpu.shares", "1024", False),
            ("cpu.cfs_period_us", "100000", False),
            ("cpu.cfs_quota_us", "50000", False),
        ],
        "cpuset": [("cpuset.cpus", "0-1", False), ("cpuset.mems", "0", False)],
        "pids": [("pids.max", "7", False)],
        "blkio": [("blkio.weight", "500", True), ("blkio.throttle.read_bps_device", "8:0 1000", False)],
    }


def test_version_2() -> None:
    assert v2_settings(_RESOURCES) == {
        "memory": [
            ("memory.max", "100", False),
            ("memory.swap.max", "200", True),
            ("memory.low", "50", False),
        ],
        "cpu": [("cpu.weight", "39", False), ("cpu.max", "50000 100000", False)],
        "cpuset": [("cpuset.cpus", "0-1", False), ("cpuset.mems", "0", False)],
        "pids": [("pids.max", "7", False)],
        "io": [("io.weight", "4950", True), ("io.max", "8:0 rbps=1000", False)],
    }


def test_unlimited_values() -> None:
    assert v2_settings({"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}}) == {
        "memory": [("memory.max", "max", False), ("memory.swap.max", "max", True)],
        "pids": [("pids.max", "max", False)],
    }
    assert v1_settings({"pids": {"limit": 0}}) == {"pids": [("pids.max", "max", False)]}
    assert v1_settings({}) == v2_settings({}) == {}


def test_device_rules_follow_a_general_denial_with_the_defaults() -> None:
    rules = device_rules(
        [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": -1, "access": "rw"}]
    )
    assert rules[0] == (False, "a")
    assert (True, "c 1:3 rwm") in rules
    assert rules[-1] == (True, "c 10:* rw")


def _allowed(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Run the eBPF program on a device access."""
    number = {"b": 1, "c": 2}[kind] | sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access) << 16
    context = struct.pack("<III", number, major, minor)
    registers = [0] * 11
    place = 0
    code = list(struct.iter_unpack("<BBhi", program))
    while True:
        op, both, offset, immediate = code[place]
        target, source = both & 15, both >> 4
        place += 1
        if op == 0x95:
            return bool(registers[0])
        if op == 0x61:
            registers[target] = struct.unpack_from("<I", context, offset)[0]
        elif op == 0x54:
            registers[target] &= immediate
        elif op == 0x74:
            registers[target] >>= immediate
        elif op == 0xBC:
            registers[target] = registers[source]
        elif op == 0xB7:
            registers[target] = immediate
        elif op == 0x5D:
            place += offset if registers[target] != registers[source] else 0
        else:
            assert op == 0x55
            place += offset if registers[target] != immediate else 0


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (("c", 1, 3, "rw"), True),
        (("c", 10, 229, "rw"), True),
        (("c", 10, 229, "rwm"), False),
        (("c", 99, 1, "m"), True),
        (("c", 99, 1, "r"), False),
        (("b", 254, 0, "r"), False),
        (("b", 254, 0, "m"), True),
        (("c", 136, 17, "rw"), True),
    ],
)
def test_the_device_program_decides(access: tuple[str, int, int, str], expected: bool) -> None:
    spec = [{"allow": False}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]
    assert _allowed(device_program(device_rules(spec)), *access) is expected


def test_a_later_denial_wins() -> None:
    spec = [{"allow": True}, {"allow": False, "type": "b", "access": "w"}]
    program = device_program(device_rules(spec))
    assert _allowed(program, "b", 8, 0, "r")
    assert not _allowed(program, "b", 8, 0, "w")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_kernel_takes_and_enforces_the_device_program(tmp_path: Path) -> None:
    unified = Hierarchies.find().unified
    if not unified:
        pytest.skip("no version 2 hierarchy is mounted")
    group = Path(unified, f"bt-bpf-{os.getpid()}")
    group.mkdir()
    try:
        attach_device_rules(str(group), device_rules([{"allow": False}]))
        child = os.fork()
        if child == 0:
            Path(group, "cgroup.procs").write_text("0")
            os.close(os.open("/dev/null", os.O_RDWR))
            os.mknod(tmp_path / "kmsg", 0o20600, os.makedev(1, 11))
            try:
                os.open(tmp_path / "kmsg", os.O_RDONLY)
            except PermissionError:
                os._exit(0)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert status == 0
    finally:
        group.rmdir()
