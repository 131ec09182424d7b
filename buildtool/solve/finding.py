"""A result for a step whose definition key has none: by content, or of an equal command on equal trees."""

from __future__ import annotations

from collections.abc import Mapping

from buildtool.buildfile import IgnoreRules
from buildtool.buildfile.instructions import Execution
from buildtool.cache import SnapshotId, Store
from buildtool.errors import NotFound
from buildtool.graph import Exec, Node, StepId
from buildtool.oci import sha256
from buildtool.solve.expiry import expired
from buildtool.solve.explain import Difference
from buildtool.solve.file_steps import PlannedCopy, PlannedMkdir, content_key
from buildtool.solve.keys import SCRATCH_KEY, seen_key
from buildtool.solve.prepare import Prepared
from buildtool.solve.records import Records, StepResult
from buildtool.solve.trees import Layers, same_tree, without_empty
from buildtool.solve.why import Reasons


class Finder:
    """Looks for one build. Blocking. `results` are those of the steps that are done, `elsewhere` what caches of other
    machines have by content.
    """

    def __init__(
        self,
        store: Store,
        records: Records,
        prepared: Prepared,
        results: Mapping[StepId, StepResult],
        elsewhere: Mapping[str, StepResult],
    ) -> None:
        self._store = store
        self._records = records
        self._prepared = prepared
        self._results = results
        self._elsewhere = elsewhere
        self._reasons = Reasons(prepared, records)

    def find(
        self, node: Node, planned: PlannedCopy | PlannedMkdir | None
    ) -> tuple[StepResult | None, str, list[Difference]]:
        """A result and by which key; else why there is none."""
        found, hit = None, ""
        if not self._prepared.request.no_cache:
            if planned is not None:
                key = content_key(planned)
                found, hit = self._records.find(key, self._prepared.lease) if key else None, "content"
                found = found or self._elsewhere.get(key)
            elif isinstance(node.step, Exec) and not node.step.execution.no_cache:
                found, hit = self._equal_execution(node, node.step.execution), "tree"
        return (found, hit, []) if found is not None else (None, "", self._reasons.of(node))

    def _equal_execution(self, node: Node, execution: Execution) -> StepResult | None:
        records = self._records
        for run in records.executions(seen_key(node)):
            keys = run["inputs"]
            if len(keys) != len(node.inputs):
                continue
            trees = [(self._layers(needed), records.tree(key)) for needed, key in zip(node.inputs, keys, strict=True)]
            pairs = [(without_empty(now, self._is_empty), without_empty(then, self._is_empty)) for now, then in trees]
            if all(same_tree(now, then, self._diff_id) for now, then in pairs):
                found = records.find(run["key"], self._prepared.lease)
                if found is not None and not expired(found.made, execution):
                    return found
        return None

    def _layers(self, step: StepId) -> Layers:
        """The tree of a finished step."""
        above: list[int | str] = []
        current: StepId | None = step
        base = SCRATCH_KEY
        while current is not None:
            node = self._prepared.node(current)
            if node.is_source:
                base = self._prepared.keys[current]
                break
            result = self._results[current]
            above.append(result.content or (int(result.snapshot) if result.layer is None else result.layer.diff_id))
            current = node.parent
        return Layers(base, tuple(reversed(above)))

    def _is_empty(self, snapshot: int) -> bool:
        try:
            return self._store.layers.is_empty(SnapshotId(snapshot))
        except FileNotFoundError:
            return False

    def _diff_id(self, snapshot: int) -> str | None:
        """The digest of a layer with times normalised, without what the request wants to be ignored."""
        ignored, epoch = self._prepared.request.cutoff_ignore, self._prepared.plan.image.epoch
        try:
            if not ignored:
                return self._store.layers.diff_id(SnapshotId(snapshot), epoch)[0]
            text = "\n".join(ignored)
            rules = IgnoreRules.parse(text, "--cutoff-ignore")
            name = sha256(text.encode())
            return self._store.layers.diff_id(SnapshotId(snapshot), epoch, rules.excludes, name)[0]
        except (NotFound, FileNotFoundError):
            return None
