"""Device rules on cgroup version 2: a BPF program that the kernel asks about every open and mknod of a device.

Source: kernel documentation, cgroup-v2.rst, "Device controller"; include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import os
import struct

from buildtool.runtime import syscalls as sc

_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI = 15, 6, 2
_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL = 7
_R0, _R1, _R2_TYPE, _R3_ACCESS, _R4_MAJOR, _R5_MINOR = range(6)


def attach_device_rules(directory: str, rules: list[tuple[bool, str]]) -> None:
    """Attach the rules to a version 2 control group. Raises OSError when the kernel or the user's rights refuse."""
    program = device_program(rules)
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    load = struct.pack(
        "IIQQIIQII16s",
        _TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        *(0, 0, 0, 0, 0),
        b"buildtool_dev",
    )
    loaded = sc.bpf(_PROG_LOAD, load)
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sc.bpf(_PROG_ATTACH, struct.pack("IIII", group, loaded, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
    finally:
        os.close(group)
        os.close(loaded)


def device_program(rules: list[tuple[bool, str]]) -> bytes:
    """The program for rules as `cgroup_limits.device_rules` gives them: the last that matches decides."""
    code = [
        _instruction(0x61, _R2_TYPE, _R1),  # r2 = access_type & 0xffff
        _instruction(0x54, _R2_TYPE, immediate=0xFFFF),
        _instruction(0x61, _R3_ACCESS, _R1),  # r3 = access_type >> 16
        _instruction(0x74, _R3_ACCESS, immediate=16),
        _instruction(0x61, _R4_MAJOR, _R1, offset=4),
        _instruction(0x61, _R5_MINOR, _R1, offset=8),
    ]
    default = True
    for allow, rule in reversed(rules):
        if rule == "a":
            default = allow
            break
        code += _rule(allow, rule)
    code += _verdict(default)
    return b"".join(code)


def _rule(allow: bool, rule: str) -> list[bytes]:
    kind, number, access = rule.split(" ")
    major, _, minor = number.partition(":")
    checks: list[tuple[int, int]] = [(_R2_TYPE, _KINDS[kind])]
    checks += [(register, int(text)) for register, text in ((_R4_MAJOR, major), (_R5_MINOR, minor)) if text != "*"]
    mask = sum(_ACCESS[letter] for letter in set(access))
    body: list[bytes] = []
    verdict = _verdict(allow)
    if mask != _ALL:  # r1 = r3 & mask; another access than the rule's: next rule
        skip = len(checks) + len(verdict)
        body = [_instruction(0xBC, _R1, _R3_ACCESS), _instruction(0x54, _R1, immediate=mask)]
        body.append(_instruction(0x5D, _R1, _R3_ACCESS, offset=skip))
    for position, (register, value) in enumerate(checks):
        skip = len(checks) - position - 1 + len(verdict)
        body.append(_instruction(0x55, register, offset=skip, immediate=value))
    return body + verdict


def _verdict(allow: bool) -> list[bytes]:
    return [_instruction(0xB7, _R0, immediate=int(allow)), _instruction(0x95)]


def _instruction(code: int, target: int = 0, source: int = 0, *, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", code, target | source << 4, offset, immediate)
