"""What a few hundred files are planned to, recorded: a digest that changes means that images or cache keys change.

When that is meant, record anew: `python -m tests.unit.buildfile.test_digests`, and say so in the commit.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildtool.buildfile import parse
from buildtool.buildfile.analysis import check, first_error
from buildtool.buildfile.fixes import fix_text
from buildtool.buildfile.formatter import format_text
from tests.unit.buildfile.realistic import FILES, KINDS
from tests.unit.buildfile.test_shapes import SHAPES, digest

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


if __name__ == "__main__":
    RECORD.write_text(json.dumps(computed(), indent=0) + "\n")
