"""The checks that need more than the text: variables, base images, the ignore file; policy and failure."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings

from buildtool.buildfile import IgnoreRules, parse
from buildtool.buildfile.analysis import check, failure, first_error, policy_of
from buildtool.buildfile.evaluation import BaseFacts, Bases, Given, evaluate
from buildtool.buildfile.rules import RULES
from buildtool.errors import InvalidInput, NotFound
from buildtool.oci import Platform
from tests.unit.buildfile.test_properties import texts

AMD, ARM = Platform(architecture="amd64", os="linux"), Platform(architecture="arm64", os="linux")


def bases(env: Mapping[str, str] | None = None, platform: Platform | None = None) -> Bases:
    return lambda reference, wanted: BaseFacts(env or {}, platform)


def fired(text: str, given: Given | None = None, ignore: str | None = None) -> list[tuple[str, int]]:
    rules = None if ignore is None else IgnoreRules.parse(ignore)
    return [(w.rule, w.span.line) for w in check(parse(text), given, rules)]


UNDEFINED = [
    # text behind FROM scratch, names that are told
    ("USER $x", ["x"]),
    ("USER ${x:-y}", ["x"]),
    ("USER $PATH", []),
    ("ARG x\nUSER $x", []),
    ("ENV x=1\nUSER $x", []),
    ("ENV x=1 y=$x", ["x"]),
    ("ENV $x=1$y z=1", ["x", "y"]),
    ("LABEL $x=1", ["x"]),
    ("COPY $x ${y} /", ["x", "y"]),
    ("COPY --chown=$x --chmod=$y a /", ["x", "y"]),
    ("COPY <<E /\n$x\nE", ["x"]),
    ("COPY <<'E' /\n$x\nE", []),
    ("RUN echo $x", []),
    ("RUN --mount=type=cache,target=/$x true", ["x"]),
    ("VOLUME $x\nSTOPSIGNAL $y\nWORKDIR /$z", ["x", "y", "z"]),
    ("ARG x=$y", ["y"]),
    ("ARG x=1\nARG y=$x", []),
    ("ONBUILD USER $x", []),
    ("USER $TARGETARCH", ["TARGETARCH"]),
    ("ARG TARGETARCH\nUSER $TARGETARCH", []),
    ("ARG BUILDKIT_SBOM_SCAN_STAGE=1\nUSER $BUILDKIT_SBOM_SCAN_STAGE", []),
]


@pytest.mark.parametrize(("text", "names"), UNDEFINED)
def test_undefined_variables(text: str, names: list[str]) -> None:
    warnings = [w for w in check(parse(f"FROM scratch\n{text}")) if w.rule == "UndefinedVar"]
    told = [w.message.split("'")[1][1:] for w in warnings]
    assert sorted(told) == names


def test_what_earlier_stages_define_is_inherited() -> None:
    assert fired("FROM scratch AS a\nENV x=1\nARG y\nFROM a\nUSER $x$y$z") == [("UndefinedVar", 5)]
    assert fired("ARG x\nFROM scratch\nUSER $x") == [("UndefinedVar", 3)]


def test_an_unknown_base_may_define_anything_but_a_slip_is_told() -> None:
    assert fired("FROM a\nUSER $JAVA_HOME") == []
    (warning,) = check(parse("FROM a\nARG VERSION\nUSER $VERSON"))
    assert warning.message == "Usage of undefined variable '$VERSON' (did you mean $VERSION?)"
    assert fired("FROM a\nENV x=$PTAH") == [("UndefinedVar", 2)]


def test_a_known_base_defines_what_it_does() -> None:
    known = Given(bases=bases({"JAVA_HOME": "/j"}))
    assert fired("FROM a\nUSER $JAVA_HOME$JAVA", known) == [("UndefinedVar", 2)]


def test_the_platform_of_a_base() -> None:
    given = Given(platform=ARM, bases=bases(platform=AMD))
    (warning,) = check(parse("FROM a AS x\nFROM x"), given)
    assert (warning.rule, warning.span.line, warning.span.column) == ("InvalidBaseImagePlatform", 1, 6)
    assert warning.message == (
        'Base image a was pulled with platform "linux/amd64", expected "linux/arm64" for current build'
    )
    assert fired("FROM --platform=$P a", Given(bases=bases(platform=AMD)))[0][0] == "UndefinedArgInFrom"
    assert fired("FROM a", Given(platform=AMD, bases=bases(platform=AMD))) == []


IGNORED = [
    ("COPY secret /", "secret", True),
    ("COPY dir/secret /", "dir", True),
    ("ADD ./a/../secret /", "secret", True),
    ("ARG n=secret\nCOPY $n /", "secret", True),
    ("COPY . /", "*", True),
    ("ADD / /", "**/*", True),
    ("COPY . /", "*\n!kept", False),
    ("COPY . /", "a*", False),
    ("COPY dir /", "dir\n!dir/kept", False),
    ("COPY kept /", "*\n!kept", False),
    ("COPY --from=x secret /", "secret", False),
    ("ADD https://example.com/secret /", "**/secret", False),
    ("COPY <<secret /\nsecret", "secret", False),
]


@pytest.mark.parametrize(("text", "ignore", "told"), IGNORED)
def test_copies_of_ignored_files(text: str, ignore: str, told: bool) -> None:
    asked = f"# check=experimental=CopyIgnoredFile\nFROM scratch\n{text}"
    assert ("CopyIgnoredFile" in [rule for rule, _ in fired(asked, ignore=ignore)]) is told
    assert "CopyIgnoredFile" not in [rule for rule, _ in fired(f"FROM scratch\n{text}", ignore=ignore)]


def test_a_shell_of_the_base_image_is_meant() -> None:
    text = "FROM a AS x\nCMD x\nFROM x\nENTRYPOINT y\nFROM b\nCMD z"
    shells = Given(bases=lambda reference, platform: BaseFacts(shell=reference == "a"))
    assert [line for rule, line in fired(text, shells) if rule == "JSONArgsRecommended"] == [6]
    assert [line for rule, line in fired(text) if rule == "JSONArgsRecommended"] == [2, 4, 6]


def test_a_relative_workdir_out_of_a_variable() -> None:
    assert fired("FROM a\nARG d=app\nWORKDIR $d\nWORKDIR b") == [("WorkdirRelativePath", 3)]
    assert fired("FROM a AS x\nARG d=/app\nWORKDIR $d\nFROM x\nARG e=y\nWORKDIR $e") == []


def test_only_the_stages_of_the_target_are_looked_at() -> None:
    text = "FROM scratch AS a\nUSER $x\nFROM scratch AS b\nUSER $y\nFROM scratch AS c\nCOPY --from=b / /"
    assert fired(text) == [("UndefinedVar", 2), ("UndefinedVar", 4)]
    assert fired(text, Given(target="C")) == [("UndefinedVar", 4)]
    assert fired(text, Given(target="0")) == [("UndefinedVar", 2)]
    assert fired(text, Given(target="nothing")) == []


def test_skips_hold_for_these_checks_too() -> None:
    assert fired("# check=skip=UndefinedVar\nFROM scratch\nUSER $x") == []
    assert fired("FROM scratch\n# check=skip=UndefinedVar\nUSER $x\nUSER $x") == [("UndefinedVar", 4)]


def test_a_build_arg_can_override_the_directive_but_not_what_stands_above_instructions() -> None:
    text = "# check=skip=all;error=true\nFROM a as b\n# check=skip=all\nMAINTAINER x\nMAINTAINER y"
    override = Given(build_args={"BUILDKIT_DOCKERFILE_CHECK": "skip=FromAsCasing"})
    assert fired(text) == []
    assert fired(text, override) == [("MaintainerDeprecated", 5)]
    assert policy_of(parse(text), Given()).error and not policy_of(parse(text), override).error
    with pytest.raises(InvalidInput):
        fired(text, Given(build_args={"BUILDKIT_DOCKERFILE_CHECK": "x"}))


def test_error_true_makes_them_an_error() -> None:
    text = "# check=error=true\nFROM a as b\nMAINTAINER x"
    buildfile = parse(text)
    error = failure(buildfile.checks, check(buildfile))
    assert error is not None and error.where is not None
    assert (error.message, error.where.line) == (
        "lint violation found for rules: FromAsCasing, MaintainerDeprecated", 2,
    )  # fmt: skip
    assert failure(buildfile.checks, []) is None
    assert failure(parse("FROM a as b").checks, check(parse("FROM a as b"))) is None


STOPPED = [
    ("ARG x\nFROM $x", "base name ($x) should not be blank", 2),
    ("FROM a\nENV ${x:?no}=1", "x: no", 2),
    ("FROM a\nENV $x=1", "the name $x expands to nothing", 2),
    ("FROM a\nLABEL ${x}=1", "the name ${x} expands to nothing", 2),
    ("FROM --platform=$x a", "platform", 1),
    ("ARG x=${y:?no}\nFROM a", "y: no", 1),
    ("FROM a\nRUN --mount=type=cache true", "target", 2),
]


@pytest.mark.parametrize(("text", "message", "line"), STOPPED)
def test_what_stops_a_build_before_it_begins(text: str, message: str, line: int) -> None:
    error = first_error(parse(text))
    assert error is not None and error.where is not None
    assert message in error.message and error.where.line == line


def test_an_unknown_target_is_told_with_what_was_meant() -> None:
    error = first_error(parse("FROM a AS build"), Given(target="biuld"))
    assert isinstance(error, NotFound) and error.hint == "did you mean build?"


def test_every_rule_has_a_page() -> None:
    assert len(RULES) == 22
    assert RULES["JSONArgsRecommended"].url.endswith("/json-args-recommended/")
    assert [name for name, rule in RULES.items() if rule.experimental] == [
        "CopyIgnoredFile", "InvalidDefinitionDescription"
    ]  # fmt: skip


def test_args_know_what_they_are_made_of() -> None:
    (facts,) = evaluate(parse("ARG a=1 b=$a c=$b\nARG c=${c}2\nFROM x:$c"), Given(build_args={"a": "7"}))
    assert (facts.image, facts.args["c"].value, facts.args["c"].needs) == ("x:72", "72", {"b"})


@given(texts)
@settings(max_examples=150)
def test_checking_never_fails_and_contains_what_parsing_found(text: str) -> None:
    """For whatever parses: parse(x).warnings ⊆ check(parse(x)), in the order of places."""
    try:
        buildfile = parse(text)
    except InvalidInput:
        return
    warnings = check(buildfile, ignore=IgnoreRules.parse("*"))
    assert set(buildfile.warnings) <= set(warnings)
    assert [w.span.line for w in warnings] == sorted(w.span.line for w in warnings)
    error = first_error(buildfile)
    assert error is None or error.where is not None
