"""How a build goes, on a terminal: finished steps scroll by, running ones are redrawn below with their last lines.

What is redrawn never takes more lines or columns than the terminal has. Escape sequences of the commands are not
passed on. rich heeds NO_COLOR and TERM.
"""

from __future__ import annotations

import re
import time

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from buildtool.cli.human import decimal_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_SHOWN_LINES = 6
_SHOWN_TRANSFERS = 4
_KEPT_LINES = 200
_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # operating system commands: titles, links
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|\x1b[@-_]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)


class _Step:
    """A step that runs."""

    __slots__ = ("began", "bytes", "lines", "name", "rest")

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = time.monotonic()
        self.bytes = 0
        self.lines: list[str] = []
        self.rest = ""


class TtyDisplay:
    """Draws on stderr, or on the console it is given."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._running: dict[int, _Step] = {}
        self._total = 0
        self._ended = 0
        self._transfers: dict[str, tuple[str, int, int]] = {}
        self._begin = time.monotonic()
        self._live = self._make_live()
        self._live.start()

    def show(self, event: Mapping[str, Any]) -> None:
        """Draw what the event says."""
        kind, index = event["event"], event.get("index", 0)
        if kind == "step_started":
            self._running[index] = _Step(event["name"])
            self._total = event["total"]
        elif kind == "step_output":
            self._output(index, event["data"])
        elif kind == "step_cached":
            self._end(index, "CACHED", "blue")
        elif kind == "step_done":
            self._end(index, f"{event['seconds']:.1f}s", "green")
        elif kind == "step_failed":
            step = self._running.get(index)
            self._end(index, "ERROR", "red")
            for line in [*step.lines, *filter(None, [plain_line(step.rest)])] if step else ():
                self._console.print(Text(f"   {line}", style="dim"))
        elif kind == "base_pull" and event.get("total"):
            layer, _, words = event["message"].partition(": ")
            self._transfers[layer] = (words, event["current"], event["total"])
        elif kind == "base_pull":
            self._transfers.pop(event["message"].partition(": ")[0], None)
            self._console.print(_one_line(event["message"], "dim"))
        elif kind == "warning":
            span = event.get("span")
            place = f"{span['file']}:{span['line']}: " if span else ""
            self._console.print(Text(f"WARNING: {place}{event['message']}", style="yellow"))

    def _make_live(self) -> Live:
        return Live(console=self._console, refresh_per_second=10, transient=True, get_renderable=self.draw)

    def pause(self) -> None:
        """Leave the terminal to somebody else."""
        self._live.stop()

    def resume(self) -> None:
        """Have it again."""
        self._live = self._make_live()
        self._live.start()

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Stop drawing and print the end."""
        self._live.stop()
        if result is None:
            return
        seconds = time.monotonic() - self._begin
        cached = sum(bool(step["cached"]) for step in result["steps"])
        self._console.print(
            Text(f"Built {result['image_id']} in {seconds:.1f}s ({cached} of {len(result['steps'])} steps cached)")
        )
        for tag in result["tags"]:
            self._console.print(Text(f"  as {tag}"))

    def _output(self, index: int, data: str) -> None:
        step = self._running.get(index)
        if step is None:
            return
        step.bytes += len(data)
        *lines, step.rest = (step.rest + data).split("\n")
        step.lines = [*step.lines, *map(plain_line, lines)][-_KEPT_LINES:]
        step.rest = step.rest[-_KEPT_LINES * 100 :]

    def _end(self, index: int, words: str, style: str) -> None:
        step = self._running.pop(index, None)
        self._ended += 1
        room = self._console.width - len(words) - 1
        line = _one_line(f"#{index} {step.name if step else ''}", "", room)
        line.append(f" {words}", style=style)
        self._console.print(line)

    def draw(self) -> Group:
        """The running steps, each with its time, what it has written and its last lines, as far as there is room."""
        now = time.monotonic()
        room = max(self._console.height - 2, 1)
        ended = f"[+] {now - self._begin:.1f}s  {self._ended}/{self._total or '?'} steps"
        parts = [_one_line(ended, "bold", self._console.width)]
        moving = list(self._transfers.items())[: max(0, min(_SHOWN_TRANSFERS, room - 2))]
        for layer, (words, current, total) in moving:
            amounts = f"{decimal_size(current, 3)} / {decimal_size(total, 3)}"
            parts.append(_one_line(f"   {layer}: {words} {amounts}", "cyan", self._console.width))
        room -= len(moving)
        running = sorted(self._running.items())
        hidden = len(running) - room
        if hidden > 0:
            running = running[: room - 1]
        each = min(_SHOWN_LINES, (room - len(running)) // max(len(running), 1))
        for index, step in running:
            amount = f" {decimal_size(step.bytes, 3)}" if step.bytes else ""
            words = f" {now - step.began:.1f}s{amount}"
            head = _one_line(f"#{index} {step.name}", "", self._console.width - len(words))
            head.append(words, style="cyan")
            parts.append(head)
            shown = [*step.lines, *filter(None, [plain_line(step.rest)])]
            parts += [_one_line(f"   {line}", "dim", self._console.width) for line in shown[-each:] if each > 0]
        if hidden > 0:
            parts.append(_one_line(f"   … and {hidden + 1} more", "dim", self._console.width))
        return Group(*parts)


def plain_line(text: str) -> str:
    """A line of output as a terminal would leave it: what stands after the last carriage return, no escapes."""
    parts = [part for part in text.rstrip("\r").split("\r") if part]
    return _ESCAPES.sub("", parts[-1]).expandtabs(4) if parts else ""


def _one_line(text: str, style: str, width: int = 0) -> Text:
    """Text that is cut off where the line ends."""
    line = Text(" ".join(text.split("\n")), style=style, overflow="ellipsis", no_wrap=True)
    if width > 0:
        line.truncate(width, overflow="ellipsis")
    return line
