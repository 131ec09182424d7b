"""Which lines an instruction stands on."""

from __future__ import annotations

import pytest

from buildtool.buildfile import parse
from buildtool.solve.source_lines import source_lines, whole_span

TEXT = """FROM busybox
RUN echo a \\
    # a comment
    && echo b \\

    && echo c
RUN <<EOF cat && cat <<-"TWO"
one
EOF
\ttwo
\tTWO
RUN last
"""


@pytest.mark.parametrize(("number", "first", "last"), [(0, 2, 6), (1, 7, 11), (2, 12, 12)])
def test_continuations_comments_and_heredocs_belong_to_it(number: int, first: int, last: int) -> None:
    run = parse(TEXT).stages[0].instructions[number]
    assert run.span.line == first
    assert source_lines(TEXT, run.span) == TEXT.splitlines()[first - 1 : last]
    shown = whole_span(TEXT, run.span).excerpt()
    assert shown.count("\n") == max(last - first, 1)


def test_a_span_of_another_file_is_left_as_it_is() -> None:
    run = parse(TEXT).stages[0].instructions[0]
    assert whole_span("FROM x\nRUN other \\\n  thing\n", run.span) == run.span
