"""Untag, delete and prune: which image may go, in dockerd's order and with dockerd's words.

Source: the documented behaviour of DELETE /images/{name} and POST /images/prune, Engine API 1.50.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from buildtool.errors import Conflict, NotFound
from buildtool.images import filters as filtering
from buildtool.images.filters import Filters
from buildtool.images.table import ImageTable, Record
from buildtool.images.times import parse_until
from buildtool.oci import Digest, Reference, chain_ids, parse_reference

InUse = Callable[[Digest], Sequence[str]]
Running = Callable[[str], bool]
Notice = Callable[[str, Record], None]


@dataclass
class Removal:
    """One request's worth of removing; `records` is its answer, `freed` the layers that lost their last image."""

    table: ImageTable
    in_use: InUse
    running: Running
    notice: Notice
    records: list[dict[str, str]] = field(default_factory=list)
    freed: dict[Digest, int] = field(default_factory=dict)
    orphans: list[Digest] = field(default_factory=list)

    def remove(self, record: Record, name: str, *, force: bool, noprune: bool) -> None:
        """`docker rmi NAME`: untag when other names remain, else delete. Raises Conflict."""
        self._remove(record, name, force=force, noprune=noprune)
        while self.orphans:  # the other images of an index whose name is gone
            orphan = self.table.record(self.orphans.pop())
            if orphan is not None and not (orphan.references or orphan.held_by):
                self._delete(orphan, force=force, prune=not noprune, quiet=True)

    def check_unused(self, images: Iterable[Digest]) -> None:
        """Raises Conflict for an image that a container uses."""
        for image in images:
            users = self.in_use(image)
            record = self.table.record(image)
            if users and record is not None:
                state = "running" if self.running(users[0]) else "stopped"
                why = f"image is being used by {state} container {users[0][:12]}"
                raise _Used(record, hard=True, why=why, by_container=True)

    def drop(self, images: Iterable[Digest]) -> None:
        """Delete images that no name means any more."""
        for image in images:
            record = self.table.record(image)
            if record is not None and not (record.references or record.held_by):
                self._delete(record, force=True, prune=True, quiet=True)

    def _remove(self, record: Record, name: str, *, force: bool, noprune: bool) -> None:
        quiet = False
        if _is_id_prefix(record.id, name):
            if _single_repository(record.references):
                self._check(record, force=force, ignore_references=True)
                self._untag_all(record)
        else:
            if not self._untag_one(record, name, force=force):
                return
            quiet = True
        self._delete(record, force=force, prune=not noprune, quiet=quiet)

    def _untag_one(self, record: Record, name: str, *, force: bool) -> bool:
        """Take one name away; True when that was the last one."""
        reference = _own_reference(record, name)
        if not force and _single_repository(record.references):
            users = self.in_use(record.id)
            if users:
                raise Conflict(
                    f'conflict: unable to remove repository reference "{name}" (must force) - '
                    f"container {users[0][:12]} is using its referenced image {_short(record.id)}"
                )
        self._untag(record, reference)
        if not reference.digest and not any(
            other.repository == reference.repository and not other.digest for other in record.references
        ):
            for other in sorted(record.references, key=str):
                if other.repository == reference.repository:
                    self._untag(record, other)
        return not (record.references or record.held_by)

    def _untag(self, record: Record, reference: Reference) -> None:
        group = self.table.group(reference)
        if group is not None:
            self.orphans += group.images
        self.table.unpoint(reference)
        self.records.append({"Untagged": reference.familiar})
        self.notice("untag", record)

    def _untag_all(self, record: Record) -> None:
        for reference in sorted(record.references, key=str):
            self._untag(record, reference)

    def _delete(self, record: Record, *, force: bool, prune: bool, quiet: bool) -> None:
        try:
            self._check(record, force=force)
        except _Used as conflict:
            if quiet and (record.references or self.table.children(record.id) or conflict.by_container):
                return
            raise
        self._untag_all(record)
        before = _chains([record])
        self.table.remove(record)
        kept = _chains(self.table.records())
        self.notice("delete", record)
        self.records.append({"Deleted": record.id})
        for chain, size in reversed(before.items()):
            if chain not in kept:
                self.records.append({"Deleted": chain})
                self.freed[chain] = size
        parent = self.table.record(record.parent) if record.parent else None
        if prune and parent is not None and not parent.references:
            self._delete(parent, force=False, prune=True, quiet=True)

    def _check(self, record: Record, *, force: bool, ignore_references: bool = False) -> None:
        """Raises a conflict that `force` does not override (hard) or, without force, one that it would (soft)."""
        if self.table.children(record.id):
            raise _Used(record, hard=True, why="image has dependent child images")
        users = self.in_use(record.id)
        running = [user for user in users if self.running(user)]
        if running:
            why = f"image is being used by running container {running[0][:12]}"
            raise _Used(record, hard=True, why=why, by_container=True)
        if force:
            return
        if record.held_by - record.references:
            names = ", ".join(sorted(reference.familiar for reference in record.held_by))
            raise _Used(record, hard=False, why=f"it is one platform's image of {names}")
        if record.references and not ignore_references:
            raise _Used(record, hard=False, why="image is referenced in multiple repositories")
        if users:
            why = f"image is being used by stopped container {users[0][:12]}"
            raise _Used(record, hard=False, why=why, by_container=True)


