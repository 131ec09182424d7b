"""Filters of image listings and prunes, with the Engine API's meaning.

A filter set is a mapping from name to values (`{"label": ["a=b"], "dangling": ["true"]}`), or to a mapping whose keys
are the values, as both forms of the API's JSON decode.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

from buildtool.errors import InvalidInput
from buildtool.images.model import Image
from buildtool.oci import Reference

Filters: TypeAlias = Mapping[str, Iterable[str]]

LIST_FILTERS = frozenset({"before", "dangling", "label", "reference", "since", "until"})
PRUNE_FILTERS = frozenset({"all", "dangling", "label", "label!", "until"})
_TRUE = frozenset({"true", "1"})
_FALSE = frozenset({"false", "0"})


def check_names(filters: Filters, known: frozenset[str]) -> None:
    """Raises InvalidInput with Docker's wording for a filter that does not exist here."""
    for name in filters:
        if name not in known:
            raise InvalidInput(f"invalid filter '{name}'", hint=f"filters here: {', '.join(sorted(known))}")


def values(filters: Filters, name: str) -> list[str]:
    """All values of one filter."""
    return list(filters.get(name, ()))


def flag(filters: Filters, name: str, default: bool) -> bool:
    """A true/false filter. Raises InvalidInput when it is neither, or both."""
    given = {value.lower() for value in values(filters, name)}
    if not given:
        return default
    if given <= _TRUE:
        return True
    if given <= _FALSE:
        return False
    raise InvalidInput(f"invalid filter '{name}={sorted(given)}'", hint=f"{name} is true or false")


def labels_match(filters: Filters, labels: Mapping[str, str]) -> bool:
    """Whether the labels have everything `label` asks for and nothing that `label!` forbids."""
    if not all(_has_label(labels, wanted) for wanted in values(filters, "label")):
        return False
    return not any(_has_label(labels, unwanted) for unwanted in values(filters, "label!"))


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def reference_matches(pattern: str, reference: Reference) -> bool:
    """Docker's FamiliarMatch: the pattern against `busybox:latest`, else against `busybox`."""
    matcher = _pattern(pattern)
    return any(matcher.fullmatch(text) for text in (reference.familiar, reference.familiar_repository))


def only_references(image: Image, patterns: Sequence[str]) -> Image | None:
    """The image with those of its names that match a pattern, None when none does."""
    names = [name for name in image.references if any(reference_matches(pattern, name) for pattern in patterns)]
    digests = [name for name in image.repo_digests if any(reference_matches(pattern, name) for pattern in patterns)]
    return replace(image, references=names, repo_digests=digests) if names or digests else None


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    """Go's path.Match as a regular expression: `*` and `?` stop at `/`, `[^a-z]` and `\\` as usual."""
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "[":
            text, position = _class(pattern, position)
            parts.append(text)
        elif char == "\\":
            if position == len(pattern):
                raise _bad(pattern)
            parts.append(re.escape(pattern[position]))
            position += 1
        else:
            parts.append(re.escape(char))
    return re.compile("".join(parts), re.DOTALL)


def _class(pattern: str, position: int) -> tuple[str, int]:
    """The character class that begins after `[` at `position`, and where it ends."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    ranges: list[str] = []
    while True:
        low, position = _class_char(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _class_char(pattern, position + 1)
        if high >= low:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        if pattern[position : position + 1] == "]":
            break
    body = "".join(ranges)
    if not body:
        return ("[^/]" if negated else "(?!)"), position + 1
    return f"(?!/)[{'^' if negated else ''}{body}]", position + 1


def _class_char(pattern: str, position: int) -> tuple[str, int]:
    char = pattern[position : position + 1]
    if char == "\\":
        position += 1
        char = pattern[position : position + 1]
    elif char in ("-", "]"):
        raise _bad(pattern)
    if not char:
        raise _bad(pattern)
    return char, position + 1


def _bad(pattern: str) -> InvalidInput:
    return InvalidInput(f"invalid filter 'reference={pattern}': syntax error in pattern")
