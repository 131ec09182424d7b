"""A build as a Chrome trace: chrome://tracing, Perfetto and speedscope read it. Pure.

Source: "Trace Event Format" (Google, 2016): complete events (`ph` X) with microseconds, metadata events (M).
"""

from __future__ import annotations

from typing import Any

from buildtool.solve.history import BuildRecord
from buildtool.solve.request import StepRecord

_PHASES = 0
_MICRO = 1_000_000


def chrome_trace(record: BuildRecord) -> dict[str, Any]:
    """The trace document. Phases of the build are one row; each stage has as many as steps of it overlap."""
    events: list[dict[str, Any]] = [_name("process_name", 0, f"build {record.id}"), _name("thread_name", 0, "build")]
    events += [_complete(name, _PHASES, began, seconds, "phase", {}) for name, began, seconds in record.phases]
    offset = next((began for name, began, _ in record.phases if name == "solve"), 0.0)
    rows: list[tuple[str, float]] = []
    for step in sorted(record.steps, key=lambda step: (step.started, step.index)):
        if step.status == "pending":
            continue
        began = offset + step.started
        row = next((n for n, (stage, free) in enumerate(rows) if stage == step.stage and free <= began), None)
        if row is None:
            row = len(rows)
            rows.append((step.stage, 0.0))
            events.append(_name("thread_name", row + 1, f"stage {step.stage}" if step.stage else "steps"))
        rows[row] = (step.stage, began + step.seconds)
        events += _step_events(step, row + 1, began)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "build": record.id,
            "file": record.file,
            "status": record.status,
            "tags": ", ".join(record.tags),
            "image": record.image,
        },
    }


def _step_events(step: StepRecord, row: int, began: float) -> list[dict[str, Any]]:
    arguments = {"index": step.index, "status": step.status, "key": step.key, "place": step.place}
    if step.hit:
        arguments["hit"] = step.hit
    if step.miss_reason:
        arguments["why"] = step.miss_reason
    if step.cpu:
        arguments["cpus"] = step.cpu
    found = [_complete(step.name, row, began, step.seconds, step.status, arguments)]
    if step.waited >= 0.001:
        found.append(_complete("waits for a free place", row, began, step.waited, "wait", {}))
    return found


def _complete(
    name: str, row: int, began: float, seconds: float, category: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": name,
        "cat": category,
        "ph": "X",
        "ts": round(began * _MICRO),
        "dur": round(seconds * _MICRO),
        "pid": 1,
        "tid": row,
        "args": arguments,
    }


def _name(kind: str, row: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": 1, "tid": row, "args": {"name": name}}
