"""Finds the nearest earlier record of a step and asks `explain` what differs."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import msgspec

from buildtool.buildfile.remotes import without_secrets
from buildtool.graph import Node, Remote, Source, StepId, digest_of
from buildtool.solve.explain import Difference, differences
from buildtool.solve.keys import Preimage
from buildtool.solve.prepare import Prepared
from buildtool.solve.records import Records


class Reasons:
    """Why steps of one build have to be executed."""

    def __init__(self, prepared: Prepared, records: Records) -> None:
        self._prepared = prepared
        self._records = records

    def of(self, node: Node) -> list[Difference]:
        """What differs from the nearest earlier record."""
        if self._prepared.request.no_cache:
            return [Difference("no-cache")]
        if node.id in self._prepared.reasons:
            return [self._prepared.reasons[node.id]]
        now = self._prepared.preimages[node.id]
        site, before = self._nearest(node, now)
        names: list[str | None] = [self._name_of(needed) for needed in node.inputs]

        def files() -> tuple[list[str], list[str]] | None:
            if before is None or (selected := self._prepared.selected.get(node.id)) is None:
                return None
            copied = self._prepared.sites.copied(site, str(before["content"]))
            return (copied.texts(), selected.lines) if copied is not None else None

        found = differences(before, now, names, files)
        return [*found, *self._of_hidden(node, before)] if before is not None else found

    def _nearest(self, node: Node, now: Preimage) -> tuple[str, Preimage | None]:
        """What the last build did at the same place, or where the very same instruction stood in the stage."""
        site = self._prepared.sites.before.get(node.site)
        before = self._records.preimage(site.key) if site is not None else None
        if before is not None and before["step"] == _plain(now["step"]):
            return node.site, before
        moved = self._by_step.get((_stage_of(node.site), digest_of(now["step"])))
        if moved is not None:
            return moved, self._records.preimage(self._prepared.sites.before[moved].key)
        return node.site, before

    @functools.cached_property
    def _by_step(self) -> dict[tuple[str, str], str]:
        """Where instructions stood in the last build, by stage and definition."""
        found: dict[tuple[str, str], str] = {}
        for name, site in self._prepared.sites.before.items():
            preimage = self._records.preimage(site.key)
            if preimage is not None:
                found[_stage_of(name), digest_of(preimage["step"])] = name
        return found

    def _of_hidden(self, node: Node, before: Preimage) -> Iterator[Difference]:
        """What differs in inputs that are no instructions of their own: files of the context that a mount shows."""
        for number, needed in enumerate(node.inputs):
            was = before["inputs"][number] if number < len(before["inputs"]) else ""
            if self._name_of(needed) is None and was != self._prepared.keys[needed]:
                yield from self.of(self._prepared.node(needed))

    def _name_of(self, step: StepId) -> str | None:
        node = self._prepared.node(step)
        if isinstance(node.step, Remote):
            return without_secrets(node.step.url)
        return "" if isinstance(node.step, Source) else node.name or None


def _stage_of(site: str) -> str:
    return site.partition("/")[0]


def _plain(value: object) -> object:
    """A value as it is when it comes out of a record."""
    return msgspec.json.decode(msgspec.json.encode(value))
