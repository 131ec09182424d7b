"""System call filters, run by a small model of the kernel's BPF machine."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.errors import InvalidInput
from buildtool.runtime.capabilities import DEFAULT
from buildtool.runtime.seccomp import assemble, default_filter, profile_filter
from buildtool.runtime.syscall_numbers import numbers

_ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50001, 0x50026


def verdict(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would answer. Fails on a jump out of the program."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *(list(arguments) + [0] * 6)[:6])
    code = list(struct.iter_unpack("<HBBI", program))
    word, place = 0, 0
    while True:
        op, if_true, if_false, constant = code[place]
        place += 1
        if op == 0x06:
            return int(constant)
        if op == 0x20:
            word = struct.unpack_from("<I", data, constant)[0]
        elif op == 0x54:
            word &= constant
        elif op == 0x05:
            place += constant
        else:
            holds = {0x15: word == constant, 0x25: word > constant, 0x35: word >= constant}[op]
            place += if_true if holds else if_false


def by_name(program: bytes, name: str, *arguments: int, arch: str = "x86_64") -> int:
    return verdict(program, _ARCH[arch], numbers()[arch][name], *arguments)


@pytest.fixture(scope="module")
def default() -> bytes:
    return assemble(profile_filter_of(DEFAULT))


def profile_filter_of(capabilities: Any, machine: str = "x86_64") -> dict[str, Any]:
    from buildtool.runtime.seccomp_profile import DEFAULT_PROFILE

    return profile_filter(DEFAULT_PROFILE, capabilities, machine=machine, kernel="6.1.0")


@pytest.mark.parametrize(
    "name", ["read", "openat", "execve", "futex", "ptrace", "chroot", "memfd_create", "arch_prctl"]
)
def test_default_allows(default: bytes, name: str) -> None:
    assert by_name(default, name) == ALLOW


@pytest.mark.parametrize(
    "name",
    [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "bpf",
        "perf_event_open",
        "kexec_load",
        "init_module",
        "delete_module",
        "reboot",
        "swapon",
        "swapoff",
        "add_key",
        "keyctl",
        "request_key",
        "userfaultfd",
        "pivot_root",
        "move_mount",
        "open_tree",
        "fsopen",
        "open_by_handle_at",
        "settimeofday",
        "acct",
        "quotactl",
        "io_uring_setup",
        "syslog",
        "kcmp",
        "vhangup",
        "iopl",
        "nfsservctl",
    ],
)
def test_default_denies(default: bytes, name: str) -> None:
    assert by_name(default, name) == EPERM


def test_clone_without_namespaces_only(default: bytes) -> None:
    assert by_name(default, "clone", 0x1200011) == ALLOW
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert by_name(default, "clone", flag | 17) == EPERM
    assert by_name(default, "clone3") == ENOSYS


def test_socket_families(default: bytes) -> None:
    assert {family: by_name(default, "socket", family) for family in (1, 2, 10, 16, 37, 38, 39, 40, 41, 1 << 32)} == {
        **dict.fromkeys((1, 2, 10, 16, 37, 39, 41, 1 << 32), ALLOW),
        **dict.fromkeys((38, 40), EPERM),
    }


def test_personalities(default: bytes) -> None:
    allowed = {0, 8, 0x20000, 0x20008, 0xFFFFFFFF}
    for value in (*allowed, 1, 0x40000, 0x0400000, 0xFFFFFFFFFFFFFFFF):
        assert (by_name(default, "personality", value) == ALLOW) == (value in allowed)


def test_newer_and_unknown_calls_answer_enosys_and_other_architectures_nothing(default: bytes) -> None:
    assert verdict(default, _ARCH["x86_64"], 4000) == ENOSYS
    assert verdict(default, _ARCH["x86_64"], 0x40000001) == EPERM
    assert verdict(default, _ARCH["aarch64"], 63) == EPERM
    assert by_name(default, "read", arch="i386") == ALLOW
    assert by_name(default, "mount", arch="i386") == EPERM


def test_aarch64_program() -> None:
    program = assemble(profile_filter_of(DEFAULT, "aarch64"))
    for name, expected in (
        ("read", ALLOW),
        ("openat", ALLOW),
        ("mount", EPERM),
        ("unshare", EPERM),
        ("clone3", ENOSYS),
    ):
        assert by_name(program, name, arch="aarch64") == expected
    assert verdict(program, _ARCH["x86_64"], 0) == EPERM


def test_capabilities_open_what_needs_them() -> None:
    program = assemble(profile_filter_of([*DEFAULT, "CAP_SYS_ADMIN"]))
    for name in ("mount", "unshare", "setns", "clone3", "bpf"):
        assert by_name(program, name, 0xFFFFFFFF) == ALLOW
    assert by_name(assemble(profile_filter_of(["CAP_SYS_TIME"])), "settimeofday") == ALLOW
    assert by_name(assemble(profile_filter_of([])), "chroot") == EPERM


def test_the_default_filter_is_remembered() -> None:
    assert default_filter(list(DEFAULT)) is default_filter(tuple(reversed(DEFAULT)))


_CHECKS = {
    "SCMP_CMP_EQ": lambda a, v, _: a == v,
    "SCMP_CMP_NE": lambda a, v, _: a != v,
    "SCMP_CMP_LT": lambda a, v, _: a < v,
    "SCMP_CMP_LE": lambda a, v, _: a <= v,
    "SCMP_CMP_GT": lambda a, v, _: a > v,
    "SCMP_CMP_GE": lambda a, v, _: a >= v,
    "SCMP_CMP_MASKED_EQ": lambda a, v, w: a & v == w,
}
_words = st.one_of(
    st.integers(0, 3), st.sampled_from([2**32 - 1, 2**32, 2**32 + 1, 2**64 - 1]), st.integers(0, 2**64 - 1)
)


@given(st.sampled_from(sorted(_CHECKS)), _words, _words, _words)
def test_every_operator_compares_64_bits(operator: str, argument: int, value: int, second: int) -> None:
    """An argument test holds in the program exactly when it holds on unsigned 64-bit numbers."""
    test = {"index": 2, "op": operator, "value": value, "valueTwo": second}
    rule = {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [test]}
    program = assemble({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]})
    expected = ALLOW if _CHECKS[operator](argument, value, second) else EPERM
    assert verdict(program, _ARCH["x86_64"], 0, 0, 0, argument) == expected


@given(st.sets(st.sampled_from(sorted(numbers()["x86_64"])), max_size=60))
def test_exactly_the_named_calls_are_allowed(names: set[str]) -> None:
    """The binary search finds every named call and no other."""
    rule = {"names": sorted(names), "action": "SCMP_ACT_ALLOW", "args": []}
    program = assemble(
        {"defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]}
    )
    allowed = {numbers()["x86_64"][name] for name in names}
    for number in range(480):
        assert verdict(program, _ARCH["x86_64"], number) == (ALLOW if number in allowed else 0x80000000)


def test_own_profile_with_log_and_errno() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}],
        "syscalls": [
            {"name": "mkdir", "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
            {"names": ["chmod"], "action": "SCMP_ACT_LOG", "includes": {"minKernel": "99.0"}},
            {"names": ["chown"], "action": "SCMP_ACT_ERRNO", "excludes": {"arches": ["amd64"]}},
        ],
    }
    program = assemble(profile_filter(profile, DEFAULT, machine="x86_64", kernel="6.1"))
    assert by_name(program, "mkdir") == 0x5000D
    assert by_name(program, "chmod") == by_name(program, "chown") == ALLOW
    assert verdict(program, _ARCH["x86_64"], 4000) == ALLOW


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ({}, "no defaultAction"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "invalid seccomp action 'SCMP_ACT_NOTIFY'"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x"], "archMap": [{}]},
            "both 'architectures' and 'archMap'",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}],
            },
            "both 'name' and 'names'",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG", "args": [{"index": 9}]}],
            },
            "invalid argument test",
        ),
    ],
)
def test_faulty_profiles_are_refused(profile: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        profile_filter(profile, DEFAULT)