class _Used(Conflict):
    """An image that may not be deleted."""

    def __init__(self, record: Record, *, hard: bool, why: str, by_container: bool = False) -> None:
        kind = "cannot be forced" if hard else "must be forced"
        super().__init__(f"conflict: unable to delete {_short(record.id)} ({kind}) - {why}")
        self.by_container = by_container


def prune(removal: Removal, *, dangling_only: bool, filters: Filters) -> None:
    """Delete what no container and no name needs: dangling images, or all unused ones.

    Filters: until (by the time listings show), label, label!. What conflicts is left alone.
    """
    filtering.check_names(filters, filtering.PRUNE_FILTERS)
    untils = [parse_until(value) for value in filtering.values(filters, "until")]
    for record in sorted(removal.table.records(), key=lambda record: record.id):
        image = record.image()
        if removal.table.record(record.id) is None or (not record.references and removal.table.children(record.id)):
            continue
        if any(image.created > until for until in untils) or not filtering.labels_match(filters, image.labels):
            continue
        if image.references and dangling_only:
            continue
        if image.held and not image.references:  # goes with the name of its index
            continue
        if removal.in_use(record.id):
            continue
        names = [str(name) for name in (*image.references, *image.repo_digests)] or [record.id]
        _remove_quietly(removal, record, names)


def _remove_quietly(removal: Removal, record: Record, names: Iterable[str]) -> None:
    for name in names:
        if removal.table.record(record.id) is None:
            return
        try:
            removal.remove(record, name, force=False, noprune=False)
        except (Conflict, NotFound):
            continue


def _own_reference(record: Record, name: str) -> Reference:
    """The reference of this image that the user's words name. Raises NotFound."""
    reference = parse_reference(name).with_default_tag()
    if reference in record.references:
        return reference
    if reference.digest:
        for other in record.references:
            if other.digest == reference.digest and other.repository == reference.repository:
                return other
    raise NotFound(f"No such image: {reference.familiar}")


def _is_id_prefix(image_id: Digest, name: str) -> bool:
    return image_id.startswith(name) or image_id[7:].startswith(name)


def _single_repository(references: Iterable[Reference]) -> bool:
    """Whether all references are from one repository, with at most one tag among them; False for none."""
    everything = list(references)
    tags = [reference for reference in everything if not reference.digest]
    return bool(everything) and len(tags) <= 1 and len({reference.repository for reference in everything}) == 1


def _chains(records: Iterable[Record]) -> dict[Digest, int]:
    """The chain ids of these images' layers, bottom first, with the size of the topmost layer of each."""
    chains: dict[Digest, int] = {}
    for record in records:
        ids = chain_ids([layer.diff_id for layer in record.layers])
        chains.update(zip(ids, (layer.size for layer in record.layers), strict=True))
    return chains


def _short(image_id: Digest) -> str:
    return image_id[7:19]
