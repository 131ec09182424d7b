"""Patterns inside `${name#pattern}`, `${name%pattern}` and `${name/pattern/replacement}`.

`*` is any text, `?` one character, neither crosses a newline; `\\*`, `\\?` and `\\\\` are themselves; `\\}` and `\\/`
stand for the bare character. There are no bracket expressions.
"""

from __future__ import annotations

import re

from buildtool.buildfile.glob import star_regex


def trim_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """`value` without the shortest or longest match of `pattern` at its start.

    Raises ValueError for a bad pattern, as the others do.
    """
    match = re.match(_regex(_tokens(pattern), longest=longest), value)
    return value[match.end() :] if match else value


def trim_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """`value` without the shortest or longest match of `pattern` at its end."""
    match = re.match(_regex(_tokens(pattern)[::-1], longest=longest), value[::-1])
    return value[: len(value) - match.end()] if match else value


def replace(value: str, pattern: str, replacement: str, *, every: bool) -> str:
    """`value` with the first match (or every match) of `pattern` replaced; the longest match at each place."""
    return re.sub(_regex(_tokens(pattern), longest=True), lambda _: replacement, value, count=0 if every else 1)


def _regex(tokens: list[str], *, longest: bool) -> str:
    chunks = [""]
    for token in tokens:
        if token == "*":
            chunks.append("")
        else:
            chunks[-1] += "." if token == "?" else re.escape(token[-1])
    return star_regex(chunks, ".", shortest=not longest)


def _tokens(pattern: str) -> list[str]:
    """`*`, `?`, and literal characters, these with a backslash before them."""
    tokens: list[str] = []
    index = 0
    while index < len(pattern):
        character = pattern[index]
        index += 1
        if character in "*?":
            tokens.append(character)
        elif character != "\\":
            tokens.append("\\" + character)
        elif index == len(pattern):
            raise ValueError(f"invalid pattern ({pattern}) in substitution: it ends with a backslash")
        elif pattern[index] in "}/":
            continue
        elif pattern[index] in "*?\\":
            tokens.append("\\" + pattern[index])
            index += 1
        else:
            raise ValueError(f"invalid pattern ({pattern}) in substitution: invalid escape '\\{pattern[index]}'")
    return tokens
