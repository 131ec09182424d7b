# ruff: noqa: PTH101, PTH102
"""COPY, ADD and WORKDIR: looked at (for the content key), then executed. All of it blocks and runs in threads."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from buildtool.cache import FullDisk, SnapshotId, Store, Tree
from buildtool.cache.below import Below, Reads, answers
from buildtool.errors import BuildtoolError, InvalidInput
from buildtool.graph import Copy, Mkdir, Node, content_definition, digest_of
from buildtool.solve.archives import is_archive, tree_at, unpack_archive
from buildtool.solve.files import FileSource, NoFiles
from buildtool.solve.keys import Preimage, content_preimage
from buildtool.solve.ownership import Owner, parse_chmod, resolve_owner
from buildtool.solve.placement import Placement, ancestors_of, place
from buildtool.solve.records import Copied
from buildtool.solve.selection import Entry, Selection
from buildtool.solve.sources import Selected, select_files
from buildtool.solve.writer import Previous, Stopped, Writer

_LINK_FROM = 32
"""From so many files on, linking to those of the last time is tried."""


def tree_of(store: Store, chain: Sequence[SnapshotId]) -> Tree:
    """The merged tree of these snapshots, bottom first."""
    return Tree([store.snapshots.fs(snapshot) for snapshot in chain], immutable=True)


@dataclass(frozen=True)
class PlannedCopy:
    """A Copy looked at: what, where, whose. `preimage` is the content key's.

    With archives to be unpacked it depends on what these take from the tree below. That is known when they were
    unpacked before onto a tree that looks the same to them; `asking` names what was learnt of them. Without a
    `placement` nothing is done at all: no wildcard matches, no source of a COPY --if-exists is there.
    """

    node: Node
    chain: tuple[SnapshotId, ...]
    tree: Tree
    selected: Selected
    placement: Placement | None
    owner: Owner | None
    archives: tuple[Entry, ...]
    preimage: Preimage | None
    identity: str
    asking: str = ""


LearntReads = Callable[[str], list[Reads]]
"""What archives took from the trees below them, under the name that `asking` gives."""


def plan_copy(
    store: Store,
    node: Node,
    chain: Sequence[SnapshotId],
    files: FileSource | None,
    selected: Selected | None,
    learnt: LearntReads = lambda name: [],
) -> PlannedCopy:
    """Look at a Copy onto the tree of `chain`. `files` is what is copied from, or `selected` the context's files.

    Raises NotFound or InvalidInput with the place in the Buildfile.
    """
    step = node.step
    assert isinstance(step, Copy)
    tree = tree_of(store, chain)
    if selected is None:
        selected = select_files(files or NoFiles(), node, "the stage or image copied from")
    if not selected.selection.roots:
        nothing = content_preimage(node, selected.digest, {"nothing": True})
        return PlannedCopy(node, tuple(chain), tree, selected, None, None, (), nothing, "")
    archives = () if step.unpack is False else tuple(root for root in selected.selection.roots if is_archive(root))
    if step.unpack and not archives:
        raise InvalidInput("ADD --unpack: the source is no tar archive", where=node.span)
    try:
        owner = resolve_owner(step.chown, tree) if step.chown else None
        if archives:
            others = [root for root in selected.selection.roots if root not in archives]
            placement = place(tree, step, Selection(others), directory=True)
        else:
            placement = place(tree, step, selected.selection)
    except OSError as error:
        raise InvalidInput(f"{step.destination}: {error.strerror}", where=node.span) from error
    except BuildtoolError as error:
        error.where = error.where or node.span
        raise
    preimage = content_preimage(node, selected.digest, placement.facts(owner))
    plain = {name: value for name, value in content_definition(step).items() if name != "destination"}
    identity = digest_of({"step": plain, "owner": owner, "squash": store.squash_ids})
    planned = PlannedCopy(
        node, tuple(chain), tree, selected, placement, owner, archives, preimage, identity, digest_of(preimage)
    )
    if not archives:
        return planned
    onto = tree_at(tree, placement.base)
    same = next((reads for reads in learnt(planned.asking) if answers(onto, reads)), None)
    return replace(planned, preimage=None if same is None else archive_preimage(planned, same))


def archive_preimage(planned: PlannedCopy, reads: Reads) -> Preimage:
    """The content key's ingredients with archives, once it is known what they take from below."""
    assert planned.placement is not None
    facts = {**planned.placement.facts(planned.owner), "below": reads}
    return content_preimage(planned.node, planned.selected.digest, facts)


@dataclass(frozen=True)
class CopyResult:
    """A snapshot; `copied` and `reads` are to be remembered for the next time (None: not worth it, no archive)."""

    snapshot: SnapshotId
    copied: Copied | None = None
    reads: Reads | None = None


def execute_copy(store: Store, planned: PlannedCopy, before: Copied | None, cancelled: threading.Event) -> CopyResult:
    """Make the snapshot."""
    step = planned.node.step
    assert isinstance(step, Copy)
    selection, placement = planned.selected.selection, planned.placement
    if placement is None:
        with store.snapshots.prepare(planned.chain) as draft:
            nothing = draft.commit()
        return CopyResult(nothing, copied_by(planned, nothing))
    previous = None
    many = not selection.owned and len(planned.selected.lines) >= _LINK_FROM
    if many and before is not None and (before.definition, before.base) == (planned.identity, placement.base):
        fs = store.snapshots.fs(SnapshotId(before.snapshot))
        lines = dict(line.split("\0", 1) for line in before.texts())
        previous = Previous(Path(f"{fs}{placement.base.rstrip('/')}"), lines)
    below = Below(tree_at(planned.tree, placement.base)) if planned.archives else None
    with store.snapshots.prepare(planned.chain) as draft, FullDisk(draft.directory):
        writer = Writer(
            draft.fs,
            store.squash_ids,
            owner=planned.owner,
            chmod=parse_chmod(step.chmod) if step.chmod else None,
            previous=previous,
            cancelled=cancelled,
        )
        if below is not None:
            _unpack(store, planned, placement, writer, below)
        else:
            writer.copy(placement, selection)
        if cancelled.is_set():
            raise Stopped
        snapshot = draft.commit()
    if selection.owned or below is not None:
        return CopyResult(snapshot, reads=below.reads if below is not None else None)
    return CopyResult(snapshot, copied_by(planned, snapshot))


