"""How a build goes, for programs: a JSON object a line, in the shape of BuildKit's own status messages.

Each line has `vertexes`, `logs` (data in base64) or `warnings`; a vertex is sent again when it ends.
Source: BuildKit, client.SolveStatus, as `docker buildx build --progress=rawjson` prints it.
"""

from __future__ import annotations

import json
import sys
import time
from binascii import b2a_base64
from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TextIO

_STREAMS = {"stdout": 1, "stderr": 2}


class RawJsonDisplay:
    """Writes to stderr, or where it is told to. `began` is when the build began; event times `t` count from there."""

    def __init__(self, out: TextIO | None = None, began: float = 0.0) -> None:
        self._out = out or sys.stderr
        self._began = began
        self._vertexes: dict[int, dict[str, Any]] = {}

    def show(self, event: Mapping[str, Any]) -> None:
        """Print what the event says."""
        kind, index = event["event"], event.get("index", 0)
        now = _stamp(self._began + event["t"] if "t" in event else time.time())
        if kind == "step_started":
            digest = "sha256:" + sha256(f"{index} {event['name']}".encode()).hexdigest()
            self._vertex(index, {"digest": digest, "name": event["name"], "started": now})
        elif kind == "step_cached":
            self._vertex(index, {"completed": now, "cached": True})
        elif kind == "step_done":
            self._vertex(index, {"completed": now})
        elif kind == "step_failed":
            self._vertex(index, {"completed": now, "error": event["message"]})
        elif kind == "step_output":
            data = b2a_base64(event["data"].encode(errors="surrogateescape"), newline=False).decode()
            vertex = self._vertexes.get(index, {}).get("digest", "")
            stream = _STREAMS.get(event["stream"], 1)
            self._line({"logs": [{"vertex": vertex, "stream": stream, "data": data, "timestamp": now}]})
        elif kind == "warning":
            self._line({"warnings": [_warning(event)]})
        elif kind == "base_pull":
            amounts = {key: event[key] for key in ("current", "total") if event.get("total")}
            self._line({"statuses": [{"id": event["message"], **amounts, "timestamp": now}]})

    def pause(self) -> None:
        """Leave the terminal to somebody else: nothing is drawn there."""

    def resume(self) -> None:
        """Have it again."""

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Print the export as the last vertex."""
        if result is None:
            return
        now = _stamp(time.time())
        vertex = {"digest": result["image_id"], "name": "exporting to image", "started": now, "completed": now}
        self._line({"vertexes": [vertex]})

    def _vertex(self, index: int, change: dict[str, Any]) -> None:
        vertex = self._vertexes[index] = self._vertexes.get(index, {}) | change
        self._line({"vertexes": [vertex]})

    def _line(self, document: dict[str, Any]) -> None:
        self._out.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._out.flush()


def _warning(event: Mapping[str, Any]) -> dict[str, Any]:
    short = b2a_base64(event["message"].encode(), newline=False).decode()
    span = event.get("span")
    if not span:
        return {"level": 1, "short": short}
    place = {"line": span["line"], "character": span["column"] - 1}
    return {"level": 1, "short": short, "sourceInfo": {"filename": span["file"]}, "range": [{"start": place}]}


def _stamp(seconds: float) -> str:
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1e9):09d}Z"
