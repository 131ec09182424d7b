"""Mending: what is mended, what is left alone, and that nothing else changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildtool.buildfile import expand_word, parse
from buildtool.buildfile.fixes import FIXABLE, fix_text
from buildtool.buildfile.instructions import Env
from buildtool.errors import InvalidInput
from tests.unit.buildfile.test_formatter import WORDS

MENDED = [
    # rule, given, mended
    ("ConsistentInstructionCasing", "FROM a\nrun x\nRun y\nRUN z", "FROM a\nRUN x\nRUN y\nRUN z"),
    ("ConsistentInstructionCasing", "from a\nrun x\nRUN y", "from a\nrun x\nrun y"),
    ("ConsistentInstructionCasing", "FROM a\nonbuild run x\nRUN y", "FROM a\nONBUILD run x\nRUN y"),
    ("FromAsCasing", "FROM a  as  b", "FROM a  AS  b"),
    ("FromAsCasing", "from a AS b\nrun x", "from a as b\nrun x"),
    ("FromAsCasing", "FROM a \\\n  as b", "FROM a \\\n  AS b"),
    ("StageNameCasing", "FROM a AS Build\nCOPY --from=Build x y", "FROM a AS build\nCOPY --from=Build x y"),
    ("NoEmptyContinuation", "FROM a\nRUN x \\\n\n  y \\\n \n # c\n\n z", "FROM a\nRUN x \\\n  y \\\n # c\n z"),
    ("MaintainerDeprecated", "FROM a\nMAINTAINER Jo <j@x>",
     'FROM a\nLABEL org.opencontainers.image.authors="Jo <j@x>"'),
    ("MaintainerDeprecated", "from a\nmaintainer x", 'from a\nlabel org.opencontainers.image.authors="x"'),
    ("MaintainerDeprecated", 'FROM a\nMAINTAINER "Jo"', 'FROM a\nLABEL org.opencontainers.image.authors="Jo"'),
    ("MaintainerDeprecated", 'FROM a\nMAINTAINER a"$b\\',
     'FROM a\nLABEL org.opencontainers.image.authors="a\\"\\$b"'),
    ("LegacyKeyValueFormat", "FROM a\nENV a b", "FROM a\nENV a=b"),
    ("LegacyKeyValueFormat", "FROM a\nENV a   b  c $d", 'FROM a\nENV a="b  c $d"'),
    ("LegacyKeyValueFormat", "FROM a\nENV a b \\\n  c", 'FROM a\nENV a="b   c"'),
    ("LegacyKeyValueFormat", "FROM a\nENV a 'b c' d\\ e", "FROM a\nENV a='b c'\\ d\\ e"),
    ("LegacyKeyValueFormat", "FROM a\nENV a ${b:-c d}", 'FROM a\nENV a="${b:-c d}"'),
    ("LegacyKeyValueFormat", "FROM a\nLABEL a.b c d", 'FROM a\nLABEL a.b="c d"'),
    ("LegacyKeyValueFormat", "# escape=`\nFROM a\nENV p 'C:\\x' y", "# escape=`\nFROM a\nENV p='C:\\x'` y"),
    ("JSONArgsRecommended", "FROM a\nCMD node server.js", 'FROM a\nCMD ["node", "server.js"]'),
    ("JSONArgsRecommended", "FROM a\nENTRYPOINT exec x 'a b' -c", 'FROM a\nENTRYPOINT ["x", "a b", "-c"]'),
    ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM a AS b", "FROM a AS b"),
    ("RedundantTargetPlatform", "FROM   --platform=${TARGETPLATFORM}   a", "FROM   a"),
    ("ExposeProtoCasing", "FROM a\nEXPOSE 80/TCP  53/Udp 1/tcp", "FROM a\nEXPOSE 80/tcp  53/udp 1/tcp"),
]  # fmt: skip
LEFT = [
    "FROM a\nCMD node $X",
    "FROM a\nCMD a && b",
    "FROM a\nCMD cd /x",
    "FROM a\nCMD A=1 b",
    "FROM a\nCMD a > b",
    "FROM a\nCMD a*",
    "FROM a\nCMD a 'b",
    "FROM a\nCMD",
    'FROM a\nENTRYPOINT x\nCMD ["y"]',
    'FROM a\nENTRYPOINT ["x"]\nCMD y',
    'FROM a AS b\nENTRYPOINT ["x"]\nFROM b\nCMD y',
    'FROM a AS b\nENTRYPOINT x\nFROM b AS c\nFROM c\nCMD ["y"]',
    "FROM a\nENV a b \\\n # comment\n c",
    "FROM a\nMAINTAINER a \\\n # comment\n b",
    "FROM a\nWORKDIR x\nEXPOSE 80:80\nARG TOKEN",
    "# check=skip=all\nfrom a AS B\nMAINTAINER x",
    "FROM a\n# check=skip=JSONArgsRecommended\nCMD x",
]


@pytest.mark.parametrize(("rule", "text", "wanted"), MENDED)
def test_mended(rule: str, text: str, wanted: str) -> None:
    fixed = fix_text(text)
    assert fixed.text == wanted
    assert {warning.rule for warning in fixed.warnings} == {rule}
    assert fix_text(fixed.text) == (wanted, [])


@pytest.mark.parametrize("text", LEFT)
def test_left_alone(text: str) -> None:
    assert fix_text(text) == (text, [])


def test_every_rule_that_can_be_mended_is() -> None:
    assert {rule for rule, _, _ in MENDED} == FIXABLE


def test_all_at_once_and_line_ends_stay() -> None:
    text = "\ufefffrom a as B\r\nMAINTAINER x\r\nRUN y \\\r\n\r\n z\r\nENV a b c\r\n"
    assert fix_text(text).text == (
        '\ufeffFROM a AS b\r\nLABEL org.opencontainers.image.authors="x"\r\nRUN y \\\r\n z\r\nENV a="b c"\r\n'
    )


def test_a_thousand_lines_are_mended_in_one_go() -> None:
    text = "FROM a\n" + "RUN x\nrun y\nENV a b c\n" * 350
    fixed = fix_text(text)
    assert len(fixed.warnings) == 700 and parse(fixed.text).warnings == ()


def test_a_file_that_does_not_parse_is_refused() -> None:
    with pytest.raises(InvalidInput):
        fix_text("RUN x")


@given(st.lists(st.sampled_from([*"abc $'\"\\`{}", "${x:-", "}", "  ", "\t", "$x", "\\ "]), max_size=10).map("".join))
@settings(max_examples=200)
def test_the_value_of_a_mended_env_stays(value: str) -> None:
    """For any legacy ENV: after the fix the value is the same, whatever the variables in it are."""
    text = f"FROM a\nENV k {value}"
    try:
        before = parse(text).stages[0].instructions[0]
        after = parse(fix_text(text).text).stages[0].instructions[0]
    except InvalidInput:
        return
    assert isinstance(before, Env) and isinstance(after, Env)
    for env in ({}, {"x": ""}, {"x": "1 2"}, {"x": "'\"\\", "a": "y"}):
        results = []
        for instruction in (before, after):
            try:
                results.append([expand_word(word, env) for pair in instruction.pairs for word in pair])
            except InvalidInput as error:
                results.append([error.message.partition(": ")[2]])
        assert results[0] == results[1]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(lambda parts: "FROM a\n" + "".join(parts)))
@settings(max_examples=120)
def test_mending_ends_and_what_is_mended_parses(text: str) -> None:
    """fix(fix(x)) == fix(x), and no instruction is lost."""
    try:
        before = parse(text)
    except InvalidInput:
        return
    fixed = fix_text(text)
    after = parse(fixed.text)
    assert fix_text(fixed.text).text == fixed.text
    assert [len(s.instructions) for s in after.stages] == [len(s.instructions) for s in before.stages]
