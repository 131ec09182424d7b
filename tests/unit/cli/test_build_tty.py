"""The display of a build on a terminal: it fits, whatever the terminal's size and whatever commands write."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from buildtool.cli.build_tty import TtyDisplay, plain_line


def display(width: int, height: int, **options: Any) -> tuple[TtyDisplay, Console, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=height, highlight=False, **options)
    return TtyDisplay(console), console, out


def start(shown: TtyDisplay, count: int, name: str = "[stage 1/2] RUN make all install check") -> None:
    for index in range(1, count + 1):
        shown.show({"event": "step_started", "index": index, "total": count, "name": name})


def drawn(shown: TtyDisplay, console: Console) -> list[str]:
    with console.capture() as capture:
        console.print(shown.draw())
    text = "".join(capture.get())
    return [plain_line(line) for line in text.split("\n")[:-1]]


@pytest.mark.parametrize(("width", "height"), [(10, 3), (20, 5), (40, 10), (200, 50)])
@pytest.mark.parametrize("steps", [1, 3, 30])
def test_what_is_redrawn_fits_the_terminal(width: int, height: int, steps: int) -> None:
    shown, console, _ = display(width, height)
    start(shown, steps)
    for index in range(1, steps + 1):
        shown.show(
            {"event": "step_output", "index": index, "stream": "stdout", "data": "wide 漢字 line " * 30 + "\nx\n"}
        )
        shown.show({"event": "base_pull", "message": f"{index:012}: Downloading", "current": 1, "total": 2})
    lines = drawn(shown, console)
    shown.finish(None)
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)


def test_each_step_shows_its_time_its_bytes_and_its_last_lines() -> None:
    shown, console, _ = display(80, 24)
    start(shown, 1)
    data = "".join(f"line {n}\n" for n in range(20)) + "half"
    shown.show({"event": "step_output", "index": 1, "stream": "stderr", "data": data})
    lines = drawn(shown, console)
    shown.finish(None)
    assert "0.0s 154B" in lines[1]
    assert [line.strip() for line in lines[2:]] == [*(f"line {n}" for n in range(15, 20)), "half"]


def test_downloads_show_how_far_they_are_until_they_end() -> None:
    shown, console, out = display(60, 24)
    start(shown, 1)
    for current in (1_500_000, 2_000_000):
        message = "0123456789ab: Downloading"
        shown.show({"event": "base_pull", "message": message, "current": current, "total": 3_000_000})
    assert drawn(shown, console)[1].strip() == "0123456789ab: Downloading 2MB / 3MB"
    shown.show({"event": "base_pull", "message": "0123456789ab: Download complete"})
    assert "MB" not in "".join(drawn(shown, console))
    shown.finish(None)
    assert "Download complete" in out.getvalue()


def test_escapes_and_carriage_returns_of_commands_are_resolved() -> None:
    assert plain_line("10%\r50%\r100%\r") == "100%"
    assert plain_line("\x1b[31mred\x1b[0m \x1b]0;title\x07done\x08") == "red done"
    assert plain_line("a\tb") == "a   b"


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown, _, out = display(80, 24)
    start(shown, 1)
    shown.show({"event": "step_done", "index": 1, "seconds": 1.0, "image_id_short": ""})
    shown.finish({"image_id": "sha256:1", "steps": [], "tags": []})
    assert "\x1b[32m" not in out.getvalue()
    assert "RUN make" in out.getvalue()


@pytest.mark.parametrize("width", [20, 40])
def test_a_whole_build_fits_a_narrow_terminal_without_colour(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """No line that is printed is cut by the terminal, and with NO_COLOR none has a colour."""
    monkeypatch.setenv("NO_COLOR", "1")
    shown, _, out = display(width, 12)
    start(shown, 3, "[builder 2/4] RUN make all install check CFLAGS=-O2")
    events: list[dict[str, Any]] = [
        {"event": "base_pull", "message": "0123456789ab: Downloading", "current": 1, "total": 2_000_000},
        {"event": "base_pull", "message": "docker.io/library/debian:bookworm: Pulling from library/debian"},
        {"event": "step_output", "index": 1, "stream": "stdout", "data": "\x1b[31ma long line 漢字 " * 9 + "\n"},
        {"event": "warning", "message": "a warning of many words " * 4, "span": {"file": "Buildfile", "line": 3}},
        {"event": "step_cached", "index": 2},
        {"event": "step_done", "index": 1, "seconds": 12345.6, "image_id_short": ""},
        {"event": "step_output", "index": 3, "stream": "stderr", "data": "cc: error: " * 9},
        {"event": "step_failed", "index": 3, "message": "exit code: 1"},
    ]
    for event in events:
        shown.show(event)
    tags = ["registry.example.com/a/b:1"]
    shown.finish({"image_id": "sha256:" + "0" * 64, "steps": [{"cached": True}], "tags": tags})
    text = out.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*(3[0-9]|4[0-9]|9[0-7])m", text)
    lines = [plain_line(line) for line in text.split("\n")]
    assert [line for line in lines if cell_len(line) > width] == []
    assert "CACHED" in text and "12345.6s" in text and "ERROR" in text and "sha256:0" in text


def test_a_failed_step_shows_all_its_last_lines() -> None:
    shown, _, out = display(80, 24, no_color=True)
    start(shown, 1)
    shown.show({"event": "step_output", "index": 1, "stream": "stderr", "data": "one\ntwo\nunfinished"})
    shown.show({"event": "step_failed", "index": 1, "message": "no"})
    shown.finish(None)
    assert "ERROR" in out.getvalue()
    assert "unfinished" in out.getvalue()
