"""What scripts rely on: the exit codes of `build`, and the lines of `--progress rawjson` (docs/cli.md)."""

from __future__ import annotations

import base64
import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
_FIELDS = {
    "vertexes": {"digest", "name", "started", "completed", "cached", "error"},
    "logs": {"vertex", "stream", "data", "timestamp"},
    "statuses": {"id", "current", "total", "timestamp"},
    "warnings": {"level", "short", "sourceInfo", "range"},
}


def built(cli: Program, folder: Path, text: str, *flags: str) -> Any:
    (folder / "Buildfile").write_text(text)
    return cli("build", "--network=none", *flags, str(folder), check=False)


@pytest.mark.parametrize(
    ("text", "flags", "code"),
    [
        ("FROM scratch\nLABEL a=b\n", (), 0),
        ("FROM busybox\nRUN exit 7\n", (), 1),
        ("FROM scratch\nCOPY nothing /\n", (), 1),
        ("NOTHING\n", (), 1),
        ("FROM scratch\n", ("--push", "-t", "127.0.0.1:1/a:1"), 1),
        ("FROM scratch\n", ("--no-such-flag",), 125),
        ("FROM scratch\n", ("--output=type=nothing",), 1),
        ("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /a\n", ("--verify-reproducible",), 1),
        ("FROM scratch\nENV A $B\n", ("--check",), 1),
    ],
)
def test_exit_codes(
    cli: Program, busybox_image: str, tmp_path: Path, text: str, flags: tuple[str, ...], code: int
) -> None:
    done = built(cli, tmp_path, text, *flags)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if "--push" in flags:
        cli("rmi", "127.0.0.1:1/a:1")


def test_an_interrupted_build(
    cli: Program, busybox_image: str, background: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\nRUN --network=none echo {tmp_path}; sleep 1000\n")
    process = background(cli, "build", "--progress=plain", str(tmp_path))
    seen = b""
    while b" sleep 1000" not in seen:
        seen += process.stderr.read(1)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_every_line_of_rawjson_has_buildkits_shape(
    cli: Program, busybox_image: str, tmp_path: Path, unique: str
) -> None:
    """A step from the cache, one that is executed, one that fails; output on both streams; a warning."""
    begin = f"FROM {busybox_image}\nRUN echo {unique} > /a\n"
    assert built(cli, tmp_path, begin).returncode == 0
    text = begin + "ENV A $NOTHING\nRUN echo out && echo äöü >&2\nRUN exit 3\n"
    done = built(cli, tmp_path, text, "--progress=rawjson")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _FIELDS}
    for line in lines:
        (kind,) = line
        for each in line[kind]:
            assert set(each) <= _FIELDS[kind]
            for field in {"started", "completed", "timestamp"} & set(each):
                assert _STAMP.fullmatch(each[field])
            found[kind].append(each)
    last = {each["digest"]: each for each in found["vertexes"]}
    assert [each.get("cached", False) for each in last.values()] == [True, True, False, False]
    assert all(
        each["digest"].startswith("sha256:") and each["started"] and each["completed"] for each in last.values()
    )
    failed = [each for each in last.values() if "error" in each]
    assert [each["name"] for each in failed] == [list(last.values())[-1]["name"]]
    logs = {each["stream"]: base64.b64decode(each["data"]).decode() for each in found["logs"]}
    assert logs == {1: "out\n", 2: "äöü\n"} and {each["vertex"] for each in found["logs"]} <= set(last)
    short = [base64.b64decode(each["short"]).decode() for each in found["warnings"]]
    assert any("NOTHING" in each for each in short)
    warning = next(each for each in found["warnings"] if "sourceInfo" in each)
    assert warning["sourceInfo"]["filename"].endswith("Buildfile") and warning["range"][0]["start"]["line"] == 3
    assert done.stderr.splitlines()[len(lines)].startswith("ERROR: ")


def test_rawjson_ends_with_the_image(cli: Program, tmp_path: Path) -> None:
    done = built(cli, tmp_path, "FROM scratch\nLABEL a=b\n", "--progress=rawjson", f"--iidfile={tmp_path}/id")
    last = json.loads(done.stderr.splitlines()[-1])["vertexes"][0]
    assert last["name"] == "exporting to image" and last["digest"] == (tmp_path / "id").read_text()
