"""YAML scalars and YAML output, as measured with docker compose 2.40 (reference/stacks.md 1.9)."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from buildtool.stacks.emit import to_yaml
from buildtool.stacks.tree import StackError, plain
from buildtool.stacks.yamlfile import parse
from tests.unit.stacks.conftest import service
from tests.unit.stacks.rules import SCALARS


@pytest.mark.parametrize(
    ("scalar", "expected"),
    SCALARS,
)
def test_scalar_as_an_environment_value(scalar: str, expected: str | None) -> None:
    assert service(f"services: {{s: {{image: x, environment: {{V: {scalar} }}}}}}")["environment"] == {"V": expected}


@pytest.mark.parametrize("key", ["1", "1.0", "true", "~"])
def test_keys_that_are_not_text_are_refused(key: str) -> None:
    with pytest.raises(StackError, match=r"non-string key in services.s.environment: "):
        service(f"services: {{s: {{image: x, environment: {{{key}: v}}}}}}")


def test_keys_yes_and_on_are_text() -> None:
    assert service("services: {s: {image: x, environment: {yes: a, on: b}}}")["environment"] == {
        "on": "b",
        "yes": "a",
    }


def test_an_unquoted_date_is_refused_with_a_remedy() -> None:
    with pytest.raises(StackError, match="is a date") as caught:
        service("services: {s: {image: x, environment: {V: 2001-01-01}}}")
    assert caught.value.hint == "Quote it."


def test_a_key_twice_names_both_lines() -> None:
    with pytest.raises(StackError) as caught:
        parse("services:\n  s: {}\n  s: {}\n", "f.yaml")
    assert str(caught.value).startswith("f.yaml:3:3: services.s: key 's' already set on line 2")


def test_broken_yaml_has_a_place() -> None:
    with pytest.raises(StackError) as caught:
        parse("services:\n\ta: b\n", "f.yaml")
    assert str(caught.value).startswith("f.yaml:2:1: this is not YAML")
    assert "spaces" in caught.value.hint


def test_aliases_within_aliases_are_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(StackError, match="more than 100000 values"):
        parse("\n".join(lines), "bomb.yaml")


def test_merge_keys_take_what_is_not_there() -> None:
    (document,) = parse("a: &a {k: 1, l: 2}\nb: &b {l: 3, m: 4}\nc: {<<: [*a, *b], k: 9}\n", "f")
    assert plain(document["c"]) == {"k": 9, "l": 2, "m": 4}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=5))
def test_what_is_written_reads_back_the_same(value: dict[str, object]) -> None:
    """parse(to_yaml(x)) == x, for our reader."""
    (document,) = parse(to_yaml(value), "f")
    assert plain(document) == value


# YAML 1.1 knows two more: they are written plain, as docker compose writes them, and are strings for it and for us.
TEXTS = st.text().filter(lambda text: text not in ("=", "<<"))


@given(st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=5))
def test_other_readers_read_the_same_text(value: dict[str, str]) -> None:
    """YAML 1.1 readers, too, take every string for what it is."""
    assert yaml.safe_load(to_yaml(value)) == value
