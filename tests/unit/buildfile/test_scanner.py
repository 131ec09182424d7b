"""Directives, comments, continuations, heredocs: table 1.1 of the reference."""

from __future__ import annotations

import pytest

from buildtool.buildfile import parse
from buildtool.buildfile.instructions import Copy, OnBuild, Run
from buildtool.buildfile.scanner import scan
from tests.unit.buildfile.helpers import one, refused, texts


def lines(text: str) -> list[str]:
    return [line.text for line in scan(text, "f").lines]


@pytest.mark.parametrize(
    ("text", "directives"),
    [
        ("# syntax=docker/dockerfile:1\nFROM a", {"syntax": "docker/dockerfile:1"}),
        ("#syntax = x y  \nFROM a", {"syntax": "x y"}),
        ("# SYNTAX=x\n# Escape=`\n# check=skip=all\nFROM a", {"syntax": "x", "escape": "`", "check": "skip=all"}),
        ("#!/usr/bin/env build\n# syntax=x\nFROM a", {"syntax": "x"}),
        ("\ufeff# syntax=x\nFROM a", {"syntax": "x"}),
        ("  # escape=`\nFROM a", {"escape": "`"}),
        ("# escape=`\r\nFROM a", {"escape": "`"}),
        ("# a comment\n# escape=`\nFROM a", {}),
        ("\n# escape=`\nFROM a", {}),
        ("# unknown=1\n# escape=`\nFROM a", {}),
        ("FROM a\n# escape=`\n", {}),
        ("# syntax=x\n\n# syntax=y\nFROM a", {"syntax": "x"}),
        ("# cache=strict\n# check=skip=all\nFROM a", {"cache": "strict", "check": "skip=all"}),
        ("# cache=on\n# check=skip=all\nFROM a", {}),
    ],
)
def test_directives_stand_at_the_top(text: str, directives: dict[str, str]) -> None:
    assert parse(text).directives == directives


@pytest.mark.parametrize("name", ["syntax", "escape", "check", "cache"])
def test_a_directive_may_be_given_once(name: str) -> None:
    value = {"escape": "\\", "cache": "strict"}.get(name, "skip=all")
    error = refused(f"# {name}={value}\n# {name}={value}\nFROM a")
    assert "only one" in error.message and error.where and error.where.line == 2


@pytest.mark.parametrize("value", ["x", "\\\\", "``", "'", "\\ `"])
def test_the_escape_character_is_a_backslash_or_a_backtick(value: str) -> None:
    error = refused(f"# escape={value}\nFROM a")
    assert "escape" in error.message and error.where is not None
    assert (error.where.line, error.where.column, error.where.length) == (1, 10, len(value))


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("RUN a \\\n  b", ["RUN a   b"]),
        ("RUN a\\\nb", ["RUN ab"]),
        ("RUN a \\  \t\n b", ["RUN a  b"]),
        ("RUN a \\\\\nRUN b", ["RUN a \\\\", "RUN b"]),
        ("RUN a \\\n# comment\n  # indented comment\n b", ["RUN a  b"]),
        ("RUN a \\\n\n  \n b", ["RUN a  b"]),
        ("RUN a \\\n", ["RUN a"]),
        ("RUN a \\", ["RUN a"]),
        ("\\\nRUN a", ["RUN a"]),
        ("RUN \\\n  # c\n", ["RUN"]),
        ("   RUN a", ["RUN a"]),
        ("\tRUN a  ", ["RUN a"]),
        ("RUN a # not a comment", ["RUN a # not a comment"]),
        ("# c\n\n  # d\nRUN a", ["RUN a"]),
        ("RUN a \\\r\n b\r\nRUN c\r\n", ["RUN a  b", "RUN c"]),
        ("# escape=`\nRUN a `\n b \\\nRUN c", ["RUN a  b \\", "RUN c"]),
        ("# escape=`\nRUN a ``\nRUN c", ["RUN a ``", "RUN c"]),
        ("RUN a `\nRUN b", ["RUN a `", "RUN b"]),
        ("", []),
        ("\n\n", []),
    ],
)
def test_continuation_lines_are_joined(text: str, joined: list[str]) -> None:
    assert lines(text) == joined


def test_an_empty_continuation_line_is_remembered() -> None:
    (line,) = scan("RUN a \\\n\n\n b", "f").lines
    assert line.empty_lines == [2, 3]


def test_comments_directly_above_belong_to_the_line() -> None:
    first, second, third = scan("# a\n# b\nFROM x\n# c\n\nRUN y\n# d\n#\n# e\nRUN z", "f").lines
    assert [c.text for c in first.comments] == ["a", "b"]
    assert second.comments == ()
    assert [(c.text, c.line) for c in third.comments] == [("e", 9)]


def test_spans_lead_through_continuations() -> None:
    text = "FROM a\nCOPY one \\\n  # comment\n\n     two \\\n\tthree /to\n"
    (copy,) = parse(text).stages[0].instructions
    assert isinstance(copy, Copy)
    places = [(w.span.line, w.span.column, w.span.length) for w in (*copy.sources, copy.destination)]
    assert places == [(2, 6, 3), (5, 6, 3), (6, 2, 5), (6, 8, 3)]
    assert copy.destination.span.line_text == "\tthree /to"


