"""The tests that docs/networks.md and docs/volumes.md name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench.compare_networks import DIFFERENT

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("page", ["networks", "volumes"])
def test_every_test_that_is_named_exists(page: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / f"docs/{page}.md").read_text()))
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 10 and named <= defined


def test_every_answer_that_differs_from_dockerds_is_told() -> None:
    text = (ROOT / "docs/networks.md").read_text()
    assert [line for line, why in DIFFERENT.items() if f"| `docker {line}` | {why} |" not in text] == []
