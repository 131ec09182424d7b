"""Expansion: every operator of table 1.1, accepted and refused."""

from __future__ import annotations

import pytest

from buildtool.buildfile import expand_text, expand_word, expand_words
from buildtool.buildfile.words import variables
from buildtool.errors import InvalidInput, Span
from tests.unit.buildfile.helpers import word

ENV = {
    "A": "1", "B": "two words", "E": "", "P": "/usr/local/lib/x.tar.gz", "Q": 'q"u', "S": "a*b?c", "X1": "x",
    "1": "arg", "L": "line1\nline2", "T": "/", "H": "#*",
}  # fmt: skip

ACCEPTED = [
    ("plain", "plain"),
    ("", ""),
    ("$A", "1"),
    ("$A$A", "11"),
    ("${A}b", "1b"),
    ("$Ab", ""),
    ("$A-b", "1-b"),
    ("a$", "a$"),
    ("$ a", "$ a"),
    ("$/x", "$/x"),
    ("$NOT", ""),
    ("${NOT}", ""),
    ("$X1", "x"),
    ("$1x", "argx"),
    ("$12", ""),
    ("$$", ""),
    ("$?a", "a"),
    ("é$A", "é1"),
    # quotes and escapes
    ("'$A'", "$A"),
    ("'a\\b'", "a\\b"),
    ('"$A"', "1"),
    ('"\'$A\'"', "'1'"),
    ("'\"$A\"'", '"$A"'),
    ('a"b c"d', "ab cd"),
    ('""', ""),
    ("''", ""),
    ("\\$A", "$A"),
    ('\\"', '"'),
    ("\\a\\\\", "a\\"),
    ("a\\ b", "a b"),
    ('"\\$A \\" \\\\ \\n"', '$A " \\ \\n'),
    ("a\\", "a"),
    ("$B", "two words"),
    ("$Q", 'q"u'),
    # set or not, empty or not
    ("${A:-w}", "1"),
    ("${E:-w}", "w"),
    ("${N:-w}", "w"),
    ("${A-w}", "1"),
    ("${E-w}", ""),
    ("${N-w}", "w"),
    ("${A:+w}", "w"),
    ("${E:+w}", ""),
    ("${N:+w}", ""),
    ("${A+w}", "w"),
    ("${E+w}", "w"),
    ("${N+w}", ""),
    ("${A:?m}", "1"),
    ("${A?m}", "1"),
    ("${E?m}", ""),
    # nested words
    ("${N:-$A}", "1"),
    ("${N:-${M:-${A}}}x", "1x"),
    ("${N:-a b}", "a b"),
    ("${N:-'a}b'}", "a}b"),
    ('${N:-"$A}"}', "1}"),
    ("${N:-\\}}", "}"),
    ("${N:-}", ""),
    ('"${N:-"x y"}"', "x y"),
    ('"${N:-\'x\'}"', "x"),
    # trimming
    ("${P#/}", "usr/local/lib/x.tar.gz"),
    ("${P#*/}", "usr/local/lib/x.tar.gz"),
    ("${P##*/}", "x.tar.gz"),
    ("${P%.*}", "/usr/local/lib/x.tar"),
    ("${P%%.*}", "/usr/local/lib/x"),
    ("${P%/*}", "/usr/local/lib"),
    ("${P%%/*}", ""),
    ("${P#?usr}", "/local/lib/x.tar.gz"),
    ("${P#nope}", "/usr/local/lib/x.tar.gz"),
    ("${P%nope}", "/usr/local/lib/x.tar.gz"),
    ("${P#*l*l}", "/lib/x.tar.gz"),
    ("${P##*l*l}", "ib/x.tar.gz"),
    ("${P%.tar.gz}", "/usr/local/lib/x"),
    ("${P#$T}", "usr/local/lib/x.tar.gz"),
    ("${P%[a-z]*}", "/usr/local/lib/x.tar.gz"),
    ("${S#a\\*}", "b?c"),
    ("${S%\\?c}", "a*b"),
    ("${S#a?}", "b?c"),
    ("${N#*}", ""),
    ("${P#}", "/usr/local/lib/x.tar.gz"),
    ("${L#line}", "1\nline2"),
    ("${L#*2}", "line1\nline2"),
    # replacing
    ("${P/lib/LIB}", "/usr/local/LIB/x.tar.gz"),
    ("${P/l/L}", "/usr/Local/lib/x.tar.gz"),
    ("${P//l/L}", "/usr/LocaL/Lib/x.tar.gz"),
    ("${P//\\//_}", "_usr_local_lib_x.tar.gz"),
    ("${P/l*l/-}", "/usr/-ib/x.tar.gz"),
    ("${P/$T/}", "usr/local/lib/x.tar.gz"),
    ("${P/.tar/$A}", "/usr/local/lib/x1.gz"),
    ("${P/u?r/x}", "/x/local/lib/x.tar.gz"),
    ("${S//\\*/x}", "axb?c"),
    ("${N/a/b}", ""),
    ("${P/local/a b}", "/usr/a b/lib/x.tar.gz"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), ACCEPTED)
