"""Rules files, patterns of names, rate limits: pure."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.errors import BuildtoolError, InvalidInput
from buildtool.registry.server.limits import RateLimit
from buildtool.registry.server.options import parse, size
from buildtool.registry.server.rules import RuleSet, RulesFile, matches, parse_rules

TEXT = """
groups:
  developers: [alice, bob]
rules:
  - repositories: [public/**]
    anyone: [pull]
  - repositories: [team/**, "**/shared"]
    signed-in: [pull]
    groups: {developers: [pull, push]}
    users: {ci: [pull, push, delete]}
  - repositories: ["home/{user}/**"]
    signed-in: [pull, push, delete]
immutable:
  - repositories: [team/**]
    tags: ["v*"]
"""


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("**", "a", True),
        ("**", "a/b/c", True),
        ("*", "a", True),
        ("*", "a/b", False),
        ("team/*", "team/a", True),
        ("team/*", "team/a/b", False),
        ("team/**", "team/a/b", True),
        ("team/**", "team", True),
        ("team/**", "teams/a", False),
        ("**/shared", "shared", True),
        ("**/shared", "a/b/shared", True),
        ("**/shared", "a/unshared", False),
        ("team/app-*", "team/app-1", True),
        ("team.x/a", "teamyx/a", False),
        ("home/{user}/**", "home/alice/a", False),
    ],
)
def test_patterns_of_names(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


def test_the_user_in_a_pattern() -> None:
    assert matches("home/{user}/**", "home/alice/a", "alice")
    assert not matches("home/{user}/**", "home/alice/a", "bob")
    assert not matches("home/{user}/**", "home/xxx/a", "*")  # a name is no pattern


@given(st.text("abc/*-.", max_size=12), st.text("abc/-.", max_size=12))
def test_any_pattern_is_a_pattern(pattern: str, name: str) -> None:
    matches(pattern, name)


ROWS = [
    ("", "public/a", "pull"),
    ("alice", "public/a", "pull"),
    ("alice", "team/a", "pull push"),
    ("bob", "x/shared", "pull push"),
    ("eve", "team/a", "pull"),
    ("", "team/a", ""),
    ("ci", "team/a", "pull push delete"),
    ("alice", "home/alice/x", "pull push delete"),
    ("alice", "home/bob/x", ""),
    ("alice", "other/x", ""),
]


@pytest.mark.parametrize(("user", "repository", "allowed"), ROWS)
def test_what_the_rules_allow(user: str, repository: str, allowed: str) -> None:
    rules = parse_rules(TEXT, "rules.yaml")
    found = [action for action in ("pull", "push", "delete") if rules.allows(user, action, repository)]
    assert found == allowed.split()


def test_immutable_tags() -> None:
    rules = parse_rules(TEXT, "rules.yaml")
    assert rules.is_immutable("team/a", "v1.2") and not rules.is_immutable("team/a", "latest")
    assert not rules.is_immutable("public/a", "v1.2")
    assert parse_rules("", "empty") == RuleSet()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [", r"rules.yaml:\d+:\d+: "),
        ("rule: []", "the file: 'rule' is not known: choose from groups, immutable, rules"),
        ("rules: {}", "rules: a list is needed"),
        ("rules: [{repositories: []}]", r"rules\[0\].repositories: a list of strings is needed"),
        ("rules: [{repositories: [a], anyone: [read]}]", r"'read' is no action: choose from delete, pull, push"),
        ("rules: [{repositories: [a], groups: {x: [pull]}}]", r"there is no group 'x'"),
        ("rules: [{repositories: [1]}]", "a list of strings is needed"),
        ("[1]", "the file: a mapping is needed"),
        ("immutable: [{tags: x}]", r"immutable\[0\].tags: a list is needed"),
    ],
)
def test_wrong_rules_are_told_with_their_place(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_rules(text, "rules.yaml")


def test_a_rules_file_is_read_again_and_a_wrong_change_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [{repositories: [a], anyone: [pull]}]")
    rules = RulesFile(path)
    assert rules.current().allows("", "pull", "a")
    path.write_text("rules: [{repositories: [a], anyone: [")
    assert rules.current().allows("", "pull", "a")
    path.unlink()
    assert rules.current().allows("", "pull", "a")
    path.write_text("rules: [{repositories: [b], anyone: [pull]}]")
    assert not rules.current().allows("", "pull", "a") and rules.current().allows("", "pull", "b")


def test_rates_are_counted_for_each_client() -> None:
    now = [0.0]
    limit = RateLimit(2.0, burst=3.0, clock=lambda: now[0])
    assert [limit.take("a") for _ in range(3)] == [0.0] * 3
    assert limit.take("a") == 0.5 and limit.take("b") == 0.0
    now[0] = 0.5
    assert limit.take("a") == 0.0 and limit.take("a") > 0.0


def test_sizes_and_contradicting_flags() -> None:
    assert (size("10g"), size("5"), size("2MiB")) == (10 << 30, 5, 2 << 20)
    for words in (
        ["--max-blob", "big"],
        ["--tls-cert", "x"],
        ["--anonymous-pull"],
        ["--share-store", "--mirror", "docker.io"],
        ["--mirror", "Upper=docker.io"],
        ["--mirror", "docker.io/library"],
        ["--rate-limit", "-1"],
        ["--external-url", "registry.example"],
        ["--addr", "5000"],
        ["--bucket-option", "x"],
    ):
        with pytest.raises(BuildtoolError):
            parse(words)