def test_a_word_broken_by_a_continuation_is_underlined_to_the_end_of_its_first_line() -> None:
    (copy,) = parse("FROM a\nCOPY very\\\nlong /to").stages[0].instructions
    assert isinstance(copy, Copy)
    assert copy.sources[0].text == "verylong"
    assert copy.sources[0].span.length == 4


@pytest.mark.parametrize(
    ("mark", "name", "expand", "fd"),
    [
        ("<<EOF", "EOF", True, 0),
        ("<<'EOF'", "EOF", False, 0),
        ('<<"EOF"', "EOF", False, 0),
        ('<<E"O"F', "EOF", False, 0),
        ("<<E\\OF", "EOF", True, 0),
        ("3<<EOF", "EOF", True, 3),
        ("<<-EOF", "EOF", True, 0),
        ("<<-'EOF'", "EOF", False, 0),
        ("<<'E F'", "E F", False, 0),
        ("<<$x", "$x", True, 0),
    ],
)
def test_heredoc_marks(mark: str, name: str, expand: bool, fd: int) -> None:
    run = one(f"RUN cat {mark}\nbody\n{name}\nRUN x", Run)
    (heredoc,) = run.heredocs
    assert (heredoc.name, heredoc.content, heredoc.expand, heredoc.fd) == (name, "body\n", expand, fd)
    assert heredoc.span.column == 9 and heredoc.span.length == len(mark)


@pytest.mark.parametrize(
    "line",
    [
        "RUN '<<EOF'",
        'RUN "<<EOF"',
        "RUN echo <<<EOF",
        "RUN << EOF",
        "RUN <<",
        "RUN <<-",
        "RUN a<<EOF",
        "RUN \\<<EOF",
        "RUN echo it's <<EOF",
        'RUN ["a", "<<EOF"]',
        "ENV a=<<EOF",
        "CMD cat <<EOF",
        "LABEL a=<<EOF",
        "ONBUILD ENV a=<<EOF",
    ],
)
def test_what_is_no_heredoc(line: str) -> None:
    assert all(not parsed.heredocs for parsed in scan(f"FROM a\n{line}\nRUN x\n", "f").lines)


def test_heredoc_bodies_are_raw() -> None:
    body = "# no comment\nline \\\n\n  FROM x\n<<EOF2\n EOF\nEOF \n"
    run = one(f"RUN <<EOF\n{body}EOF\n", Run)
    assert run.heredocs[0].content == body
    assert run.heredoc_only


def test_a_dash_takes_leading_tabs_away() -> None:
    run = one("RUN <<-EOF\n\t\ta\n \tb\n\tEOF\n", Run)
    assert run.heredocs[0].content == "a\n \tb\n"


def test_without_a_dash_tabs_stay() -> None:
    error = refused("FROM a\nRUN <<EOF\n\ta\n\tEOF\n")
    assert "unterminated heredoc" in error.message
    assert error.where and (error.where.line, error.where.column, error.where.length) == (2, 5, 5)
    assert "exactly EOF" in error.hint


def test_several_heredocs_follow_one_another() -> None:
    run = one("RUN <<A cat 3<<B\none\nA\ntwo\nB\n", Run)
    assert [(h.name, h.content, h.fd) for h in run.heredocs] == [("A", "one\n", 0), ("B", "two\n", 3)]
    assert not run.heredoc_only
    assert run.script and run.script.text == "<<A cat 3<<B\none\nA\ntwo\nB"


def test_crlf_stays_in_a_heredoc_body() -> None:
    run = one("RUN <<EOF\r\na\r\nEOF\r\n", Run)
    assert run.heredocs[0].content == "a\r\n"


def test_a_heredoc_alone_is_the_script() -> None:
    script = one("RUN <<EOF\necho 1\nEOF", Run).script
    assert script and (script.text, script.file_name) == ("echo 1\n", None)


def test_a_shebang_body_is_a_file_to_execute() -> None:
    script = one("RUN --network=none <<'PY'\n#!/usr/bin/python3\nprint(1)\nPY", Run).script
    assert script and (script.text, script.file_name) == ("#!/usr/bin/python3\nprint(1)\n", "PY")


def test_an_exec_form_has_no_script() -> None:
    assert one('RUN ["a"]', Run).script is None


def test_heredocs_are_sources_of_copy() -> None:
    copy = one("COPY <<one x <<-'two' /to/\n1\none\n\t2\ntwo\n", Copy)
    assert texts(copy.sources) == ["x"]
    assert [(h.name, h.content, h.expand) for h in copy.heredocs] == [("one", "1\n", True), ("two", "2\n", False)]


def test_a_heredoc_is_never_the_destination() -> None:
    assert "destination" in refused("FROM a\nCOPY x <<EOF\nEOF\n").message


def test_heredocs_in_onbuild_go_into_the_trigger() -> None:
    onbuild = one("ONBUILD RUN <<EOF\necho\nEOF\n", OnBuild)
    assert onbuild.trigger == "RUN <<EOF\necho\nEOF"
    assert isinstance(onbuild.instruction, Run) and onbuild.instruction.heredocs[0].content == "echo\n"


def test_a_heredoc_opened_on_a_continued_line_follows_the_whole_line() -> None:
    run = one("RUN cat <<EOF && \\\n  true\nbody\nEOF\n", Run)
    assert run.heredocs[0].content == "body\n"
    assert run.script and run.script.text == "cat <<EOF &&   true\nbody\nEOF"
