"""Tables, templates and JSON lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from buildtool.cli.listing import print_rows, print_table

HEADERS = {"ID": "IMAGE ID", "Name": "NAME"}
ROWS: list[dict[str, Any]] = [
    {"ID": "0123456789ab", "Name": "a", "Label": {"role": "web"}.get},
    {"ID": "1", "Name": "bb", "Label": {"role": "db"}.get},
]


def printed(capsys: pytest.CaptureFixture[str], form: str, **more: Any) -> str:
    print_rows(ROWS, form, ("ID", "Name"), HEADERS, **more)
    return capsys.readouterr().out


def test_the_default_table(capsys: pytest.CaptureFixture[str]) -> None:
    expected = "IMAGE ID       NAME\n0123456789ab   a\n1              bb\n"
    assert printed(capsys, "") == expected
    assert printed(capsys, "table") == expected


def test_narrow_columns_are_ten_wide(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([["A", "B"], ["1", "2"]])
    assert capsys.readouterr().out == "A         B\n1         2\n"


def test_ids_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "", quiet="ID") == "0123456789ab\n1\n"


def test_templates(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, '{{.Name}}\\t{{.Label "role"}}') == "a\tweb\nbb\tdb\n"
    assert printed(capsys, "table {{.Name}}\\t{{.ID}}") == (
        "NAME      IMAGE ID\na         0123456789ab\nbb        1\n"
    )


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in printed(capsys, "json").splitlines()]
    assert lines == [{"ID": "0123456789ab", "Name": "a"}, {"ID": "1", "Name": "bb"}]
