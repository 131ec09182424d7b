"""What became of each step of one build: told as events, and kept as records."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from buildtool.errors import BuildtoolError, StepFailed
from buildtool.graph import Node, Plan, StepId
from buildtool.solve import events
from buildtool.solve.explain import Difference, summary
from buildtool.solve.prepare import Prepared
from buildtool.solve.records import StepResult
from buildtool.solve.redaction import redaction_of
from buildtool.solve.request import StepRecord

Emit = Callable[[events.Event], None]


class Ledger:
    """The account of one build, whose clock starts now. `records` has what is known so far."""

    def __init__(self, prepared: Prepared, emit: Emit) -> None:
        self.records: dict[StepId, StepRecord] = {}
        self.waited: dict[StepId, float] = {}
        self.joined: set[StepId] = set()
        self.index = {step: number for number, step in enumerate(prepared.plan.visible, 1)}
        self._prepared = prepared
        self._hide = redaction_of(prepared.request.secrets, prepared.request.build_args)
        self._emit = emit
        self._began = time.monotonic()

    def start(self, node: Node) -> None:
        """A step is looked at."""
        index = self.index.get(node.id)
        if index is not None:
            self._emit(events.StepStarted(index, len(self.index), node.name, node.span))

    def output(self, node: Node, stream: str, data: bytes) -> None:
        """A step's command wrote something."""
        index = self.index.get(node.id)
        if index is not None:
            self._emit(events.StepOutput(index, "stderr" if stream == "stderr" else "stdout", data))

    def cached(self, node: Node, hit: str, began: float | None = None) -> None:
        """A step's result was there, under the key of this kind."""
        self._record(node, "cached", hit, began)
        index = self.index.get(node.id)
        if index is not None:
            self._emit(events.StepCached(index, _short(self._prepared.keys[node.id])))

    def done(self, node: Node, result: StepResult, began: float, reasons: Sequence[Difference]) -> None:
        """A step was executed, for these reasons."""
        self._record(node, "done", "shared" if node.id in self.joined else "", began, reasons, result.cpu)
        index = self.index.get(node.id)
        if index is not None:
            seconds = time.monotonic() - began
            self._emit(events.StepDone(index, seconds, _short(self._prepared.keys[node.id])))

    def canceled(self, node: Node, began: float) -> None:
        """A step was stopped."""
        self._record(node, "canceled", "", began)

    def failed(self, node: Node, error: BuildtoolError, began: float) -> None:
        """A step failed; the error gets the place of its instruction."""
        self._record(node, "failed", "", began)
        error.where = error.where or node.span
        code = error.exit_code_of_step if isinstance(error, StepFailed) else None
        killed = error.oom_killed if isinstance(error, StepFailed) else False
        index = self.index.get(node.id) or next(
            (self.index[child] for child in self._prepared.plan.graph.successors(node.id) if child in self.index), 0
        )
        if index:
            self._emit(events.StepFailed(index, error.message, error.where, code, killed))

    def _record(
        self,
        node: Node,
        status: str,
        hit: str,
        began: float | None,
        reasons: Sequence[Difference] = (),
        cpu: float = 0.0,
    ) -> None:
        now = time.monotonic()
        reasons = [self._redacted(each) for each in reasons] if self._hide else reasons
        executed = status != "cached" and began is not None
        self.records[node.id] = StepRecord(
            name=node.name,
            key=self._prepared.keys[node.id],
            cached=status == "cached",
            seconds=now - began if executed and began is not None else 0.0,
            miss_reason=summary(reasons),
            status=status,
            hit=hit,
            index=self.index.get(node.id, 0),
            stage=node.stage,
            place=f"{node.span.file}:{node.span.line}" if node.span is not None else "",
            inputs=tuple(sorted(shown_inputs(self._prepared.plan, node, self.index))),
            started=(now if began is None else began) - self._began,
            waited=self.waited.get(node.id, 0.0),
            cpu=cpu,
            differences=tuple(reasons),
        )

    def _redacted(self, reason: Difference) -> Difference:
        before, now = (None if value is None else self._hide.text(value) for value in (reason.before, reason.now))
        return msgspec.structs.replace(reason, name=self._hide.text(reason.name), before=before, now=now)

    def all(self) -> list[StepRecord]:
        """A record for each shown step, in the order of the Buildfile; those never begun are `pending`."""
        for step in self._prepared.plan.visible:
            if step not in self.records:
                self._record(self._prepared.node(step), "pending", "", None)
        return [self.records[step] for step in self._prepared.plan.visible]


def shown_inputs(plan: Plan, node: Node, shown: Mapping[StepId, int]) -> set[int]:
    """The indexes of the shown steps that a step needs, through those that are not shown."""
    found: set[int] = set()
    stack = list(node.inputs)
    while stack:
        step = stack.pop()
        if step in shown:
            found.add(shown[step])
        else:
            stack.extend(plan.node(step).inputs)
    return found


def _short(key: str) -> str:
    return key.removeprefix("sha256:")[:12]
