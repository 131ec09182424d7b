"""Every Buildfile in docs/language.md is one, and every rule, flag and key stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildtool.buildfile import expand_word, parse
from buildtool.buildfile.fixes import FIXABLE, fix_text
from buildtool.buildfile.flags import FLAGS
from buildtool.buildfile.formatter import format_text
from buildtool.buildfile.instructions import Arg, Env
from buildtool.buildfile.mounts import ALIASES, KEYS
from buildtool.buildfile.outline import outline, print_outline
from buildtool.buildfile.parser import KEYWORDS
from buildtool.buildfile.rules import RULES
from buildtool.buildfile.template import render
from tests.unit.buildfile.helpers import refused

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "language.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```dockerfile\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_parse_without_warnings(example: str) -> None:
    assert parse(example).warnings == ()


def test_the_expansion_example_gives_what_it_seems_to() -> None:
    (example,) = [example for example in EXAMPLES if "dashed" in example]
    env: dict[str, str] = {}
    for instruction in parse(example).stages[0].instructions:
        assert isinstance(instruction, Arg | Env)
        snapshot = dict(env)
        env.update((key.text, expand_word(value, snapshot)) for key, value in instruction.pairs if value)
    assert env == {
        "file": "/src/app.tar.gz", "name": "app.tar.gz", "base": "app", "dir": "/src", "dashed": "-src-app.tar.gz",
        "home": "/root",
    }  # fmt: skip


def test_the_error_example_is_what_is_printed() -> None:
    error = refused("FROM a\nCOPY --from=a --chwon=1:1 x y", "web/Buildfile")
    assert str(error) in TEXT


def test_nothing_is_left_out() -> None:
    names = {*RULES, *KEYWORDS, *KEYS, *ALIASES, *(f"--{flag}" for flags in FLAGS.values() for flag in flags)}
    assert {name for name in names if name not in TEXT} == set()


def test_the_fixes_are_told() -> None:
    lint = (DOCS / "lint.md").read_text(encoding="utf-8")
    assert {rule for rule in FIXABLE if rule not in lint} == set()
    for given, mended in re.findall(r"`([A-Z]+ [^`]*)` becomes `([^`]*)`", lint):
        assert fix_text(f"FROM a\n{given}").text == f"FROM a\n{mended}"


def test_the_outline_is_what_is_printed() -> None:
    text = (
        "# GO is the toolchain\nARG GO=1.22\nARG IMAGE=golang:$GO\nFROM $IMAGE AS build\n"
        "RUN --mount=type=secret,id=token,required x\n# release is what is shipped\nFROM scratch AS release\n"
        "COPY --from=build / /\n"
    )
    shown = print_outline(outline(parse(text), text))
    assert shown.rstrip("\n") in (DOCS / "lint.md").read_text(encoding="utf-8")


def test_the_template_and_the_include_are_some() -> None:
    included, template = re.findall(r"^```\n(# template.*?|ARG DEBIAN.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    lines = [line.text for line in render(template, "f", {"packages": ["a", "b"]})]
    assert lines == ["FROM debian:bookworm", "RUN apt-get install -y a", "RUN apt-get install -y b"]
    assert format_text(included) == included
