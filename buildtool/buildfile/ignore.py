"""`.dockerignore`: which paths of a build context are left out.

Source: ../shared/reference/build.md, section 1.5 (moby/patternmatcher and its ignorefile reader).
"""

from __future__ import annotations

import posixpath
import re

from buildtool.buildfile.glob import character_class, go_match, has_meta, star_regex
from buildtool.errors import InvalidInput, Span


class Rule:
    """One line: its cleaned pattern, whether `!` negates it, and the pattern compiled (None = plain text)."""

    __slots__ = ("negated", "pattern", "regex")

    def __init__(self, pattern: str, negated: bool, regex: re.Pattern[str] | None) -> None:
        self.pattern = pattern
        self.negated = negated
        self.regex = regex

    def matches(self, path: str) -> bool:
        return path == self.pattern if self.regex is None else self.regex.fullmatch(path) is not None


class IgnoreRules:
    """The rules of one ignore file. Paths are relative to the context, clean, `/`-separated; "" is its root."""

    __slots__ = ("_negations", "_parents", "rules")

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self.rules = rules
        self._parents: dict[str, tuple[bool, ...]] = {}
        self._negations = tuple(rule for rule in rules if rule.negated)

    @classmethod
    def parse(cls, text: str, file: str = ".dockerignore") -> IgnoreRules:
        """Read an ignore file. Raises InvalidInput with the line of a malformed pattern."""
        rules: list[Rule] = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            line = line.removesuffix("\r")
            if line.startswith("#"):
                continue
            pattern = line.strip()
            if not pattern:
                continue
            try:
                rules.append(_rule(pattern))
            except ValueError as error:
                column = len(line) - len(line.lstrip()) + 1
                raise InvalidInput(
                    f"bad ignore pattern: {error}", where=Span(file, number, column, len(pattern), line)
                ) from None
        return cls(tuple(rules))

    @property
    def has_negations(self) -> bool:
        """Whether a rule includes again what others exclude."""
        return bool(self._negations)

    def excludes(self, path: str) -> bool:
        """Whether the path is left out: by the last rule that matches it or, through it, a directory above it."""
        return path not in ("", ".") and self._judge(path)[0]

    def may_contain_included(self, directory: str) -> bool:
        """Whether something below `directory` may be kept; when not, a walk need not go there.

        Exact when no rule is negated; with `!` rules it errs on the side of True.
        """
        if not self.excludes(directory):
            return True
        return any(_may_match_below(rule.pattern, directory) for rule in self._negations)

    def _judge(self, path: str) -> tuple[bool, tuple[bool, ...]]:
        """Whether the path is excluded, and which rules matched it or its parents.

        A rule that would change nothing (an exclusion of what is excluded already) counts as not matching, for the
        path and for all below it: this is how a walk with patternmatcher behaves.
        """
        parent = path.rpartition("/")[0]
        above = self._parent(parent) if parent else None
        excluded = False
        matches: list[bool] = []
        for index, rule in enumerate(self.rules):
            match = above is not None and above[index]
            if not match and rule.negated == excluded:
                match = rule.matches(path)
            matches.append(match)
            if match:
                excluded = not rule.negated
        return excluded, tuple(matches)

    def _parent(self, directory: str) -> tuple[bool, ...]:
        matches = self._parents.get(directory)
        if matches is None:
            matches = self._parents[directory] = self._judge(directory)[1]
        return matches


def _rule(pattern: str) -> Rule:
    negated = pattern.startswith("!")
    body = pattern[1:].strip() if negated else pattern
    if not body:
        raise ValueError('"!" negates nothing')
    body = _clean(body)
    if len(body) > 1:
        body = body.removeprefix("/")
    go_match(body, ".")
    return Rule(body, negated, _regex(body))


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _regex(pattern: str) -> re.Pattern[str] | None:
    """Compile a clean pattern; None when nothing in it is special.

    `**` crosses directories, also as a part of a name: `**name` matches whatever ends in it, and behind other
    characters `**` is any text up to and including a `/`, or nothing.
    """
    if not has_meta(pattern):
        return None
    if pattern.startswith("**") and not has_meta(pattern[2:]):
        suffix = pattern[2:]
        tail = rf"(?:.*/)?{re.escape(suffix[1:])}" if suffix.startswith("/") else f".*{re.escape(suffix)}"
        return re.compile(tail, re.DOTALL)
    parts: list[str] = []  # what stands before the last `**`
    chunks = [""]  # and behind it, split at single stars
    index = 0
    while index < len(pattern):
        character = pattern[index]
        index += 1
        if character == "*" and pattern.startswith("*", index):
            index += 1
            index += pattern.startswith("/", index)
            parts += [_stars(chunks), ".*" if index == len(pattern) else "(?:.*/)?"]
            chunks = [""]
        elif character == "*":
            chunks.append("")
        elif character == "?":
            chunks[-1] += "[^/]"
        elif character == "[":
            text, index = character_class(pattern, index)
            chunks[-1] += text
        elif character == "\\" and index < len(pattern):
            chunks[-1] += re.escape(pattern[index])
            index += 1
        else:
            chunks[-1] += re.escape(character)
    return re.compile("".join(parts) + _stars(chunks), re.DOTALL)


def _stars(chunks: list[str]) -> str:
    """Chunks with single stars between. A class may match a `/`: behind one the first place need not be the best."""
    return "[^/]*".join(chunks) if any("[" in c.replace("[^/]", "") for c in chunks) else star_regex(chunks, "[^/]")


def _may_match_below(pattern: str, directory: str) -> bool:
    patterns, parts = pattern.split("/"), directory.split("/")
    for index, part in enumerate(parts):
        if index >= len(patterns):
            return False
        if "**" in patterns[index] or "[" in patterns[index] or "\\" in patterns[index]:
            return True
        if not go_match(patterns[index], part):
            return False
    return len(patterns) > len(parts)
