"""Build checks that the text alone decides: fired and silent, skipped and failing."""

from __future__ import annotations

import pytest

from buildtool.buildfile import parse
from buildtool.buildfile.checks import message_copy_ignored, message_undefined_var
from buildtool.buildfile.rules import RULES
from tests.unit.buildfile.helpers import refused

FIRED = [
    # text, rule, part of the message, line
    ("FROM a AS Build", "StageNameCasing", "Stage name 'Build' should be lowercase", 1),
    ("FROM a as b", "FromAsCasing", "'as' and 'FROM' keywords' casing do not match", 1),
    ("from a AS b\nrun x", "FromAsCasing", "'AS' and 'from'", 1),
    ("FROM a\nRUN a \\\n\n b", "NoEmptyContinuation", "Empty continuation line", 3),
    ("FROM a\nRUN x\nrun y", "ConsistentInstructionCasing", "'run' should match the case of the command", 3),
    ("from a\nrun x\nRUN y", "ConsistentInstructionCasing", "command majority (lowercase)", 3),
    ("FROM a\nRun x", "ConsistentInstructionCasing", "'Run'", 2),
    ("FROM a AS x\nFROM b AS x", "DuplicateStageName", 'Duplicate stage name "x", stage names should be unique', 2),
    ("FROM a AS scratch", "ReservedStageName", '"scratch"', 1),
    ("FROM a AS context", "ReservedStageName", '"context"', 1),
    ("FROM a\nCMD x y", "JSONArgsRecommended", "JSON arguments recommended for CMD", 2),
    ("FROM a\nENTRYPOINT x", "JSONArgsRecommended", "ENTRYPOINT", 2),
    ("FROM a\nMAINTAINER x", "MaintainerDeprecated", "deprecated", 2),
    ("ARG VERSION=1\nFROM a:$VERSIN", "UndefinedArgInFrom", "'VERSIN' is not declared (did you mean VERSION?)", 2),
    ("FROM --platform=$BULIDPLATFORM a", "UndefinedArgInFrom", "did you mean BUILDPLATFORM?", 1),
    ("FROM a\nWORKDIR x", "WorkdirRelativePath", 'Relative workdir "x"', 2),
    ("FROM a\nCMD [\"a\"]\nCMD [\"b\"]", "MultipleInstructionsDisallowed", "Multiple CMD instructions", 2),
    ("FROM a\nHEALTHCHECK NONE\nHEALTHCHECK CMD x", "MultipleInstructionsDisallowed", "HEALTHCHECK", 2),
    ("FROM a\nENV a b", "LegacyKeyValueFormat", '"ENV key=value" should be used', 2),
    ("FROM a\nLABEL a b", "LegacyKeyValueFormat", '"LABEL key=value"', 2),
    ("FROM --platform=$TARGETPLATFORM a", "RedundantTargetPlatform", "$TARGETPLATFORM in FROM is redundant", 1),
    ("FROM --platform=${TARGETPLATFORM} a", "RedundantTargetPlatform", "${TARGETPLATFORM}", 1),
    ("FROM --platform=linux/amd64 a", "FromPlatformFlagConstDisallowed", 'constant value "linux/amd64"', 1),
    ("FROM a\nARG API_TOKEN", "SecretsUsedInArgOrEnv", '(ARG "API_TOKEN")', 2),
    ("FROM a\nENV x=1 db_password=y", "SecretsUsedInArgOrEnv", '(ENV "db_password")', 2),
    ("ARG V\nFROM $V", "InvalidDefaultArgInFrom", "ARG $V results in empty or invalid", 2),
    ("ARG V\nFROM a:$V", "InvalidDefaultArgInFrom", "ARG a:$V", 2),
    ("ARG V\nFROM a:$W", "InvalidDefaultArgInFrom", "ARG a:$W", 2),
    ("FROM --platform=${TARGETPLATFORM:-x} a", "RedundantTargetPlatform", "${TARGETPLATFORM:-x}", 1),
    ("FROM --platform=linux/amd64 a AS arm", "FromPlatformFlagConstDisallowed", "linux/amd64", 1),
    ("FROM a\nEXPOSE 80/TCP", "ExposeProtoCasing", "'80/TCP'", 2),
    ("FROM a\nEXPOSE 80:80", "ExposeInvalidFormat", "found '80:80'", 2),
    ("FROM a\nEXPOSE 127.0.0.1:80:80/tcp", "ExposeInvalidFormat", "127.0.0.1", 2),
    ("# check=experimental=all\n# not this\nFROM a AS b", "InvalidDefinitionDescription", "`# b <description>`", 3),
    ("# check=experimental=all\nFROM a\n# x\nARG v", "InvalidDefinitionDescription", "`# v <description>`", 4),
]  # fmt: skip

