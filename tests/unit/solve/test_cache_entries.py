"""Which entries of the build cache a policy removes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.errors import InvalidInput
from buildtool.solve.cache_entries import CacheEntry, Policy, choose, matcher, parse_age
from buildtool.solve.records import Origin

NOW = 1_000_000.0
GIB = 1 << 30


def entry(name: str, **options: Any) -> CacheEntry:
    values = {"id": name, "type": "step", "description": name, "size": GIB, "created": 0.0, "used": NOW - 100}
    return CacheEntry(**{**values, **options})


def names(entries: list[CacheEntry], policy: Policy, free: int = 100 * GIB) -> list[str]:
    return [each.id for each in choose(entries, policy, free=free, now=NOW)]


def test_without_limits_all_goes_that_images_do_not_need() -> None:
    entries = [entry("a"), entry("b", shared=True), entry("m", type="mount")]
    assert names(entries, Policy()) == ["a"]
    assert names(entries, Policy(all=True, mounts=True)) == ["a", "b", "m"]


def test_by_age() -> None:
    entries = [entry("old", used=NOW - 500), entry("new", used=NOW - 5)]
    assert names(entries, Policy(unused_for=100.0)) == ["old"]


def test_by_size_the_longest_unused_go_first() -> None:
    entries = [entry(str(age), used=NOW - age) for age in (10, 300, 200)]
    assert names(entries, Policy(max_used=GIB)) == ["300", "200"]


def test_by_count_and_by_free_space() -> None:
    entries = [entry(str(age), used=NOW - age) for age in (10, 300, 200)]
    assert names(entries, Policy(keep=2)) == ["300"]
    assert names(entries, Policy(min_free=3 * GIB), free=GIB) == ["300", "200"]


def test_mounts_go_after_layers_and_never_without_being_asked_for() -> None:
    entries = [entry("m", type="mount", used=NOW - 9000), entry("a"), entry("b")]
    assert names(entries, Policy(max_used=2 * GIB, mounts=True)) == ["a"]
    assert names(entries, Policy(max_used=0, mounts=True)) == ["a", "b", "m"]
    assert names(entries, Policy(max_used=0)) == ["a", "b"]


def test_steps_used_together_go_from_the_top_of_the_chain() -> None:
    entries = [entry(f"s{n}", used=NOW - 50 + n / 100, created=float(n)) for n in range(3)]
    assert names(entries, Policy(keep=1)) == ["s2", "s1"]


@given(
    st.lists(
        st.builds(
            entry,
            st.text("abcdef0123456789", min_size=4, max_size=8),
            size=st.integers(0, 5 * GIB),
            used=st.floats(0, NOW),
            type=st.sampled_from(["step", "mount"]),
            in_use=st.booleans(),
            protected=st.booleans(),
            shared=st.booleans(),
        ),
        max_size=12,
    ),
    st.builds(
        Policy,
        max_used=st.none() | st.integers(0, 20 * GIB),
        reserved=st.integers(0, 10 * GIB),
        keep=st.none() | st.integers(0, 12),
        unused_for=st.none() | st.floats(0, NOW),
        mounts=st.booleans(),
        all=st.booleans(),
    ),
)
def test_no_policy_takes_what_is_used_or_protected_nor_goes_below_the_reserve(
    entries: list[CacheEntry], policy: Policy
) -> None:
    gone = choose(entries, policy, free=0, now=NOW)
    assert not any(each.in_use or each.protected for each in gone)
    assert policy.mounts or all(each.type == "step" for each in gone)
    left = sum(each.reclaimable for each in entries) - sum(each.reclaimable for each in gone)
    assert not any(each.reclaimable for each in gone) or left >= policy.reserved
    kinds = [each.type for each in gone]
    assert kinds == sorted(kinds, reverse=True), "steps before mounts"


def test_filters() -> None:
    one = entry("aaaa", origin=Origin("app/Buildfile", 12, "RUN make"), description="RUN make", keys=["sha256:feed"])

    def good(**filters: str) -> bool:
        return matcher({name.replace("_", "-"): [value] for name, value in filters.items()}, NOW)(one)

    assert good(type="step") and not good(type="mount")
    assert good(line="Buildfile:12") and good(file="app/") and not good(file="other")
    assert good(id="feed") and good(description="make")
    assert good(unused_for="90s") and not good(unused_for="2m")
    assert good(shared="false") and not good(protected="true")
    for wrong in ({"colour": "red"}, {"type": "x"}, {"shared": "maybe"}, {"until": "soon"}):
        with pytest.raises(InvalidInput, match="invalid filter"):
            good(**wrong)


def test_ages() -> None:
    assert [parse_age(text) for text in ("90m", "7d", "2w", "1h30m")] == [5400, 604800, 1209600, 5400]
    with pytest.raises(ValueError):
        parse_age("soon")
