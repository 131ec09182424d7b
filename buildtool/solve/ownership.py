"""--chown and --chmod: names and modes to numbers. Source: ../shared/reference/build.md, table 1.2, COPY."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable

from buildtool.cache import Tree
from buildtool.errors import InvalidInput

Owner = tuple[int, int]
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])")
_MAX_ID = (1 << 32) - 2


def resolve_owner(text: str, tree: Tree) -> Owner:
    """The ids of `user[:group]`; names are those of the tree's /etc/passwd and /etc/group.

    A number without a group stands for both ids, a name brings its primary group. Raises InvalidInput.
    """
    user, colon, group = text.partition(":")
    uid, gid = _user(user, tree)
    if colon and group:
        gid = _group(group, tree)
    return uid, gid


def _number(text: str) -> int | None:
    if not text.isdigit():
        return None
    if int(text) > _MAX_ID:
        raise InvalidInput(f"--chown: id {text} is out of range")
    return int(text)


def _user(text: str, tree: Tree) -> Owner:
    number = _number(text)
    if number is not None:
        return number, number
    for fields in _rows(tree.read_text("/etc/passwd"), 4):
        if fields[0] == text and fields[2].isdigit() and fields[3].isdigit():
            return int(fields[2]), int(fields[3])
    raise InvalidInput(f"--chown: unable to find user {text}: no matching entries in passwd file")


def _group(text: str, tree: Tree) -> int:
    number = _number(text)
    if number is not None:
        return number
    for fields in _rows(tree.read_text("/etc/group"), 3):
        if fields[0] == text and fields[2].isdigit():
            return int(fields[2])
    raise InvalidInput(f"--chown: unable to find group {text}: no matching entries in group file")


def _rows(text: str, least: int) -> list[list[str]]:
    rows = (line.split(":") for line in text.splitlines() if line and not line.startswith("#"))
    return [row for row in rows if len(row) >= least]


def parse_chmod(text: str) -> Callable[[int], int]:
    """What a `--chmod` value makes of a st_mode: its new permission bits. Octal or symbolic. Raises InvalidInput."""
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        bits = int(text, 8)
        return lambda mode: bits
    clauses = []
    for part in text.split(","):
        match = _CLAUSE.fullmatch(part)
        if match is None:
            raise InvalidInput(
                f"invalid chmod parameter: {text!r}", hint="write it in octal, as 755, or as u=rwx,go=rx"
            )
        clauses.append((match[1] or "a", [(m[1], m[2]) for m in _ACTION.finditer(match[2])]))
    return lambda mode: _apply(clauses, mode)


def _apply(clauses: list[tuple[str, list[tuple[str, str]]]], mode: int) -> int:
    is_directory = stat.S_ISDIR(mode)
    bits = stat.S_IMODE(mode)
    for who, actions in clauses:
        for operator, what in actions:
            for kind, shift in (("u", 6), ("g", 3), ("o", 0)):
                if kind in who or "a" in who:
                    bits = _change(bits, operator, _permissions(what, bits, is_directory), shift)
            special = _special(what, who)
            bits = bits | special if operator != "-" else bits & ~special
    return bits


def _permissions(what: str, bits: int, is_directory: bool) -> int:
    if what in ("u", "g", "o"):
        return bits >> {"u": 6, "g": 3, "o": 0}[what] & 7
    value = 0
    for letter in what:
        value |= {"r": 4, "w": 2, "x": 1}.get(letter, 0)
        if letter == "X" and (is_directory or bits & 0o111):
            value |= 1
    return value


def _change(bits: int, operator: str, value: int, shift: int) -> int:
    if operator == "+":
        return bits | value << shift
    if operator == "-":
        return bits & ~(value << shift)
    return bits & ~(7 << shift) | value << shift


def _special(what: str, who: str) -> int:
    bits = stat.S_ISVTX if "t" in what else 0
    if "s" in what:
        bits |= stat.S_ISUID if "u" in who or "a" in who else 0
        bits |= stat.S_ISGID if "g" in who or "a" in who else 0
    return bits
