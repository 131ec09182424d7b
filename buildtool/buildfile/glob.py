"""Go's `filepath.Match`, and patterns with `**`.

Source: the documentation of Go's path/filepath; ../shared/reference/build.md, sections 1.2 (COPY) and 1.5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

META = re.compile(r"[*?\[\\]")


def go_match(pattern: str, name: str) -> bool:
    """Whether the whole of `name` matches: `*` and `?` do not cross `/`, `[a-z]`, `[^a]`, `\\x` for a literal x.

    Raises ValueError for a malformed pattern, whatever the name.
    """
    return _compile(pattern).fullmatch(name) is not None


def has_meta(pattern: str) -> bool:
    """Whether a pattern has anything special in it."""
    return META.search(pattern) is not None


def match_glob(pattern: str, path: str, *, deep: bool = True) -> bool:
    """Whether a relative, clean, `/`-separated path matches a COPY source or `--exclude`.

    Each component is matched by `go_match`; a component `**` stands for any number of directories, none included.
    Sources of a COPY without `--parents` know no `**` (Docker matches them by `filepath.Match`): `deep=False`.
    """
    if not deep:
        return go_match(pattern, path)
    return _match_parts(tuple(pattern.split("/")), tuple(path.split("/")))


def _match_parts(patterns: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Dynamic programming over both, so that many `**` stay cheap."""
    reachable = {0}
    for part in parts:
        following = set()
        for index in _closure(patterns, reachable):
            if index < len(patterns):
                if patterns[index] == "**":
                    following.add(index)
                elif go_match(patterns[index], part):
                    following.add(index + 1)
        reachable = following
        if not reachable:
            return False
    return len(patterns) in _closure(patterns, reachable)


def _closure(patterns: tuple[str, ...], indexes: set[int]) -> set[int]:
    """The indexes reachable by letting `**` stand for nothing."""
    result = set(indexes)
    for index in indexes:
        while index < len(patterns) and patterns[index] == "**":
            index += 1
            result.add(index)
    return result


def star_regex(chunks: Sequence[str], gap: str, *, shortest: bool = False) -> str:
    """A regular expression for chunks with a star between them; a star is any run of `gap` characters.

    All stars but the last take the first place where the chunk behind them fits and never come back to it (atomic
    groups), as Go does. So hostile patterns stay cheap. `shortest` is about the last star.
    """
    first, *rest = chunks
    if not rest:
        return first
    middle = "".join(f"(?>{gap}*?{chunk})" for chunk in rest[:-1] if chunk)
    return f"{first}{middle}{gap}*{'?' if shortest else ''}{rest[-1]}"


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    chunks = [""]
    index = 0
    while index < len(pattern):
        character = pattern[index]
        index += 1
        if character == "*":
            chunks.append("")
        elif character == "?":
            chunks[-1] += "[^/]"
        elif character == "[":
            text, index = character_class(pattern, index)
            chunks[-1] += text
        elif character == "\\":
            if index == len(pattern):
                raise ValueError(f"syntax error in pattern {pattern!r}: it ends with a backslash")
            chunks[-1] += re.escape(pattern[index])
            index += 1
        else:
            chunks[-1] += re.escape(character)
    return re.compile(star_regex(chunks, "[^/]"), re.DOTALL)


def character_class(pattern: str, index: int) -> tuple[str, int]:
    """The regular expression of a class whose `[` stands before `index`, and where it ends."""
    negated = pattern.startswith("^", index)
    index += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", index)):
        low, index = _class_character(pattern, index)
        high = low
        if pattern.startswith("-", index):
            high, index = _class_character(pattern, index + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")
    body = "".join(ranges)
    if not body:
        return ("." if negated else r"(?!)"), index + 1
    # as in Go, a class may match the separator, a negated one too
    return (f"[^{body}]" if negated else f"[{body}]"), index + 1


def _class_character(pattern: str, index: int) -> tuple[str, int]:
    if index >= len(pattern) or pattern[index] in "-]":
        raise ValueError(f"syntax error in pattern {pattern!r}: the character class is malformed")
    if pattern[index] == "\\":
        index += 1
        if index >= len(pattern):
            raise ValueError(f"syntax error in pattern {pattern!r}: it ends with a backslash")
    if index + 1 >= len(pattern):
        raise ValueError(f"syntax error in pattern {pattern!r}: the character class is not closed")
    return pattern[index], index + 1
