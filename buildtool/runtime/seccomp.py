"""System call filters: Docker's profiles to the OCI form, and that to a classic BPF program.

Source: OCI runtime-spec v1.2, config-linux.md, "Seccomp"; seccomp(2); Docker's profile format.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

from buildtool.errors import InvalidInput
from buildtool.runtime import bpf_assembler as bpf
from buildtool.runtime.syscall_numbers import numbers

Profile = dict[str, Any]

_MACHINES = {"x86_64": ("SCMP_ARCH_X86_64", "amd64"), "aarch64": ("SCMP_ARCH_AARCH64", "arm64")}
# OCI architecture -> (AUDIT_ARCH_*, table); x32 and 32-bit arm programs get the default action
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": (0xC000003E, "x86_64"),
    "SCMP_ARCH_X86": (0x40000003, "i386"),
    "SCMP_ARCH_AARCH64": (0xC00000B7, "aarch64"),
}
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_NUMBER = frozenset({"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"})
_OPERATORS = frozenset(bpf.OPERATORS)
_EPERM, _ENOSYS = 1, 38
_X32_BIT = 0x40000000


def default_filter(capabilities: Sequence[str]) -> Profile:
    """Docker's default profile for these capabilities, as OCI `linux.seccomp`. Shared: do not change it."""
    return _default_filter(frozenset(capabilities), os.uname().machine)


@functools.lru_cache(maxsize=32)
def _default_filter(capabilities: frozenset[str], machine: str) -> Profile:
    from buildtool.runtime.seccomp_profile import DEFAULT_PROFILE

    return profile_filter(DEFAULT_PROFILE, capabilities, machine=machine)


