"""The formatter: the standard form, and the law that it never changes what a file means."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildtool.buildfile import parse
from buildtool.buildfile.formatter import format_text
from buildtool.buildfile.meaning import meaning_of_file
from buildtool.errors import InvalidInput
from tests.unit.buildfile.test_properties import FRAGMENTS

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
CHANGED = [
    # given, standard form
    ("from a", "FROM a\n"),
    ("FROM   a   as    b", "FROM a AS b\n"),
    ("FROM --platform=x   a", "FROM --platform=x a\n"),
    ("\n\n\nFROM a\n\n\n\nRUN b  \n\n\n", "FROM a\n\nRUN b\n"),
    ("   # c  \n  FROM a", "# c\nFROM a\n"),
    ("#Syntax = x\n# ESCAPE=`\nFROM a", "# syntax=x\n# escape=`\nFROM a\n"),
    ("#!/bin/x  \nFROM a", "#!/bin/x\nFROM a\n"),
    ("\ufeffFROM a", "FROM a\n"),
    ("FROM a\r\nRUN b\\\r\n c\r\n", "FROM a\r\nRUN b\\\r\n c\r\n"),
    ("FROM a\nRUN b\nFROM c", "FROM a\nRUN b\n\nFROM c\n"),
    ("FROM a\n# about b\n# b\nFROM c AS b", "FROM a\n\n# about b\n# b\nFROM c AS b\n"),
    ("ARG a\nFROM a", "ARG a\nFROM a\n"),
    ("FROM a\nENV a=1   b=2", "FROM a\nENV a=1 b=2\n"),
    ("FROM a\nENV a=1\\\n  b=2 \\  \n\n # c\n\tc=3", "FROM a\nENV a=1 \\\n    b=2 \\\n    # c\n    c=3\n"),
    ('FROM a\nENV a="x \\\n  y"   b=1', 'FROM a\nENV a="x \\\n  y" b=1\n'),
    ("FROM a\nENV   a   b  c", "FROM a\nENV a b  c\n"),
    ("FROM a\nARG  a   b=c", "FROM a\nARG a b=c\n"),
    ('FROM a\nCMD [  "a","b"  ,"c"]', 'FROM a\nCMD ["a", "b", "c"]\n'),
    ("FROM a\nCMD [ ]", "FROM a\nCMD []\n"),
    ('FROM a\nCMD [ \\\n"a", \\\n "b" \\\n]', 'FROM a\nCMD [ \\\n    "a", \\\n    "b" \\\n]\n'),
    ('FROM a\ncopy  --link   [ "a b","c" ]', 'FROM a\nCOPY --link ["a b", "c"]\n'),
    ("FROM a\nCOPY   a    b", "FROM a\nCOPY a b\n"),
    ("FROM a\nEXPOSE  80   443", "FROM a\nEXPOSE 80 443\n"),
    ("FROM a\nhealthcheck   --retries=1  cmd  x  y", "FROM a\nHEALTHCHECK --retries=1 CMD x  y\n"),
    ("FROM a\nHEALTHCHECK none", "FROM a\nHEALTHCHECK NONE\n"),
    ("FROM a\nonbuild   run  x", "FROM a\nONBUILD run  x\n"),
    ("FROM a\nrun   x", "FROM a\nRUN x\n"),
    ("FROM a\nRUN --mount=target=/x   \\\n x  y", "FROM a\nRUN --mount=target=/x \\\n    x  y\n"),
    ("FROM a\nRUN a && \\\n\n b", "FROM a\nRUN a && \\\n b\n"),
    ("FROM a\nCOPY  <<EOF   /x\n  body  \nEOF", "FROM a\nCOPY <<EOF /x\n  body  \nEOF\n"),
]  # fmt: skip
KEPT = [
    "FROM a\nRUN a   &&  b\n",
    'FROM a\nRUN echo "x \\\n      y" \\\n # comment\n  && z\n',
    "FROM a\nRUN --network=none \\\n  --mount=target=/x \\\n  a && \\\n  b\n",
    "FROM a\nRUN <<EOF\n  # not a comment  \n\n\n\ttab\nEOF\nRUN x\n",
    "FROM a\nCOPY <<-A <<'B' /x/\n\ta\n\tA\nFROM b\\\nB\n",
    "FROM a\nRUN <<EOF\nwindows\r\nEOF\n",
    "\n# escape=`\nFROM a\nRUN a\\\n b\n",
    "# syntax=x\n\n# escape=`\nFROM a\n",
    "# comment\n# escape=`\nFROM a\n",
    "FROM a\nONBUILD RUN   a \\\n   b\n",
    "FROM a\nWORKDIR /a   b\n",
    "# escape=`\nFROM a\nCOPY a `\n    b C:\\\n",
]
WORDS = [
    "FROM a", "from", "run", "RUN ", "COPY ", "ENV ", "env ", "ARG ", "LABEL ", "CMD ", "ENTRYPOINT ",
    "ONBUILD ", "HEALTHCHECK ", "cmd", "SHELL ", "VOLUME ", "EXPOSE ", "USER ", "WORKDIR ", "\nRUN ", "\nCOPY ",
    "\nENV ", "\nFROM ", "\nHEALTHCHECK ", "\nONBUILD COPY ", "\nADD ", "\nARG ", "\nLABEL ", "\nCMD ", " as b",
    "a", " b", " c=1", ' "d"', " 'e f'", "\\ ", " \\\n", "\\\n", "\\\n\n", " \\ \n  ", "\\\n # c\n",
    "\n# x y\n", "\n#c\n", "#", "\n\n\n", "\r\n", "\t", "  ", '["a", "b"]', ' [ "a",\\\n"b" ] ', "<<E x",
    "<<-E", "\nE\n", "\nE", "\t", "--link ", "--mount=type=tmpfs,target=/x ", "--network=none ",
    "--interval=1s ", "--", "\xa0", "\x85", "`", "# escape=`\n", "# check=skip=all\n", "#!x\n", "$x", "${a:-b}",
    "é",
]  # fmt: skip
any_text = st.lists(st.sampled_from([*WORDS, *FRAGMENTS]), max_size=20).map("".join)
behind_from = st.lists(st.sampled_from(WORDS), max_size=14).map(lambda parts: "FROM a\n" + "".join(parts))


@pytest.mark.parametrize(("given", "wanted"), CHANGED)
def test_standard_form(given: str, wanted: str) -> None:
    assert format_text(given) == wanted
    assert format_text(wanted) == wanted


@pytest.mark.parametrize("text", KEPT)
def test_what_is_kept_to_the_byte(text: str) -> None:
    assert format_text(text) == text


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_whole_files_keep_their_meaning_and_comments(path: Path) -> None:
    text = path.read_bytes().decode()
    formatted = format_text(text)
    assert meaning_of_file(parse(formatted)) == meaning_of_file(parse(text))
    assert format_text(formatted) == formatted
    comments = [line.strip() for line in text.splitlines() if line.strip().startswith("#") and "=" not in line]
    assert [line.strip() for line in formatted.splitlines() if line.strip() in comments] == comments


@given(st.one_of(any_text, behind_from))
@settings(max_examples=400)
@example("FROM a\nRUN x\\\n# c\n\\\n")
@example("FROM a\nRUN x\\\xa0\nRUN y")
@example("\\\n# a x\nARG a\nFROM b")
@example("FROM a\nR\\\nUN x")
@example("FROM a\nCOPY a\\\n\\\n b c\\\n")
@example("FROM a\nENV a=b\\\n c=d")
@example('FROM a\nCMD ["a"\\\n,\\\n"b"]\n')
@example("FROM a\n# c\nRUN x")
def test_formatting_keeps_the_meaning_and_is_idempotent(text: str) -> None:
    """parse(format(x)) means what parse(x) means, descriptions and check options included; format∘format = format."""
    try:
        before = parse(text)
    except InvalidInput:
        with pytest.raises(InvalidInput):
            format_text(text)
        return
    formatted = format_text(text)
    after = parse(formatted)
    assert meaning_of_file(after) == meaning_of_file(before)
    assert format_text(formatted) == formatted
    skipped = [sorted(rules) for _, _, rules in before.checks.skips]
    assert [sorted(rules) for _, _, rules in after.checks.skips] == skipped


def test_a_file_that_is_no_buildfile_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidInput) as caught:
        format_text("FROM a\nRNU x", "web/Buildfile")
    assert str(caught.value.where) == "web/Buildfile:2:1"
