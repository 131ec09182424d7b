"""Pictures of a build, from a record alone."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from buildtool.errors import InvalidInput
from buildtool.solve.chart import chart
from buildtool.solve.drawings import draw
from buildtool.solve.history import BuildRecord
from buildtool.solve.request import StepRecord

SVG = "{http://www.w3.org/2000/svg}"


def step(
    index: int, stage: str, seconds: float, *inputs: int, status: str = "done", name: str = "RUN make"
) -> StepRecord:
    return StepRecord(
        name, f"sha256:{index}", status == "cached", seconds, "", status, index=index, stage=stage, inputs=inputs
    )


RECORD = BuildRecord(
    id="b1",
    status="completed",
    file="Buildfile",
    began=0.0,
    seconds=4.0,
    steps=[
        step(1, "a", 0.0, status="cached", name="[a] FROM busybox"),
        step(2, "a", 1.0, 1, name='[a] RUN echo "<&>" `x` #'),
        step(3, "b", 3.0, 1),
        step(4, "c", 0.5, 2, 3),
        step(5, "c", 0.0, 4, status="failed"),
    ],
)


def test_the_critical_path_is_the_longest_chain() -> None:
    made = chart(RECORD.steps)
    assert made.critical in ([1, 3, 4], [1, 3, 4, 5])
    assert made.critical_seconds == 3.5


def test_no_two_steps_share_a_place_and_every_edge_goes_down() -> None:
    made = chart(RECORD.steps)
    assert len({(made.column[index], made.row[index]) for index in made.steps}) == len(made.steps)
    assert all(made.row[source] < made.row[target] for source, target in made.edges)
    assert made.edges == [(1, 2), (1, 3), (2, 4), (3, 4), (4, 5)]


def test_two_hundred_stages_are_drawn() -> None:
    steps = [step(1, "s0", 0.0)]
    for number in range(2, 801):
        first = number % 4 == 0
        steps.append(step(number, f"s{number // 4}", 0.1, number - (4 if first else 1)))
    made = chart(steps)
    assert len({(made.column[index], made.row[index]) for index in made.steps}) == 800


def test_svg_is_well_formed_and_has_a_box_a_step() -> None:
    root = ElementTree.fromstring(draw(RECORD, "svg"))
    assert root.tag == f"{SVG}svg"
    texts = "".join(root.itertext())
    assert len(root.findall(f"{SVG}g")) == 5
    assert '"<&>"' in texts
    assert "critical path 3.50 s" in texts


def test_html_contains_the_picture_and_a_row_a_step() -> None:
    page = draw(RECORD, "html")
    assert page.startswith("<!DOCTYPE html>")
    assert "<svg " in page
    assert page.count("<tr") == 6
    assert "<&>" not in page


def test_dot_and_mermaid_name_every_step_and_edge() -> None:
    dot = draw(RECORD, "dot")
    assert dot.startswith("digraph build {")
    assert dot.count("->") == 5
    assert re.search(r'label="#2 \[a\] RUN echo \\"<&>\\" `x` #\\n1\.00 s"', dot)
    mermaid = draw(RECORD, "mmd")
    assert mermaid.count("-->") == 5
    assert "#quot;#lt;#amp;#gt;#quot; #96;x#96; #35;" in mermaid


def test_an_empty_build_has_a_picture() -> None:
    record = BuildRecord(id="b", status="failed", file="Buildfile", began=0.0)
    for form in ("svg", "html", "dot", "mmd"):
        assert draw(record, form)


def test_other_forms_are_refused() -> None:
    with pytest.raises(InvalidInput, match="unknown form"):
        draw(RECORD, "png")
