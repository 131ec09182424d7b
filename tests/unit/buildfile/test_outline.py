"""Targets, outlines and reports as documents and as tables."""

from __future__ import annotations

import json

import pytest

from buildtool.buildfile import parse
from buildtool.buildfile.analysis import check
from buildtool.buildfile.evaluation import Given
from buildtool.buildfile.outline import outline, print_outline, print_targets, targets, to_json
from buildtool.buildfile.places import Places
from buildtool.buildfile.reports import Report, lint_document, print_lint
from buildtool.buildfile.rules import RULES
from buildtool.buildfile.sarif import INVALID, sarif_document
from buildtool.errors import InvalidInput, NotFound, Span

TEXT = """\
# GO is the toolchain
ARG GO=1.22
ARG IMAGE=golang:${GO}
ARG OTHER=x
FROM --platform=$BUILDPLATFORM ${IMAGE} AS build
ARG GO
# FLAGS go to the compiler
ARG FLAGS=-v \\
    DEBUG
RUN --mount=type=secret,id=token --mount=type=ssh,id=deploy,required \\
    go build
FROM scratch AS unused
RUN --mount=type=secret,id=other x
# release is what is shipped
FROM scratch AS release
COPY --from=build /x /x
"""


def test_targets() -> None:
    document = targets(parse(TEXT), TEXT)
    build, _unused, release = document["targets"]
    assert build == {
        "name": "build",
        "base": "${IMAGE}",
        "platform": "$BUILDPLATFORM",
        "location": {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}]},
    }
    assert (release["default"], release["description"]) == (True, "is what is shipped")
    assert print_targets(document).splitlines()[-1] == "release (default) is what is shipped"


def test_the_outline_of_a_target_has_what_its_stages_use() -> None:
    document = outline(parse(TEXT), TEXT, Given(build_args={"DEBUG": "1"}))
    assert (document["name"], document["description"]) == ("release", "is what is shipped")
    args = [(arg["name"], arg.get("value", ""), arg.get("description", "")) for arg in document["args"]]
    assert args == [
        ("GO", "1.22", "is the toolchain"), ("IMAGE", "golang:1.22", ""), ("FLAGS", "-v", "go to the compiler"),
        ("DEBUG", "1", ""),
    ]  # fmt: skip
    assert [line["start"]["line"] for line in document["args"][2]["location"]["ranges"]] == [8, 9]
    assert [secret["name"] for secret in document["secrets"]] == ["token"]
    assert [(agent["name"], agent["required"]) for agent in document["ssh"]] == [("deploy", True)]
    assert print_outline(document).startswith("TARGET:      release\nDESCRIPTION: is what is shipped\n\nBUILD ARG")


def test_a_plain_file_has_an_empty_outline() -> None:
    document = outline(parse("FROM a"), "FROM a")
    assert list(document) == ["sources"] and print_outline(document) == ""
    assert json.loads(to_json(document)) == document


def test_an_outline_says_what_stops_the_build() -> None:
    with pytest.raises(NotFound):
        outline(parse(TEXT), TEXT, Given(target="none"))
    with pytest.raises(InvalidInput):
        outline(parse("ARG x\nFROM $x"), "")


EXCERPTS = [
    # first, last line of ten, the lines shown
    (5, 5, range(3, 8)), (1, 1, range(1, 4)), (10, 10, range(8, 11)), (2, 2, range(1, 5)), (4, 6, range(3, 8)),
    (1, 10, range(1, 11)),
]  # fmt: skip


@pytest.mark.parametrize(("first", "last", "shown"), EXCERPTS)
def test_the_lines_around_a_place(first: int, last: int, shown: range) -> None:
    places = Places("\n".join("abcdefghij"), "f")
    location = {"ranges": [{"start": {"line": n}, "end": {"line": n}} for n in range(first, last + 1)]}
    head, bar, *rows, last_bar = places.excerpt(location).splitlines()
    assert (head, bar, last_bar) == (f"f:{first}", "-" * 20, "-" * 20)
    assert [int(row.split(" | ")[0]) for row in rows] == list(shown)
    assert [int(row.split(" | ")[0]) for row in rows if ">>>" in row] == list(range(first, last + 1))


def test_a_report_of_a_file_that_does_not_parse() -> None:
    error = InvalidInput("broken", where=Span("f", 2, 1, 1, "x"), hint="mend it")
    report = Report("f", "FROM a\nx\n", (), error)
    document = lint_document(report)
    assert document["warnings"] == []
    assert document["buildError"]["message"] == "broken: mend it"
    assert document["buildError"]["location"]["ranges"] == [{"start": {"line": 2}, "end": {"line": 2}}]
    assert print_lint(report) == ""


def test_sarif_names_its_rules_and_stays_within_its_schema() -> None:
    text = "FROM a as b\nRUN x \\\n\n y\n"
    broken = Report("/abs/b c", "x", (), InvalidInput("broken"))
    document = sarif_document([Report("./d/f", text, check(parse(text, "./d/f"))), broken], "1.2")
    assert (document["version"], len(document["runs"])) == ("2.1.0", 1)
    (run,) = document["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("buildtool", "1.2")
    assert [rule["id"] for rule in driver["rules"]] == [*RULES, INVALID]
    assert [(r["ruleId"], r["level"]) for r in run["results"]] == [
        ("FromAsCasing", "warning"), ("NoEmptyContinuation", "warning"), (INVALID, "error")
    ]  # fmt: skip
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        region = result["locations"][0]["physicalLocation"]["region"]
        assert region["startLine"] >= 1 and region["startColumn"] >= 1
        assert region.get("endColumn", region["startColumn"]) >= region["startColumn"]
    uris = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in run["results"]]
    assert uris == ["d/f", "d/f", "file:///abs/b%20c"]
