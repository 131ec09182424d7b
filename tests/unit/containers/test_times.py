from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.containers import times
from buildtool.errors import InvalidInput

SECOND = times.SECOND


def test_zero_is_gos_zero_time() -> None:
    assert times.rfc3339nano(0) == "0001-01-01T00:00:00Z"


def test_trailing_zeros_of_the_fraction_are_cut_as_go_does() -> None:
    assert times.rfc3339nano(1_136_073_600 * SECOND + 120_000_000) == "2006-01-01T00:00:00.12Z"
    assert times.rfc3339nano(1_136_073_600 * SECOND) == "2006-01-01T00:00:00Z"


@given(st.integers(1, 4_000_000_000 * SECOND))
def test_times_survive_being_written_and_read(moment: int) -> None:
    """parse_moment(rfc3339nano(t)) == t"""
    assert times.parse_moment(times.rfc3339nano(moment)) == moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("1136073600", 1_136_073_600 * SECOND),
        ("1136073600.000000001", 1_136_073_600 * SECOND + 1),
        ("2006-01-02T15:04:05+02:00", 1_136_207_045 * SECOND),
        ("2006-01-02T15:04:05.5Z", 1_136_214_245 * SECOND + SECOND // 2),
    ],
)
def test_moments_of_the_api(text: str, expected: int) -> None:
    assert times.parse_moment(text) == expected


def test_a_duration_means_that_long_ago() -> None:
    assert times.parse_moment("1h30m", relative_to=10_000 * SECOND) == (10_000 - 5400) * SECOND


@pytest.mark.parametrize("text", ["yesterday", "2006-13-01T00:00:00Z", "12x", "-", "1h2"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        times.parse_moment(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (3600 * 47, "47 hours"),
        (86400 * 3, "3 days"),
        (86400 * 20, "2 weeks"),
        (86400 * 90, "3 months"),
        (86400 * 365 * 3, "3 years"),
    ],
)
def test_human_durations_read_like_dockers(seconds: int, text: str) -> None:
    assert times.human_duration(seconds * SECOND) == text


@pytest.mark.parametrize(
    ("ns", "text"), [(0, "0s"), (SECOND // 2, "500ms"), (30 * SECOND, "30s"), (90 * SECOND, "1m30s")]
)
def test_durations_are_printed_as_go_prints_them(ns: int, text: str) -> None:
    assert times.go_duration(ns) == text