SILENT = [
    "arg V=1\nFROM a:$V",
    "FROM --platform=linux/amd64 a AS build-amd64",
    "FROM --platform=linux/arm64 a AS linux",
    "FROM --platform=a/b/c/d a",
    "FROM --platform=${TARGETPLATFORM:+linux} a",
    "FROM a AS b",
    "ARG SECRET\nFROM a",
    "from a as b\nrun x",
    "ARG V=1\nFROM a:$V\nARG V\nRUN x",
    "FROM --platform=$BUILDPLATFORM a",
    "FROM a\nWORKDIR /x\nWORKDIR y",
    "FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y",
    "FROM a\nARG x=/y\nWORKDIR $x",
    'FROM a\nWORKDIR "/x"',
    'FROM a\nSHELL ["/bin/bash", "-c"]\nCMD x',
    'FROM a AS b\nSHELL ["/bin/bash", "-c"]\nFROM b\nENTRYPOINT x',
    'FROM a\nCMD ["a"]\nENTRYPOINT ["b"]',
    'FROM a AS b\nCMD ["a"]\nFROM c\nCMD ["a"]',
    "FROM a\nARG PUBLIC_KEY\nENV TOKEN_FILE=/x KEYBOARD=us AUTHOR=me",
    "FROM a\nEXPOSE 80 53/udp $PORT:80 8000-8010/tcp",
    "# some text\nFROM a AS b",
    "# check=experimental=all\n# b is it\nFROM a AS b\n# c\n\nARG v",
    "FROM a\nRUN a \\\n # comment\n b",
    "ARG V=3 W=alpine:$V\nFROM $W",
    "ARG V\nFROM ${V:-alpine}",
]


@pytest.mark.parametrize(("text", "rule", "message", "line"), FIRED)
def test_fires(text: str, rule: str, message: str, line: int) -> None:
    (warning,) = [w for w in parse(text).warnings if w.rule == rule]
    assert message in warning.message
    assert warning.span.line == line
    assert rule in RULES


@pytest.mark.parametrize("text", SILENT)
def test_stays_silent(text: str) -> None:
    assert parse(text).warnings == ()


@pytest.mark.parametrize(
    ("text", "rule"), [(text, rule) for text, rule, _, _ in FIRED if not text.startswith("# check")]
)
def test_each_can_be_skipped(text: str, rule: str) -> None:
    assert rule not in {w.rule for w in parse(f"# check=skip=Other,{rule}\n{text}").warnings}
    assert parse(f"# check=skip=all\n{text}").warnings == ()


def test_a_comment_above_an_instruction_skips_there_only() -> None:
    above, all_of_them = "# check=skip=WorkdirRelativePath,JSONArgsRecommended", "# check=skip=all"
    text = f"FROM a\n{above}\nCMD x\nMAINTAINER y\n{all_of_them}\nMAINTAINER z"
    assert [(w.rule, w.span.line) for w in parse(text).warnings] == [("MaintainerDeprecated", 4)]


def test_experimental_rules_are_off_unless_asked_for() -> None:
    assert parse("FROM a\n# text\nARG v").warnings == ()


def test_error_true_asks_for_failure() -> None:
    assert parse("# check=skip=JSONArgsRecommended;error=true\nFROM a").checks.error
    assert not parse("# check=error=false\nFROM a").checks.error


@pytest.mark.parametrize("value", ["x", "error=maybe", "skip", "fail=all"])
def test_bad_check_options_are_refused(value: str) -> None:
    error = refused(f"# check={value}\nFROM a")
    assert "check" in error.message and error.where and error.where.line == 1


def test_warnings_come_in_order() -> None:
    text = "FROM a as B\nMAINTAINER x\nCMD x\nENV a b\n"
    lines = [w.span.line for w in parse(text).warnings]
    assert lines == sorted(lines) and len(lines) == 5


def test_words_for_checks_made_elsewhere() -> None:
    assert message_undefined_var("PTAH", {"PATH"}) == "Usage of undefined variable '$PTAH' (did you mean $PATH?)"
    assert message_copy_ignored("ADD", "x") == 'Attempting to Add file "x" that is excluded by .dockerignore'


def test_the_policy_answers_for_checks_made_elsewhere() -> None:
    policy = parse(
        "# check=experimental=CopyIgnoredFile\nFROM a\n# check=skip=UndefinedVar\nENV a=$b\nENV c=$d"
    ).checks
    assert not policy.allows("UndefinedVar", 4)
    assert policy.allows("UndefinedVar", 5) and policy.allows("CopyIgnoredFile", 5)
    assert not parse("FROM a").checks.allows("CopyIgnoredFile", 1)