def test_expansion(text: str, value: str) -> None:
    assert expand_word(word(text), ENV) == value


REFUSED = [
    ("${}", "bad substitution"),
    ("${:x}", "bad substitution"),
    ("${{A}}", "bad substitution"),
    ("${", "missing '}'"),
    ("${A", "missing '}'"),
    ("${A:-b", "missing '}'"),
    ("${A#b", "missing '}'"),
    ("${A/b/c", "missing '}'"),
    ("${A/b", "missing '/'"),
    ("${A/b}", "missing '/'"),
    ("${A^}", "unsupported modifier (^)"),
    ("${A^^}", "unsupported modifier (^)"),
    ("${A:^x}", "unsupported modifier (:^)"),
    ("${A:}", "unsupported modifier (:})"),
    ("${A:1}", "unsupported modifier (:1)"),
    ("${A:#x}", "unsupported modifier (:#)"),
    ("${A:%x}", "unsupported modifier (:%)"),
    ("${A b}", "unsupported modifier ( )"),
    ("${A,,}", "unsupported modifier (,)"),
    ("'a", "matching single-quote"),
    ("a'", "matching single-quote"),
    ('"a', "matching double-quote"),
    ('"a\\"', "matching double-quote"),
    ("${N?}", "N: is not allowed to be unset"),
    ("${N:?}", "N: is not allowed to be unset"),
    ("${E:?}", "E: is not allowed to be empty"),
    ("${N?give $A}", "N: give 1"),
    ("${E:?why}", "E: why"),
    ("${P#\\a}", "invalid escape '\\a'"),
    ("${P/\\a/b}", "invalid escape '\\a'"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_refused_substitutions(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        expand_word(word(text), ENV)
    assert reason in caught.value.message and f"failed to process {text!r}" in caught.value.message
    assert caught.value.where == Span("f", 1, 1, len(text), text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("C:\\x\\$A", "C:\\x\\1"),
        ("`$A", "$A"),
        ("a` b", "a b"),
        ('"`"`$"', '"$'),
        ("'`'", "`"),
        ("${N:-`}}", "}"),
        ("a`", "a"),
        ("\\", "\\"),
    ],
)
def test_with_the_backtick(text: str, value: str) -> None:
    assert expand_word(word(text, "`"), ENV) == value


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a b", ["a", "b"]),
        ("$B", ["two", "words"]),
        ('"$B"', ["two words"]),
        ("'a b' c", ["a b", "c"]),
        ("a\\ b", ["a b"]),
        ("$E", []),
        ('""', []),
        ("x$B", ["xtwo", "words"]),
        ("$B$B", ["two", "wordstwo", "words"]),
        ("  80  ", ["80"]),
        ("${N:-1 2}/tcp", ["1", "2/tcp"]),
    ],
)
def test_splitting(text: str, values: list[str]) -> None:
    assert expand_words(word(text), ENV) == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no specials\n", "no specials\n"),
        ("a=$A 'b=$A' \"c=${A}\"\n", "a=1 'b=1' \"c=1\"\n"),
        ("it's\n", "it's\n"),
        ("\\$A \\\\ \\n", "$A \\ n"),
        ("${N:-'x'}", "'x'"),
        ('${N:-"$A"}', '"1"'),
        ("${P##*/}\n$", "x.tar.gz\n$"),
        ("${P/lib/'}", "/usr/local/'/x.tar.gz"),
    ],
)
def test_heredoc_bodies(text: str, value: str) -> None:
    assert expand_text(text, ENV) == value


def test_an_error_in_a_heredoc_stands_where_the_caller_says() -> None:
    place = Span("Buildfile", 7, 3)
    with pytest.raises(InvalidInput) as caught:
        expand_text("${}", {}, where=place)
    assert caught.value.where == place


def test_undefined_variables_are_reported_with_their_place() -> None:
    seen: list[tuple[str, Span]] = []
    w = word("$A $N ${M} ${O:-x} '$no' \\$no")
    assert expand_word(w, ENV, undefined=lambda name, span: seen.append((name, span))) == "1   x $no $no"
    assert seen == [("N", w.span), ("M", w.span), ("O", w.span)]


def test_the_variables_of_a_word() -> None:
    assert variables(word("$a/${b:-$c}\"${d#${e}}\"'$f'\\$g$")) == {"a", "b", "c", "d", "e"}
    assert variables(word("none")) == frozenset()
