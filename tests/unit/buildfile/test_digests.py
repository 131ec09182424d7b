"""What a few hundred files are planned to, recorded: a digest that changes means that images or cache keys change.

When that is meant, record anew: `python -m tests.unit.buildfile.test_digests`, and say so in the commit.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildtool.buildfile import parse
from buildtool.buildfile.analysis import check, first_error
from buildtool.buildfile.evaluation import BaseFacts, Given
from buildtool.buildfile.fixes import fix_text
from buildtool.buildfile.formatter import format_text
from tests.unit.buildfile.realistic import FILES, KINDS
from tests.unit.buildfile.test_shapes import AMD, OPTIONS, SHAPES, digest, plan_of

RECORD = Path(__file__).with_name("digests.json")
ALL = {**SHAPES, **FILES}


def computed() -> dict[str, str]:
    return {name: digest(text)[:16] for name, text in sorted(ALL.items())}


def test_every_file_is_planned_to_what_was_recorded() -> None:
    recorded = json.loads(RECORD.read_text())
    now = computed()
    assert len(now) > 400
    assert {name: value for name, value in now.items() if recorded.get(name) != value} == {}
    assert recorded.keys() == now.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_habits_of_writing_change_nothing_that_is_built(kind: str) -> None:
    for name, text in FILES.items():
        if not name.startswith(f"{kind}, "):
            continue
        plain = FILES[f"{name.rpartition(', ')[0]}, plain"]
        if "<<" not in text or not name.endswith("dos"):  # carriage returns stay in heredocs
            assert digest(text) == digest(plain), name
        assert digest(format_text(text)) == digest(text), name
        assert first_error(parse(text)) is None, name


@pytest.mark.parametrize("kind", KINDS)
def test_mending_leaves_nothing_that_can_be_mended(kind: str) -> None:
    for name, text in FILES.items():
        if name.startswith(f"{kind}, "):
            mended = fix_text(text).text
            assert first_error(parse(mended)) is None, name
            assert fix_text(mended).text == mended, name
            assert {w.rule for w in check(parse(mended))} <= {w.rule for w in check(parse(text))}, name


def test_builds_find_what_the_checks_find() -> None:
    """What planning says of variables is what `check` says when it knows the same of the bases."""
    for name, text in ALL.items():
        buildfile = parse(text)
        planned = plan_of(buildfile)
        given = Given(
            OPTIONS.build_args, str(len(buildfile.stages) - 1), OPTIONS.platform,
            lambda reference, platform: BaseFacts({"PATH": "/bin", "BASE": reference}, AMD),
        )  # fmt: skip
        wanted = {w for w in check(buildfile, given) if w.rule == "UndefinedVar"}
        assert {w for w in planned.warnings if w.rule == "UndefinedVar" and w.span.file != "<onbuild>"} == wanted, (
            name
        )


if __name__ == "__main__":
    RECORD.write_text(json.dumps(computed(), indent=0) + "\n")
