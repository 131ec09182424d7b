"""docs/stacks-keys.md names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[3]
FOLDERS = ("tests/unit/stacks", "tests/e2e/stacks", "tests/unit/cli")
FILES = {
    "files": 0, "forms": 0, "merge": 0, "inter": "interpolation", "scalars": 0, "plan": 0, "images": 0,
    "cond": "conditions", "mem": "memory", "k8s": "kubernetes", "art": "artifact", "watchu": "watching",
    "src": "sources", "up": 1, "cont": "containers", "keys": 1, "out": "output", "verbs": 1, "fl": "flags",
    "build": "building", "watch": "watching", "else": "elsewhere", "asks": 1, "dc": "docker_compose", "dd": "dockerd",
    "mon": "monitoring", "conf": "stack_config", "flags": "stack_flags", "sb": "stack_build",
}  # fmt: skip
OF_E2E = ("up", "cont", "keys", "out", "verbs", "fl", "build", "watch", "else", "asks", "dc", "dd", "mon")
OF_CLI = ("conf", "flags", "sb")


def source(short: str) -> str:
    folder = FOLDERS[1 if short in OF_E2E else 2 if short in OF_CLI else 0]
    name = FILES[short]
    return (PROJECT / folder / f"test_{name if isinstance(name, str) else short}.py").read_text()


def test_every_test_that_the_table_names_is_there() -> None:
    rows = [line for line in (PROJECT / "docs/stacks-keys.md").read_text().splitlines() if line[:1] == "|"]
    named = 0
    for line in rows:
        found = ""
        for short, name in re.findall(r"(?:\b(\w+) )?`(test_\w+)`", line):
            found = short if short in FILES else found
            assert f"def {name}(" in source(found), (found, name)
            named += 1
    assert named > 150
