"""What one build leaves for the next: records under the definition key, and under the one found by content."""

from __future__ import annotations

from buildtool.graph import Exec, Node, StepId
from buildtool.solve.file_steps import PlannedCopy, PlannedMkdir, copied_by
from buildtool.solve.keys import SCRATCH_KEY, Preimage, seen_key
from buildtool.solve.prepare import Prepared
from buildtool.solve.records import Origin, Records, StepResult


class Remembering:
    """Blocking. `learnt` are ingredients of content keys that are known since their step was executed."""

    def __init__(self, records: Records, prepared: Prepared) -> None:
        self.learnt: dict[StepId, Preimage] = {}
        self._records = records
        self._prepared = prepared

    def by_content(self, node: Node, planned: PlannedCopy | PlannedMkdir | None) -> Preimage | None:
        """The ingredients of the content key."""
        return self.learnt.get(node.id) or (planned.preimage if planned is not None else None)

    def done(self, node: Node, planned: PlannedCopy | PlannedMkdir | None, result: StepResult, hit: bool) -> None:
        """A step has a result, found (`hit`) or made."""
        records, prepared = self._records, self._prepared
        if not result.is_here:
            prepared.sites.set(node.site, prepared.keys[node.id], result)
            return
        key = self._put(node, result)
        if result.content and not hit:
            by_content = self.by_content(node, planned) or {"level": "content"}
            records.put(result.content, by_content, result, origin=self.origin(node))
        if isinstance(node.step, Exec) and not hit:
            records.note_execution(seen_key(node), key, [prepared.keys[needed] for needed in node.inputs])
        if isinstance(node.step, Exec) and node.step.execution.cache_ttl:
            records.put_generation(*prepared.generations[node.id])
        if hit and isinstance(planned, PlannedCopy) and not planned.archives and not planned.selected.selection.owned:
            prepared.sites.set_copied(node.site, planned.selected.digest, copied_by(planned, result.snapshot))
        prepared.sites.set(node.site, key, result)

    def arrived(self, node: Node, result: StepResult) -> None:
        """What came out of a cache and is here now is this store's own from now on."""
        self._put(node, result)
        if result.content:
            self._records.put(result.content, {"level": "content"}, result, origin=self.origin(node))

    def _put(self, node: Node, result: StepResult) -> str:
        """Under the definition key."""
        prepared = self._prepared
        prepared.lease.snapshot(result.snapshot)
        key, below = prepared.keys[node.id], SCRATCH_KEY if node.parent is None else prepared.keys[node.parent]
        self._records.put(key, prepared.preimages[node.id], result, below, self.origin(node))
        return key

    def origin(self, node: Node) -> Origin:
        """Which instruction of which build file."""
        request, span = self._prepared.request, node.span
        context = request.context_key or str(request.context or "")
        if span is None:
            return Origin(request.dockerfile_name, 0, node.name, context)
        return Origin(span.file, span.line, node.name or f"files for {span.line_text.strip()}", context)
