"""A small assembler for seccomp's classic BPF.

Source: kernel documentation, networking/filter.rst and userspace-api/seccomp_filter.rst (struct seccomp_data).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, constant)"""

NUMBER, ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_ARGUMENTS = 16
_LOAD, _AND, _ANSWER = 0x20, 0x54, 0x06
_JUMP, _EQUAL, _GREATER, _AT_LEAST = 0x05, 0x15, 0x25, 0x35
_WORD = 0xFFFFFFFF
OPERATORS = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)


def load(offset: int) -> Instruction:
    """Load a word of the call's description."""
    return (_LOAD, 0, 0, offset)


def answer(action: int) -> Instruction:
    """End with this action."""
    return (_ANSWER, 0, 0, action)


def jump(distance: int) -> Instruction:
    """Skip that many instructions."""
    return (_JUMP, 0, 0, distance)


def jump_equal(value: int, if_true: int, if_false: int) -> Instruction:
    """Skip one of two distances."""
    return (_EQUAL, if_true, if_false, value)


def jump_if_at_least(value: int, distance: int) -> list[Instruction]:
    """Skip `distance` instructions, which may be more than a conditional jump reaches, when the word is >= value."""
    if distance <= 255:
        return [(_AT_LEAST, distance, 0, value)]
    return [(_AT_LEAST, 0, 1, value), jump(distance)]


def decide(rules: Iterable[tuple[tuple[tuple[int, str, int, int], ...], int]]) -> list[Instruction]:
    """Answer with the action of the first rule whose argument tests (index, operator, value, second) all hold."""
    code: list[Instruction] = []
    for tests, action in rules:
        body: list[Instruction] = [answer(action)]
        for test in reversed(tests):
            body = _test(*test, miss=len(body)) + body
        code += body
    return code


def _test(index: int, operator: str, value: int, second: int, *, miss: int) -> list[Instruction]:
    """Fall through when the 64-bit argument passes, else skip what follows (`miss` instructions)."""
    low, high = load(_ARGUMENTS + 8 * index), load(_ARGUMENTS + 8 * index + 4)
    low_value, high_value = value & _WORD, value >> 32 & _WORD
    if operator == "SCMP_CMP_MASKED_EQ":  # value is the mask, second what must remain
        return [
            high,
            (_AND, 0, 0, high_value),
            (_EQUAL, 0, 3 + miss, second >> 32 & _WORD),
            low,
            (_AND, 0, 0, low_value),
            (_EQUAL, 0, miss, second & _WORD),
        ]
    if operator == "SCMP_CMP_EQ":
        return [high, (_EQUAL, 0, 2 + miss, high_value), low, (_EQUAL, 0, miss, low_value)]
    if operator == "SCMP_CMP_NE":
        return [high, (_EQUAL, 0, 2, high_value), low, (_EQUAL, miss, 0, low_value)]
    compare = _AT_LEAST if operator in ("SCMP_CMP_GE", "SCMP_CMP_LT") else _GREATER
    if operator in ("SCMP_CMP_GE", "SCMP_CMP_GT"):
        return [
            high,
            (_GREATER, 3, 0, high_value),
            (_EQUAL, 0, 2 + miss, high_value),
            low,
            (compare, 0, miss, low_value),
        ]
    return [high, (_GREATER, 3 + miss, 0, high_value), (_EQUAL, 0, 2, high_value), low, (compare, miss, 0, low_value)]


def encode(code: list[Instruction]) -> bytes:
    """The bytes that the kernel takes."""
    return b"".join(struct.pack("<HBBI", op, if_true, if_false, constant) for op, if_true, if_false, constant in code)
