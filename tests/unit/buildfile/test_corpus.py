"""Whole Buildfiles of the kinds people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildtool.buildfile import expand_word, parse
from buildtool.buildfile.instructions import Copy, Env, Run, Workdir
from tests.unit.buildfile.helpers import texts

CORPUS = Path(__file__).parent / "corpus"

# file -> (stage name, instructions) of each stage, and the checks that fire, each with its line
EXPECTED: dict[str, tuple[list[tuple[str | None, int]], list[tuple[str, int]]]] = {
    "python-web": ([("base", 3), ("wheels", 3), (None, 10)], [("NoEmptyContinuation", 15)]),
    "node": ([("deps", 3), ("build", 4), (None, 7)], []),
    "go": ([("build", 5), ("test", 1), (None, 4)], []),
    "heredocs": ([(None, 8)], []),
    "windows": ([(None, 6)], []),
    "legacy": (
        [(None, 14)],
        [
            ("MaintainerDeprecated", 3),
            ("LegacyKeyValueFormat", 5),
            ("LegacyKeyValueFormat", 6),
            ("WorkdirRelativePath", 16),
            ("JSONArgsRecommended", 17),
        ],
    ),
    "everything": (
        [("tools", 13), ("final", 9)],
        [("StageNameCasing", 26), ("ExposeProtoCasing", 36)],
    ),
}


def read(name: str) -> str:
    return (CORPUS / f"{name}.Buildfile").read_bytes().decode()


def test_every_file_is_expected() -> None:
    assert {path.stem for path in CORPUS.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_stages_and_checks(name: str) -> None:
    buildfile = parse(read(name), name)
    stages, warnings = EXPECTED[name]
    assert [(stage.name, len(stage.instructions)) for stage in buildfile.stages] == stages
    assert [(warning.rule, warning.span.line) for warning in buildfile.warnings] == warnings


@pytest.mark.parametrize("name", EXPECTED)
def test_every_instruction_stands_where_its_keyword_does(name: str) -> None:
    for stage in parse(read(name), name).stages:
        for instruction in (stage.from_, *stage.instructions):
            span = instruction.span
            written = span.line_text[span.column - 1 : span.column - 1 + span.length]
            assert written.upper() == instruction.keyword


def test_the_python_service_in_detail() -> None:
    base, wheels, final = parse(read("python-web")).stages
    assert base.from_.description == "has the interpreter and the account everything runs as"
    env = base.instructions[0]
    assert isinstance(env, Env)
    assert [(k.text, k.span.line) for k, _ in env.pairs] == [
        ("PYTHONUNBUFFERED", 7), ("PYTHONDONTWRITEBYTECODE", 8), ("PATH", 10),
    ]  # fmt: skip
    run = wheels.instructions[2]
    assert isinstance(run, Run) and len(run.mounts) == 2
    copy = final.instructions[2]
    assert isinstance(copy, Copy) and copy.from_ and copy.from_.text == "wheels"


def test_the_heredocs_in_detail() -> None:
    instructions = parse(read("heredocs")).stages[0].instructions
    first, python, two = instructions[1], instructions[2], instructions[3]
    assert isinstance(first, Run) and first.script and first.script.text.count("\n") == 4
    assert isinstance(python, Run) and python.script and python.script.file_name == "PYTHON"
    assert isinstance(two, Run) and two.script
    assert two.script.text.endswith("> /b\nfirst $HOME\nA\nsecond $HOME\nB")
    copy = instructions[4]
    assert isinstance(copy, Copy)
    assert [(h.name, h.expand) for h in copy.heredocs] == [("nginx.conf", True), ("empty", False)]
    assert copy.heredocs[0].content.startswith("server {\nlisten 80;")
    assert copy.heredocs[1].content == ""


def test_the_windows_file_in_detail() -> None:
    instructions = parse(read("windows")).stages[0].instructions
    env, workdir, run, copy = instructions[1], instructions[2], instructions[3], instructions[4]
    assert isinstance(env, Env)
    assert [expand_word(value, {}) for _, value in env.pairs] == ["C:\\tools", "C:\\data dir"]
    assert isinstance(workdir, Workdir) and expand_word(workdir.path, {}) == "C:\\app"
    assert isinstance(run, Run) and run.command.shell
    assert run.command.shell.endswith('Write-Host "done`n"') and "comment" not in run.command.shell
    assert isinstance(copy, Copy) and texts(copy.sources) == ["src\\"]
