"""How a build goes, as lines: BuildKit's plain form, or nothing but what went wrong."""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol, TextIO

    class Display(Protocol):
        """Shows the events of POST /buildtool/v1/build."""

        def show(self, event: Mapping[str, Any]) -> None:
            """One event."""

        def pause(self) -> None:
            """Leave the terminal to somebody else."""

        def resume(self) -> None:
            """Have it again."""

        def finish(self, result: Mapping[str, Any] | None) -> None:
            """The build's result, None when it failed; nothing is shown after it."""


class PlainDisplay:
    """`#5 [2/3] RUN make`, `#5 0.214 its output`, `#5 DONE 0.3s`; concurrent steps take turns, each with its head."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._names: dict[int, str] = {}
        self._began: dict[int, float] = {}
        self._rest: dict[tuple[int, str], str] = {}
        self._current = 0
        self._blank = True
        self._begin = self._now = time.monotonic()

    def show(self, event: Mapping[str, Any]) -> None:
        """Print what the event says. `t` is its time when that is not now (in a log)."""
        kind, index = event["event"], event.get("index", 0)
        self._now = event["t"] + self._begin if "t" in event else time.monotonic()
        if kind == "step_started":
            self._names[index] = event["name"]
            self._began[index] = self._now
        elif kind == "step_output":
            self._output(index, event["stream"], event["data"])
        elif kind == "step_cached":
            self._end(index, "CACHED")
        elif kind == "step_done":
            self._end(index, f"DONE {event['seconds']:.1f}s")
        elif kind == "step_failed":
            self._end(index, f"ERROR: {event['message'].splitlines()[0] if event.get('message') else 'failed'}")
        elif kind == "base_pull" and not event.get("total"):
            self._line(event["message"])
        elif kind == "warning":
            span = event.get("span")
            place = f"{span['file']}:{span['line']}: " if span else ""
            self._line(f"WARNING: {place}{event['message']}")
        self._out.flush()

    def pause(self) -> None:
        """Leave the terminal to somebody else: nothing is drawn there."""

    def resume(self) -> None:
        """Have it again."""

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Print the end: the image and its names."""
        for index, stream in list(self._rest):
            self._flush(index, stream)
        if result is None:
            return
        self._separate()
        number = max(self._names, default=0) + 1
        self._line(f"#{number} exporting to image")
        self._line(f"#{number} writing image {result['image_id']} done")
        for tag in result["tags"]:
            self._line(f"#{number} naming to {tag} done")
        self._line(f"#{number} DONE {time.monotonic() - self._now:.1f}s")
        steps = result["steps"]
        cached = sum(bool(step["cached"]) for step in steps)
        if steps:
            whole = "all cached" if cached == len(steps) else f"{cached} cached"
            self._line(f"\n{len(steps)} steps, {whole}")
        self._out.flush()

    def _output(self, index: int, stream: str, data: str) -> None:
        *lines, rest = (self._rest.pop((index, stream), "") + data).split("\n")
        for line in lines:
            self._output_line(index, line)
        if rest:
            self._rest[index, stream] = rest

    def _output_line(self, index: int, line: str) -> None:
        self._turn(index)
        seconds = self._now - self._began.get(index, self._begin)
        self._line(f"#{index} {seconds:.3f} {line.rstrip(chr(13))}")

    def _flush(self, index: int, stream: str) -> None:
        rest = self._rest.pop((index, stream), "")
        if rest:
            self._output_line(index, rest)

    def _end(self, index: int, words: str) -> None:
        for stream in ("stdout", "stderr"):
            self._flush(index, stream)
        self._turn(index)
        self._line(f"#{index} {words}")
        self._separate()
        self._current = 0

    def _turn(self, index: int) -> None:
        """Head what follows with the step's name, unless it is this step's turn already."""
        if index != self._current:
            self._separate()
            self._line(f"#{index} {self._names.get(index, '')}")
            self._current = index

    def _separate(self) -> None:
        if not self._blank:
            self._out.write("\n")
        self._blank = True

    def _line(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._blank = False


class QuietDisplay:
    """Says nothing, unless the build fails: then all of it."""

    def __init__(self) -> None:
        self._events: list[Mapping[str, Any]] = []

    def show(self, event: Mapping[str, Any]) -> None:
        """Remember the event."""
        self._events.append(event)

    def pause(self) -> None:
        """Leave the terminal to somebody else: nothing is drawn there."""

    def resume(self) -> None:
        """Have it again."""

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Show everything if the build failed."""
        if result is None:
            plain = PlainDisplay()
            for event in self._events:
                plain.show(event)
            plain.finish(None)