def profile_filter(
    profile: Profile,
    capabilities: Sequence[str] | frozenset[str],
    *,
    machine: str | None = None,
    kernel: str | None = None,
) -> Profile:
    """A profile in Docker's JSON format for these capabilities, as OCI `linux.seccomp`.

    Raises InvalidInput naming the first fault.
    """
    native, docker_name = _MACHINES.get(machine or os.uname().machine, ("", ""))
    kernel = kernel or os.uname().release
    if not isinstance(profile.get("defaultAction"), str):
        raise InvalidInput("the seccomp profile has no defaultAction")
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidInput(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    architectures = list(profile.get("architectures") or [])
    for entry in profile.get("archMap") or []:
        if entry.get("architecture") == native:
            architectures = [native, *(entry.get("subArchitectures") or [])]
    rules: list[Profile] = []
    for rule in profile.get("syscalls") or []:
        if rule.get("name") and rule.get("names"):
            raise InvalidInput(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
            )
        if _applies(rule, capabilities, docker_name, kernel):
            names = [rule["name"]] if rule.get("name") else list(rule.get("names") or [])
            oci = {"names": names, "action": rule.get("action", ""), "args": list(rule.get("args") or [])}
            if rule.get("errnoRet") is not None:
                oci["errnoRet"] = rule["errnoRet"]
            rules.append(oci)
    out: Profile = {
        "defaultAction": profile["defaultAction"],
        "architectures": architectures or [native],
        "syscalls": rules,
    }
    for key in ("defaultErrnoRet", "flags"):
        if profile.get(key) is not None:
            out[key] = profile[key]
    _check(out)
    return out


def _applies(rule: Profile, capabilities: Sequence[str] | frozenset[str], arch: str, kernel: str) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if arch in (excludes.get("arches") or []) or any(name in capabilities for name in excludes.get("caps") or []):
        return False
    if excludes.get("minKernel") and _version(kernel) >= _version(excludes["minKernel"]):
        return False
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if any(name not in capabilities for name in includes.get("caps") or []):
        return False
    return not (includes.get("minKernel") and _version(kernel) < _version(includes["minKernel"]))


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    try:
        return int(major), int(minor or 0)
    except ValueError:
        raise InvalidInput(f"invalid kernel version {text!r} in the seccomp profile") from None


def _check(profile: Profile) -> None:
    _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    for rule in profile["syscalls"]:
        _action(rule["action"], rule.get("errnoRet"))
        for argument in rule["args"]:
            if argument.get("op") not in _OPERATORS or not 0 <= argument.get("index", -1) <= 5:
                raise InvalidInput(f"invalid argument test {argument!r} in the seccomp profile")


def _action(name: str, number: int | None) -> int:
    value = ACTIONS.get(name)
    if value is None:
        raise InvalidInput(f"invalid seccomp action {name!r}", hint="known actions: " + ", ".join(sorted(ACTIONS)))
    return value | ((_EPERM if number is None else number) & 0xFFFF) if name in _WITH_NUMBER else value


def assemble(seccomp: Profile) -> bytes:
    """The BPF program (8 bytes an instruction) of an OCI `linux.seccomp`.

    For each architecture a binary search over ranges of system call numbers. With the default action EPERM, system
    calls newer than every one the profile names answer ENOSYS, so that programs fall back to older ones.
    """
    default = _action(seccomp["defaultAction"], seccomp.get("defaultErrnoRet"))
    code: list[bpf.Instruction] = [bpf.load(bpf.ARCHITECTURE)]
    for architecture in seccomp.get("architectures") or []:
        known = ARCHITECTURES.get(architecture)
        if known is None:
            continue
        audit, table = known
        block = [bpf.load(bpf.NUMBER), *_search(_ranges(seccomp, numbers()[table], default, x32=table == "x86_64"))]
        code += [bpf.jump_equal(audit, 1, 0), bpf.jump(len(block)), *block]
    code.append(bpf.answer(default))
    return bpf.encode(code)


Leaf = tuple[tuple[tuple[tuple[int, str, int, int], ...], int], ...]
"""Decides on one system call: rules of (argument tests, action), the first that matches; the last has none."""


def _ranges(seccomp: Profile, table: dict[str, int], default: int, *, x32: bool) -> list[tuple[int, Leaf]]:
    """(first number, leaf) ascending: each leaf holds up to the next one's first number."""
    leaves = _leaves(seccomp, table, default)
    otherwise: Leaf = (((), default),)
    last = max(leaves, default=-1)
    unknown: Leaf = (
        (((), ACTIONS["SCMP_ACT_ERRNO"] | _ENOSYS),) if default == ACTIONS["SCMP_ACT_ERRNO"] | _EPERM else otherwise
    )
    ranges: list[tuple[int, Leaf]] = [(0, leaves.get(0, otherwise))]
    for number in range(1, last + 2):
        leaf = leaves.get(number, otherwise) if number <= last else unknown
        if leaf != ranges[-1][1]:
            ranges.append((number, leaf))
    if x32 and ranges[-1][1] != otherwise:
        ranges.append((_X32_BIT, otherwise))
    return ranges


def _leaves(seccomp: Profile, table: dict[str, int], default: int) -> dict[int, Leaf]:
    tested: dict[int, list[tuple[tuple[tuple[int, str, int, int], ...], int]]] = {}
    plain: dict[int, int] = {}
    for rule in seccomp.get("syscalls") or []:
        action = _action(rule["action"], rule.get("errnoRet"))
        tests = [(one["index"], one["op"], one["value"], one.get("valueTwo") or 0) for one in rule.get("args") or []]
        same_index = len({test[0] for test in tests}) < len(tests)  # then the tests are alternatives, as in runc
        alternatives = [(test,) for test in tests] if same_index else [tuple(tests)]
        for name in rule["names"]:
            number = table.get(name)
            if number is None:
                continue
            if not tests:
                plain.setdefault(number, action)
            else:
                tested.setdefault(number, []).extend((alternative, action) for alternative in alternatives)
    leaves: dict[int, Leaf] = {number: (((), action),) for number, action in plain.items()}
    for number, rules in tested.items():
        if number not in plain:
            leaves[number] = (*rules, ((), default))
    return leaves


def _search(ranges: list[tuple[int, Leaf]]) -> list[bpf.Instruction]:
    if len(ranges) == 1:
        return bpf.decide(ranges[0][1])
    middle = len(ranges) // 2
    left, right = _search(ranges[:middle]), _search(ranges[middle:])
    return [*bpf.jump_if_at_least(ranges[middle][0], len(left)), *left, *right]
