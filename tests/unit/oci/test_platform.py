"""Platforms: names, aliases, and which of several suits a machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.errors import InvalidInput
from buildtool.oci import Platform, best_platform, host_platform, parse_platform, parse_platforms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("macos/arm64", "darwin/arm64"),
        (" Linux/AMD64 ", "linux/amd64"),
    ],
)
def test_names_and_aliases(text: str, expected: str) -> None:
    assert str(parse_platform(text)) == expected


def test_a_system_alone_means_the_machines_architecture() -> None:
    assert parse_platform("linux") == host_platform()


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/am d64", "plan9000", "linux\n/amd64"])
def test_malformed_platforms_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid platform"):
        parse_platform(text)


_platforms = st.builds(
    Platform,
    architecture=st.sampled_from(["amd64", "arm64", "arm", "x86_64", "aarch64", "armhf", "s390x"]),
    os=st.sampled_from(["linux", "windows", "macos"]),
    variant=st.sampled_from(["", "v1", "v2", "v6", "v7", "v8", "7"]),
)


@given(_platforms)
def test_normalising_is_idempotent_and_survives_text(platform: Platform) -> None:
    """Law: normalized is idempotent; parse(str(normalized)) = normalized."""
    normal = platform.normalized()
    assert normal.normalized() == normal
    assert parse_platform(str(normal)) == normal


@given(_platforms, st.lists(st.one_of(st.none(), _platforms), max_size=5))
def test_an_equal_platform_always_wins(wanted: Platform, others: list[Platform | None]) -> None:
    """Law: where an equal platform is offered, it or an equal one is chosen."""
    place = best_platform(wanted, [*others, wanted])
    assert place is not None
    chosen = [*others, wanted][place]
    assert chosen is not None
    assert chosen.normalized() == wanted.normalized()


def test_an_older_variant_runs_on_a_newer_machine_and_not_the_reverse() -> None:
    v6, v7 = parse_platform("linux/arm/v6"), parse_platform("linux/arm/v7")
    assert best_platform(v7, [v6]) == 0
    assert best_platform(v6, [v7]) is None
    assert best_platform(parse_platform("amd64"), [None, parse_platform("arm64")]) is None


def test_a_list_has_each_platform_once_in_its_order() -> None:
    found = parse_platforms("linux/arm64, aarch64,linux/arm64/v8,linux/arm,local")
    assert found == list(dict.fromkeys([parse_platform("arm64"), parse_platform("linux/arm/v7"), host_platform()]))
