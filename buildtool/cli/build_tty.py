"""How a build goes, on a terminal: finished steps scroll by, running ones are redrawn below with their last lines."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_SHOWN_LINES = 6
_KEPT_LINES = 200


class _Step:
    """A step that runs."""

    __slots__ = ("began", "lines", "name", "rest")

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = time.monotonic()
        self.lines: list[str] = []
        self.rest = ""


class TtyDisplay:
    """Draws on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._running: dict[int, _Step] = {}
        self._total = 0
        self._ended = 0
        self._begin = time.monotonic()
        self._live = Live(console=self._console, refresh_per_second=10, transient=True, get_renderable=self._draw)
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
            for line in step.lines if step else ():
                self._console.print(Text(f"   {line}", style="dim"))
        elif kind == "base_pull":
            self._console.print(Text(event["message"], style="dim"))
        elif kind == "warning":
            self._console.print(Text(f"WARNING: {event['message']}", style="yellow"))

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
        *lines, step.rest = (step.rest + data).split("\n")
        step.lines = [*step.lines, *(line.rsplit("\r", 1)[-1] for line in lines)][-_KEPT_LINES:]

    def _end(self, index: int, words: str, style: str) -> None:
        step = self._running.pop(index, None)
        self._ended += 1
        line = Text(f"#{index} {step.name if step else ''} ", overflow="ellipsis", no_wrap=True)
        line.append(words, style=style)
        self._console.print(line)

    def _draw(self) -> Group:
        now = time.monotonic()
        parts = [Text(f"[+] {now - self._begin:.1f}s  {self._ended}/{self._total or '?'} steps", style="bold")]
        for index, step in sorted(self._running.items()):
            head = Text(f"#{index} {step.name} ", overflow="ellipsis", no_wrap=True)
            head.append(f"{now - step.began:.1f}s", style="cyan")
            parts.append(head)
            shown = [*step.lines, *([step.rest] if step.rest else [])][-_SHOWN_LINES:]
            parts += [Text(f"   {line}", style="dim", overflow="ellipsis", no_wrap=True) for line in shown]
        return Group(*parts)
