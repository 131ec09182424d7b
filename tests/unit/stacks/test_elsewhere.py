"""Services of other projects, and containers of other stacks with the same name."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildtool.stacks import labels
from buildtool.stacks.elsewhere import label, needs
from buildtool.stacks.engine import Container
from buildtool.stacks.orphans import warnings
from buildtool.stacks.tree import StackError
from tests.unit.stacks.conftest import load_texts


def test_needs_are_listed_or_mapped() -> None:
    text = "services: {s: {image: x, x-project: {a: [b], c: {d: {condition: service_healthy, required: false}}}}}"
    service = load_texts(text).services["s"]
    assert [(str(need), need.condition, need.required) for need in needs(service)] == [
        ("a/b", "service_started", True),
        ("c/d", "service_healthy", False),
    ]
    assert label(service) == "a/b,c/d"
    assert label(load_texts("services: {s: {image: x}}").services["s"]) == ""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("infra", "must be a mapping of projects"),
        ("{infra: db}", "infra must be a list or a mapping"),
        ("{infra: [1]}", "infra must list names"),
        ("{infra: {db: {conditon: x}}}", "infra.db may have condition and required"),
        ("{infra: {db: {condition: healthy}}}", "infra.db.condition: 'healthy' is not a choice"),
    ],
)
def test_what_is_no_need_is_refused(value: str, message: str) -> None:
    with pytest.raises(StackError, match=r"services\.s\.x-project: " + message):
        load_texts(f"services: {{s: {{image: x, x-project: {value}}}}}")


def orphan(files: str) -> Container:
    return Container({"Id": "1" * 64, "Names": ["/p-old-1"], "Labels": {labels.CONFIG_FILES: files}})


def test_containers_of_another_file_that_is_there_are_another_stacks(tmp_path: Path) -> None:
    project = load_texts("name: p\nservices: {s: {image: x}}")
    (tmp_path / "other.yaml").write_text("")
    (told,) = warnings(project, [orphan(f"{tmp_path}/other.yaml")])
    assert "another stack" in told and "other.yaml" in told and "--project-name" in told
    for files in ("", f"{tmp_path}/gone.yaml", f"{tmp_path}/other.yaml,/p/compose.yaml"):
        (told,) = warnings(project, [orphan(files)])
        assert told.startswith("Found orphan containers ([p-old-1])")