def copied_by(planned: PlannedCopy, snapshot: SnapshotId) -> Copied:
    """What to remember of a copy whose result is this snapshot."""
    base = planned.placement.base if planned.placement is not None else ""
    return Copied.of(planned.identity, snapshot, base, planned.selected.lines)


def _unpack(store: Store, planned: PlannedCopy, placement: Placement, writer: Writer, below: Below) -> None:
    """Unpack archives into the destination, which is a directory then; copy what is none."""
    selection = planned.selected.selection
    for root in selection.roots:
        if root in planned.archives:
            writer.make_directories(placement.ancestors)
            target = Path(f"{writer.root}{placement.base.rstrip('/')}")
            unpack_archive(root, target, below, squash_ids=store.squash_ids, owner=planned.owner)
        else:
            writer.copy(placement, Selection([root], [], selection.owned))


@dataclass(frozen=True)
class PlannedMkdir:
    """A WORKDIR looked at."""

    node: Node
    chain: tuple[SnapshotId, ...]
    placement: Placement
    owner: Owner
    preimage: Preimage


def plan_mkdir(store: Store, node: Node, chain: Sequence[SnapshotId]) -> PlannedMkdir:
    """Look at a WORKDIR. Raises InvalidInput when a file is in the way or the user is unknown."""
    step = node.step
    assert isinstance(step, Mkdir)
    tree = tree_of(store, chain)
    try:
        base = tree.resolve(step.path)
        placement = Placement(base, ancestors_of(tree, base))
        owner = resolve_owner(step.user, tree) if step.user else (0, 0)
    except OSError as error:
        raise InvalidInput(f"WORKDIR {step.path}: {error.strerror}", where=node.span) from error
    except BuildtoolError as error:
        message = error.message.replace("--chown", f"WORKDIR {step.path}").replace(
            "cannot copy to non-directory", f"WORKDIR {step.path}: not a directory"
        )
        raise InvalidInput(message, where=node.span) from error
    preimage = content_preimage(node, "", placement.facts(owner))
    return PlannedMkdir(node, tuple(chain), placement, owner, preimage)


def execute_mkdir(store: Store, planned: PlannedMkdir) -> SnapshotId:
    """Make the snapshot; it is empty when the directory was there already."""
    with store.snapshots.prepare(planned.chain) as draft, FullDisk(draft.directory):
        if any(ancestor.mode is None for ancestor in planned.placement.ancestors):
            writer = Writer(draft.fs, store.squash_ids, owner=planned.owner)
            writer.make_directories(planned.placement.ancestors)
        return draft.commit()


def execute_merge(store: Store, chain: Sequence[SnapshotId], layer: SnapshotId) -> SnapshotId:
    """COPY --link on its place: the layer as it is, unless it would change directories that are there already.

    A layer made from nothing has new directories on the way to its files; where the tree below has them with other
    attributes, the layer's files are linked into a copy of it whose directories look like those below.
    """
    tree = tree_of(store, chain)
    source = store.snapshots.fs(layer)
    if not _overrides(source, "", tree):
        return layer
    with store.snapshots.prepare(chain) as draft, FullDisk(draft.directory):
        _clone(str(source), str(draft.fs), "", tree, store.squash_ids)
        return draft.commit()


def _overrides(directory: Path, path: str, tree: Tree) -> bool:
    """Whether the way to the copied files (directories with one entry each) differs from the tree below."""
    for entry in os.scandir(directory):
        if not entry.is_dir(follow_symlinks=False):
            continue
        here = f"{path}/{entry.name}"
        try:
            below = tree.lstat(here)
        except (FileNotFoundError, NotADirectoryError):
            continue
        own = entry.stat(follow_symlinks=False)
        attributes = (below.st_mode, below.st_uid, below.st_gid)
        if stat.S_ISDIR(below.st_mode) and attributes != (own.st_mode, own.st_uid, own.st_gid):
            return True
        if _overrides(Path(entry.path), here, tree):
            return True
    return False


def _clone(source: str, target: str, path: str, tree: Tree, squash_ids: bool) -> None:
    for entry in os.scandir(source):
        copy = f"{target}/{entry.name}"
        if not entry.is_dir(follow_symlinks=False):
            os.link(entry.path, copy, follow_symlinks=False)
            continue
        here = f"{path}/{entry.name}"
        try:
            like = tree.lstat(here)
        except (FileNotFoundError, NotADirectoryError):
            like = entry.stat(follow_symlinks=False)
        if not stat.S_ISDIR(like.st_mode):
            like = entry.stat(follow_symlinks=False)
        os.mkdir(copy)
        if not squash_ids:
            os.chown(copy, like.st_uid, like.st_gid)
        os.chmod(copy, stat.S_IMODE(like.st_mode))
        _clone(entry.path, copy, here, tree, squash_ids)


def content_key(planned: PlannedCopy | PlannedMkdir) -> str:
    """The content key of what was looked at; empty when it has none."""
    return digest_of(planned.preimage) if planned.preimage is not None else ""
