from __future__ import annotations

import pytest

from buildtool.containers.filters import Filters
from buildtool.errors import InvalidInput


@pytest.mark.parametrize("raw", ['{"status":["exited","dead"]}', '{"status":{"exited":true,"dead":true,"up":false}}'])
def test_both_wire_forms_mean_the_same(raw: str) -> None:
    assert Filters.parse(raw).get("status") == ["exited", "dead"]


@pytest.mark.parametrize("raw", [None, "", "null", "{}", {}])
def test_nothing_filters_nothing(raw: object) -> None:
    filters = Filters.parse(raw)  # type: ignore[arg-type]
    assert not filters
    assert filters.exact("status", "anything")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InvalidInput, match="invalid filter 'colour'"):
        Filters.parse('{"colour":["red"]}', {"status"})


@pytest.mark.parametrize("raw", ["[", "[]", '{"a":1}', '{"a":[1]}', '"x"'])
def test_malformed_filters_are_refused(raw: str) -> None:
    with pytest.raises(InvalidInput, match="invalid filter"):
        Filters.parse(raw)


def test_labels_by_key_and_by_value() -> None:
    filters = Filters.parse({"label": ["a", "b=1"]})
    assert filters.labels({"a": "x", "b": "1"})
    assert not filters.labels({"a": "x", "b": "2"})
    assert not filters.labels({"b": "1"})


def test_names_are_regular_expressions_and_a_broken_one_matches_nothing() -> None:
    assert Filters({"name": ["^we"]}).match("name", "web")
    assert not Filters({"name": ["("]}).match("name", "web")


def test_booleans() -> None:
    assert Filters({"dangling": ["true"]}).boolean("dangling") is True
    assert Filters().boolean("dangling") is None
    with pytest.raises(InvalidInput):
        Filters({"dangling": ["maybe"]}).boolean("dangling")
