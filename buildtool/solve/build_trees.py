"""The trees that the steps of one build see: as stacks of layers, and as names that mean the same on any machine."""

from __future__ import annotations

from collections.abc import Mapping

from buildtool.buildfile import IgnoreRules
from buildtool.cache import SnapshotId, Store
from buildtool.errors import NotFound
from buildtool.graph import Node, StepId
from buildtool.oci import sha256
from buildtool.solve.keys import SCRATCH_KEY, tree_key
from buildtool.solve.prepare import Prepared
from buildtool.solve.records import StepResult
from buildtool.solve.trees import Layers

_EMPTY_TAR = 1024


class BuildTrees:
    """Blocking. `results` are those of the steps that are done; of a hit they may be in `prepared.hits` only."""

    def __init__(self, store: Store, prepared: Prepared, results: Mapping[StepId, StepResult]) -> None:
        self._store = store
        self._prepared = prepared
        self._results = results

    def layers(self, step: StepId) -> Layers:
        """The tree of a finished step. Raises KeyError when something in it is not done."""
        above: list[int | str] = []
        base, results = self._stack(step)
        for result in results:
            lazy = result.layer.diff_id if result.layer is not None else ""
            above.append(result.content or (int(result.snapshot) if result.is_here or not lazy else lazy))
        return Layers(base, tuple(above))

    def key(self, node: Node) -> str:
        """The key under which the result of an equal step on equal trees travels; "" when not all of it is known."""
        inputs: list[list[str]] = []
        for needed in node.inputs:
            try:
                base, results = self._stack(needed)
            except KeyError:
                return ""
            names = [self._name(result) for result in results]
            if None in names:
                return ""
            inputs.append([base, *(name for name in names if name)])
        return tree_key(node, inputs)

    def is_empty(self, snapshot: int) -> bool:
        """Whether a layer changes nothing."""
        try:
            return self._store.layers.is_empty(SnapshotId(snapshot))
        except FileNotFoundError:
            return False

    def diff_id(self, snapshot: int) -> str | None:
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

    def _stack(self, step: StepId) -> tuple[str, list[StepResult]]:
        """The base's key and the results above it, bottom first."""
        above: list[StepResult] = []
        current: StepId | None = step
        base = SCRATCH_KEY
        while current is not None:
            node = self._prepared.node(current)
            if node.is_source:
                base = self._prepared.keys[current]
                break
            result = self._results.get(current)
            above.append(result if result is not None else self._prepared.hits[current])
            current = node.parent
        return base, above[::-1]

    def _name(self, result: StepResult) -> str | None:
        """What a layer is called anywhere: "" when it changes nothing, None when that is not known."""
        layer = result.layer
        if result.is_here and self.is_empty(int(result.snapshot)):
            return ""
        if layer is not None and layer.size <= _EMPTY_TAR:
            return ""
        if result.content:
            return result.content
        if layer is not None and layer.epoch == self._prepared.plan.image.epoch and not self._ignores:
            return layer.diff_id
        return self.diff_id(int(result.snapshot)) if result.is_here else None

    @property
    def _ignores(self) -> bool:
        return bool(self._prepared.request.cutoff_ignore)
