"""Who may do what with which repositories: rules as data. Pure but for reading their file.

A rules file is YAML:

    groups:
      developers: [alice, bob]
    rules:
      - repositories: [public/**]
        anyone: [pull]
      - repositories: [team/**]
        signed-in: [pull]
        groups: {developers: [pull, push]}
        users: {ci: [pull, push, delete]}
      - repositories: ["home/{user}/**"]
        signed-in: [pull, push, delete]
    immutable:
      - repositories: [team/**]
        tags: ["v*"]

What no rule allows is refused. `*` stands for one component of a name, `**` for any number of them, `{user}` for the
user's own name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from buildtool.errors import InvalidInput

log = logging.getLogger("buildtool.registry")

ACTIONS = frozenset({"pull", "push", "delete"})
_KEYS = frozenset({"groups", "rules", "immutable"})
_RULE_KEYS = frozenset({"repositories", "anyone", "signed-in", "groups", "users"})


@dataclass(frozen=True)
class Rule:
    """For repositories of these patterns: what anyone, everybody with a login, some groups and some users may do."""

    repositories: tuple[str, ...]
    anyone: frozenset[str] = frozenset()
    signed_in: frozenset[str] = frozenset()
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    users: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def covers(self, repository: str, user: str) -> bool:
        """Whether the rule is about this repository."""
        return any(matches(pattern, repository, user) for pattern in self.repositories)


@dataclass(frozen=True)
class ImmutableTags:
    """Tags that stay what they are once they were pushed."""

    repositories: tuple[str, ...]
    tags: tuple[str, ...]

    def covers(self, repository: str, tag: str) -> bool:
        return any(matches(one, repository) for one in self.repositories) and any(
            _pattern(one).fullmatch(tag) for one in self.tags
        )


@dataclass(frozen=True)
class RuleSet:
    """All rules. `groups`: the members of each."""

    rules: tuple[Rule, ...] = ()
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    immutable: tuple[ImmutableTags, ...] = ()

    def allows(self, user: str, action: str, repository: str) -> bool:
        """Whether the user ("" is anybody without a login) may do it."""
        return any(action in self._actions(rule, user) for rule in self.rules if rule.covers(repository, user))

    @property
    def anyone_may_something(self) -> bool:
        """Whether there is anything that needs no login."""
        return any(rule.anyone for rule in self.rules)

    def is_immutable(self, repository: str, tag: str) -> bool:
        """Whether a tag stays what it is once it was pushed."""
        return any(one.covers(repository, tag) for one in self.immutable)

    def _actions(self, rule: Rule, user: str) -> frozenset[str]:
        found = rule.anyone
        if user:
            found |= rule.signed_in | rule.users.get(user, frozenset())
            for group, actions in rule.groups.items():
                if user in self.groups.get(group, ()):
                    found |= actions
        return found


def everybody_signed_in(*, anonymous_pull: bool = False) -> RuleSet:
    """What holds without a rules file."""
    return RuleSet((Rule(("**",), frozenset({"pull"} if anonymous_pull else ()), ACTIONS),))


def matches(pattern: str, repository: str, user: str = "") -> bool:
    """Whether a repository's name is one of the pattern's."""
    if "{user}" in pattern and not user:
        return False
    return _pattern(pattern, user if "{user}" in pattern else "").fullmatch(repository) is not None


@lru_cache(maxsize=4096)
def _pattern(text: str, user: str = "") -> re.Pattern[str]:
    parts = re.split(r"(/\*\*$|^\*\*/|\*\*|\*|\{user\})", text)
    known = {"/**": "(?:/.*)?", "**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "{user}": re.escape(user)}
    return re.compile("".join(known[part] if part in known else re.escape(part) for part in parts))


class RulesFile:
    """The rules of a file, read again when it changes. A change that cannot be read is told of and leaves the old."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput, OSError."""
        self._path = path
        self._stamp = self._look()
        self._rules = parse_rules(path.read_text(), str(path))

    def current(self) -> RuleSet:
        """The rules of now. May block."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._rules = parse_rules(self._path.read_text(), str(self._path))
                log.info("%s: read again", self._path)
        except (InvalidInput, OSError) as error:
            log.error("%s; the rules stay as they were", error)
        return self._rules

    def _look(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino


def parse_rules(text: str, name: str) -> RuleSet:
    """Read a rules file. Raises InvalidInput naming the file, and the place within it."""
    import yaml

    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise InvalidInput(f"{name}{place}: {getattr(error, 'problem', None) or error}") from None
    return _Reader(name).rules(document or {})


class _Reader:
    """Turns the document into values, and says where it cannot."""

    def __init__(self, name: str) -> None:
        self.name = name

    def rules(self, document: Any) -> RuleSet:
        self._keys(document, _KEYS, "the file")
        groups = {
            str(group): frozenset(self._strings(members, f"groups.{group}"))
            for group, members in self._mapping(document.get("groups"), "groups").items()
        }
        rules = tuple(
            self._rule(item, f"rules[{number}]", groups)
            for number, item in enumerate(self._list(document.get("rules"), "rules"))
        )
        immutable = tuple(
            self._immutable(item, f"immutable[{number}]")
            for number, item in enumerate(self._list(document.get("immutable"), "immutable"))
        )
        return RuleSet(rules, groups, immutable)

    def _rule(self, item: Any, place: str, groups: Mapping[str, frozenset[str]]) -> Rule:
        self._keys(item, _RULE_KEYS, place)
        named = self._mapping(item.get("groups"), f"{place}.groups")
        for group in named:
            if group not in groups:
                raise self._wrong(f"{place}.groups", f"there is no group {group!r}")
        return Rule(
            tuple(self._strings(item.get("repositories"), f"{place}.repositories", needed=True)),
            self._actions(item.get("anyone"), f"{place}.anyone"),
            self._actions(item.get("signed-in"), f"{place}.signed-in"),
            {group: self._actions(actions, f"{place}.groups.{group}") for group, actions in named.items()},
            {
                str(user): self._actions(actions, f"{place}.users.{user}")
                for user, actions in self._mapping(item.get("users"), f"{place}.users").items()
            },
        )

    def _immutable(self, item: Any, place: str) -> ImmutableTags:
        self._keys(item, frozenset({"repositories", "tags"}), place)
        repositories = self._strings(item.get("repositories", ["**"]), f"{place}.repositories", needed=True)
        return ImmutableTags(tuple(repositories), tuple(self._strings(item.get("tags", ["*"]), f"{place}.tags")))

    def _actions(self, value: Any, place: str) -> frozenset[str]:
        actions = frozenset(self._strings(value, place))
        if wrong := sorted(actions - ACTIONS):
            raise self._wrong(place, f"{wrong[0]!r} is no action: choose from {', '.join(sorted(ACTIONS))}")
        return actions

    def _strings(self, value: Any, place: str, *, needed: bool = False) -> list[str]:
        found = self._list(value, place)
        if not all(isinstance(one, str) and one for one in found) or (needed and not found):
            raise self._wrong(place, "a list of strings is needed")
        return found

    def _list(self, value: Any, place: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(place, "a list is needed")
        return value

    def _mapping(self, value: Any, place: str) -> dict[Any, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(place, "a mapping is needed")
        return value

    def _keys(self, item: Any, known: Iterable[str], place: str) -> None:
        for key in self._mapping(item, place):
            if key not in known:
                raise self._wrong(place, f"{key!r} is not known: choose from {', '.join(sorted(known))}")

    def _wrong(self, place: str, what: str) -> InvalidInput:
        return InvalidInput(f"{self.name}: {place}: {what}")
