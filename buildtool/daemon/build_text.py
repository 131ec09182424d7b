"""A build's events as the classic builder's words: `Step 1/3 : FROM busybox`, ` ---> Using cache`, …

Steps run side by side, Docker's text tells them one after the other: one step speaks at once, what the others say
waits
for its turn.
"""

from __future__ import annotations

import codecs
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildtool.solve import BuildResult
    from buildtool.solve.events import Event

_STAGE = re.compile(r"^\[[^\]]*\] ")


class TextDecoder:
    """Bytes to text, for each source on its own, across the ends of chunks; invalid bytes become U+FFFD."""

    def __init__(self) -> None:
        self._decoders: dict[object, codecs.IncrementalDecoder] = {}

    def decode(self, source: object, data: bytes, *, final: bool = False) -> str:
        """The text that is complete so far."""
        decoder = self._decoders.get(source)
        if decoder is None:
            decoder = self._decoders[source] = codecs.getincrementaldecoder("utf-8")("replace")
        return decoder.decode(data, final)


@dataclass
class _Step:
    text: list[str] = field(default_factory=list)
    command: str = ""
    container: str = ""
    ended: bool = False


class ClassicText:
    """Feed it events, send what it returns as `stream` lines."""

    def __init__(self) -> None:
        self._steps: dict[int, _Step] = {}
        self._speaker = 0
        self._decoder = TextDecoder()

    def feed(self, event: Event) -> list[str]:
        """What there is to say now."""
        kind = type(event).__name__
        if kind == "Warning":
            where = f"{event.span}: " if event.span else ""  # type: ignore[union-attr]
            return [f" ---> [Warning] {where}{event.message}\n"]  # type: ignore[union-attr]
        if kind == "BasePull":
            return [] if event.total else [f"{event.message}\n"]  # type: ignore[union-attr]
        if kind == "Built":
            return []
        index: int = event.index  # type: ignore[union-attr]
        step = self._steps.setdefault(index, _Step())
        step.text += self._say(kind, index, step, event)
        step.ended = kind in ("StepCached", "StepDone", "StepFailed")
        return self._spoken()

    def end(self, result: BuildResult, tags: list[str]) -> list[str]:
        """The last words of a build that succeeded."""
        short = str(result.image.id).partition(":")[2][:12]
        return [f"Successfully built {short}\n", *(f"Successfully tagged {tag}\n" for tag in tags)]

    def _say(self, kind: str, index: int, step: _Step, event: object) -> list[str]:
        if kind == "StepStarted":
            name = _STAGE.sub("", event.name)  # type: ignore[attr-defined]
            step.command = name.partition(" ")[0].upper()
            return [f"Step {index}/{event.total} : {name}\n"]  # type: ignore[attr-defined]
        short = getattr(event, "image_id_short", "")
        arrow = [f" ---> {short}\n"] if short else []
        if kind == "StepCached":
            return arrow if step.command == "FROM" else [" ---> Using cache\n", *arrow]
        if kind == "StepOutput":
            text = self._decoder.decode((index, event.stream), event.data)  # type: ignore[attr-defined]
            return [*_running(step), text] if text else _running(step)
        if kind == "StepDone" and step.command == "RUN":
            return [*_running(step), f" ---> Removed intermediate container {step.container}\n", *arrow]
        return arrow

    def _spoken(self) -> list[str]:
        """The speaker's words; when it has ended, those of the next step that has something to say."""
        said: list[str] = []
        while True:
            if not self._speaker:
                waiting = [index for index, step in self._steps.items() if step.text]
                if not waiting:
                    return said
                self._speaker = min(waiting)
            step = self._steps[self._speaker]
            said += step.text
            step.text = []
            if not step.ended:
                return said
            self._speaker = 0


def _running(step: _Step) -> list[str]:
    """Docker names the container of a RUN step; ours has none, so the name stands for it only."""
    if step.container or step.command != "RUN":
        return []
    step.container = secrets.token_hex(6)
    return [f" ---> Running in {step.container}\n"]
