from __future__ import annotations

import re

import pytest

from buildtool.containers import names
from buildtool.errors import InvalidInput, NotFound

A, B = "a" * 64, "ab" * 32


def _lookup(reference: str) -> str:
    return names.lookup(reference, [A, B], {"web": A, "ab": A}.get)


def test_ids_are_64_hex_digits_whose_short_form_is_no_number() -> None:
    identity = names.new_id()
    assert re.fullmatch(r"[0-9a-f]{64}", identity)
    assert not identity[:12].isdecimal()


@pytest.mark.parametrize("name", ["web", "/web", "a.b-c_d", "0x"])
def test_good_names(name: str) -> None:
    assert names.check_name(name) == name.removeprefix("/")


@pytest.mark.parametrize("name", ["a", "-web", "we b", "wéb", "//web", "web\n"])
def test_bad_names_are_refused_with_dockers_text(name: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"(?s)Invalid container name \(.*\), only \[a-zA-Z0-9\]\[a-zA-Z0-9_.-\] are"
    ):
        names.check_name(name)


def test_random_names_are_adjective_and_surname() -> None:
    assert re.fullmatch(r"[a-z]+_[a-z]+", names.random_name(lambda name: False))


def test_random_names_avoid_taken_ones() -> None:
    taken: set[str] = set()
    for _ in range(7):
        taken.add(names.random_name(taken.__contains__))
    assert len(taken) == 7


def test_a_name_wins_over_a_prefix() -> None:
    assert _lookup("ab") == A


def test_names_may_have_their_slash() -> None:
    assert _lookup("/web") == A


def test_unique_prefixes_are_found() -> None:
    assert _lookup("aba") == B


def test_ambiguous_prefixes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="multiple IDs found with provided prefix: a"):
        _lookup("a")


def test_unknown_names_are_not_found() -> None:
    with pytest.raises(NotFound, match="No such container: nope"):
        _lookup("nope")


def test_an_empty_reference_is_refused() -> None:
    with pytest.raises(InvalidInput, match="No container name or ID supplied"):
        _lookup("")
