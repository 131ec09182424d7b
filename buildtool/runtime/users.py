"""Which user a container's `user[:group]` text means, by the container's own passwd and group files.

Source: Docker's and runc's rules (moby/sys/user, GetExecUser), with their error texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from buildtool.errors import InvalidInput

_MAX_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ResolvedUser:
    """Numeric identity of a process; `name` is empty when the passwd file has no such user."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    home: str = "/"
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_user(text: str, passwd: str, group: str, extra_groups: Iterable[str] = ()) -> ResolvedUser:
    """Resolve `""`, `name|uid` or `name|uid:name|gid` by the texts of /etc/passwd and /etc/group.

    The primary group is part of the supplementary ones, as in Docker. Unknown numeric ids are allowed (group 0, home
    "/"). Raises InvalidInput for unknown names and for ids out of range.
    """
    user_part, _, group_part = text.partition(":")
    uid, gid, home, name = _find_user(user_part, passwd)
    groups = list(_groups(group))
    supplementary: list[int] = []
    if group_part:
        gid = _find_group(group_part, groups, f"unable to find group {group_part}: no matching entries in group file")
    elif name:
        supplementary = [one.gid for one in groups if name in one.members]
    for extra in extra_groups:
        message = f"Unable to find group {extra}: no matching entries in group file"
        supplementary.append(_find_group(extra, groups, message))
    return ResolvedUser(uid, gid, tuple(dict.fromkeys([gid, *supplementary])), home, name)


def _find_user(wanted: str, passwd: str) -> tuple[int, int, str, str]:
    number = _number(wanted) if wanted else 0
    for fields in _lines(passwd):
        if len(fields) < 6:
            continue
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is None or gid is None:
            continue
        if (wanted and fields[0] == wanted) or number == uid:
            return uid, gid, fields[5] or "/", fields[0]
    if number is None:
        raise InvalidInput(f"unable to find user {wanted}: no matching entries in passwd file")
    return _in_range(number), 0, "/", ""


def _find_group(wanted: str, groups: Sequence[_Group], message: str) -> int:
    number = _number(wanted)
    for one in groups:
        if one.name == wanted or one.gid == number:
            return one.gid
    if number is None:
        raise InvalidInput(message)
    return _in_range(number)


def _groups(text: str) -> Iterator[_Group]:
    for fields in _lines(text):
        if len(fields) >= 3 and (gid := _number(fields[2])) is not None:
            members = fields[3].split(",") if len(fields) > 3 else []
            yield _Group(fields[0], gid, tuple(member.strip() for member in members if member.strip()))


def _lines(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            yield line.split(":")


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None


def _in_range(number: int) -> int:
    if not 0 <= number <= _MAX_ID:
        raise InvalidInput(f"uids and gids must be in range 0-{_MAX_ID}")
    return number
