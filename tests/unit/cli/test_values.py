"""Sizes, durations, times and lists in flags; sizes and times as Docker prints them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.cli import human, times, values
from buildtool.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("32", 32),
        ("32b", 32),
        ("32k", 32 << 10),
        ("1.5K", 1536),
        ("2MB", 2 << 20),
        ("2MiB", 2 << 20),
        ("3 gib", 3 << 30),
        ("1t", 1 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert values.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "1x", "1kk", "-1", "1..2", "bb"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        values.parse_size(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("5s", 5 * 10**9),
        ("1m30s", 90 * 10**9),
        ("300ms", 3 * 10**8),
        ("1.5h", 5400 * 10**9),
        ("-2s", -2 * 10**9),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert values.parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "problem"), [("", "invalid"), ("5", "missing unit"), ("5x", "unknown unit"), ("s", "invalid")]
)
def test_what_is_no_duration(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        values.parse_duration(text)


def test_cpus() -> None:
    assert values.parse_cpus("0.5") == 500_000_000
    assert values.parse_cpus("2") == 2 * 10**9
    with pytest.raises(ValueError, match="too precise"):
        values.parse_cpus("0.0000000001")


def test_environment_reads_files_first_and_this_process_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    file.write_text("\ufeff# comment\n\nA=1\n  B=two words \nPASSED\nUNSET\n")
    monkeypatch.setenv("PASSED", "here")
    monkeypatch.delenv("UNSET", raising=False)
    assert values.environment([str(file)], ["A=2", "PASSED", "UNSET"]) == [
        "A=1",
        "B=two words ",
        "PASSED=here",
        "A=2",
        "PASSED=here",
        "UNSET",
    ]


@pytest.mark.parametrize(("line", "problem"), [("=x", "no variable name"), ("a b=x", "contains whitespaces")])
def test_wrong_lines_of_files_are_named(tmp_path: Path, line: str, problem: str) -> None:
    file = tmp_path / "env"
    file.write_text(f"A=1\n{line}\n")
    with pytest.raises(InvalidInput, match=f"env:2: .*{problem}"):
        values.environment([str(file)], [])
    with pytest.raises(InvalidInput, match="no such file"):
        values.environment([str(tmp_path / "none")], [])


def test_filters_collect_by_name() -> None:
    assert values.filters_document(["label=a", "label=b=c", "Status=x"]) == {"label": ["a", "b=c"], "status": ["x"]}


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0B"), (999, "999B"), (1964, "1.96kB"), (4_300_000, "4.3MB"), (117_000_000, "117MB")]
)
def test_decimal_sizes(size: int, shown: str) -> None:
    assert human.decimal_size(size, 3) == shown


def test_binary_sizes() -> None:
    assert human.binary_size(440 << 10) == "440KiB"
    assert human.binary_size(25_275_000_000) == "23.54GiB"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (46 * 60, "46 minutes"),
        (60 * 60, "About an hour"),
        (3 * 3600, "3 hours"),
        (3 * 86400, "3 days"),
        (3 * 7 * 86400, "3 weeks"),
        (90 * 86400, "3 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations_for_human_eyes(seconds: float, shown: str) -> None:
    assert human.duration(seconds) == shown


def test_no_time_is_not_ages_ago() -> None:
    assert human.ago(0) == "N/A"


@given(st.integers(0, 4_000_000_000))
def test_rfc3339_is_read_back(seconds: int) -> None:
    """For all seconds since 1970, their UTC text is read as the same second."""
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    assert human.parse_rfc3339(text) == seconds


def test_rfc3339_offsets_and_fractions() -> None:
    assert human.parse_rfc3339("1970-01-01T01:00:00.5+01:00") == 0.5
    for wrong in ("yesterday", "2026-01-31", "2026-01-31T10:00:00", "2026-13"):
        with pytest.raises(ValueError, match="RFC 3339"):
            human.parse_rfc3339(wrong)


def test_times_in_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 10_000.0)
    assert times.engine_time("") == ""
    assert times.engine_time("1700000000.5") == "1700000000.5"
    assert float(times.engine_time("10m")) == 9400.0
    assert float(times.engine_time("1970-01-01T00:01:00Z")) == 60.0
    local = time.mktime((2026, 1, 31, 0, 0, 0, 0, 0, -1))
    assert float(times.engine_time("2026-01-31")) == local
    with pytest.raises(InvalidInput, match="invalid time"):
        times.engine_time("yesterday")


def test_go_quotes() -> None:
    assert human.quoted('a "b"\n\x01é') == '"a \\"b\\"\\n\\x01é"'
