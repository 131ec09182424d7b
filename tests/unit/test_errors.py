"""Errors carry their place, a caret and a remedy."""

from __future__ import annotations

import pytest

from buildtool.errors import BuildtoolError, CommandNotFound, InvalidInput, NotFound, Span

SPAN = Span("Buildfile", 7, 6, 10, "COPY srv/app.py /app/")


def test_message_stands_behind_its_place_and_above_the_line_with_a_caret() -> None:
    error = InvalidInput("COPY: no such file", where=SPAN, hint='did you mean "src/app.py"?')
    assert str(error).splitlines() == [
        "Buildfile:7:6: COPY: no such file",
        "  7 | COPY srv/app.py /app/",
        "    |      ^^^^^^^^^^",
        'did you mean "src/app.py"?',
    ]


def test_caret_keeps_tabs_so_that_it_stands_below_the_word() -> None:
    span = Span("f", 1, 3, 1, "\tRUN")
    assert span.excerpt().splitlines()[1].endswith("| \t ^")


def test_caret_never_runs_past_the_line() -> None:
    assert Span("f", 1, 3, 99, "abc").excerpt().splitlines()[1].endswith("|   ^")


@pytest.mark.parametrize(
    ("error", "status", "code"), [(InvalidInput, 400, 1), (NotFound, 404, 1), (CommandNotFound, 400, 127)]
)
def test_each_class_has_its_status_and_exit_code(error: type[BuildtoolError], status: int, code: int) -> None:
    assert (error("x").http_status, error("x").exit_code) == (status, code)
