"""A result for a step whose definition key has none: by content, or of an equal command on equal trees."""

from __future__ import annotations

from collections.abc import Mapping

from buildtool.buildfile.instructions import Execution
from buildtool.cache import Store
from buildtool.graph import Exec, Node, StepId
from buildtool.solve.build_trees import BuildTrees
from buildtool.solve.expiry import expired
from buildtool.solve.explain import Difference
from buildtool.solve.file_steps import PlannedCopy, PlannedMkdir, content_key
from buildtool.solve.keys import seen_key
from buildtool.solve.prepare import Prepared
from buildtool.solve.records import Records, StepResult
from buildtool.solve.trees import same_tree, without_empty
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
        self._records = records
        self._prepared = prepared
        self._trees = BuildTrees(store, prepared, results)
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

    def tree_key(self, node: Node) -> str:
        """Under this key other machines may have a result of an equal step on equal trees; "" for none."""
        return self._trees.key(node)

    def _equal_execution(self, node: Node, execution: Execution) -> StepResult | None:
        records, empty = self._records, self._trees.is_empty
        for run in records.executions(seen_key(node)):
            keys = run["inputs"]
            if len(keys) != len(node.inputs):
                continue
            trees = [
                (self._trees.layers(needed), records.tree(key)) for needed, key in zip(node.inputs, keys, strict=True)
            ]
            pairs = [(without_empty(now, empty), without_empty(then, empty)) for now, then in trees]
            if all(same_tree(now, then, self._trees.diff_id) for now, then in pairs):
                found = records.find(run["key"], self._prepared.lease)
                if found is not None and not expired(found.made, execution):
                    return found
        return None
