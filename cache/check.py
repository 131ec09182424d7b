"""The store's proof: what `buildtool system check` finds, and repairs on demand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from buildtool.cache.blobs import CHUNK
from buildtool.cache.disk import remove_tree
from buildtool.oci.digest import Digest, is_digest

if TYPE_CHECKING:
    from buildtool.cache.store import Store


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: `kind` is a word for programs, `subject` the digest, snapshot or path, `message` for people."""

    kind: str
    subject: str
    message: str
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class _Finding:
    problem: Problem
    repair: Callable[[], object] | None = None


def check(store: Store, *, repair: bool) -> list[Problem]:
    """See Store.check."""
    problems = []
    for finding in _findings(store):
        problem = finding.problem
        if repair and finding.repair is not None and not store.readonly:
            finding.repair()
            problem = Problem(problem.kind, problem.subject, problem.message, repaired=True)
        problems.append(problem)
    return problems


def _findings(store: Store) -> Iterator[_Finding]:
    yield from _check_layout(store)
    yield from _check_blobs(store)
    damaged = store.state.integrity_faults()
    for fault in damaged:
        yield _Finding(Problem("database", str(store.state.path), fault))
    index_faults = store.actions.integrity_faults()
    for fault in index_faults:
        yield _Finding(Problem("database", str(store.actions.directory), fault), store.actions.clear)
    if damaged:
        return  # what refers to what cannot be told
    yield from _check_snapshots(store)
    if not index_faults:
        yield from _check_actions(store)
    for path in store.leftovers():
        yield _Finding(
            Problem("leftover", str(path), "left behind by a process that ended early"),
            lambda path=path: remove_tree(path),  # type: ignore[misc]
        )


def _check_layout(store: Store) -> Iterator[_Finding]:
    for name in ("oci-layout", "index.json"):
        path = store.root / name
        try:
            msgspec.json.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            yield _Finding(Problem("layout", str(path), str(error)), lambda path=path: store.write_layout(path))  # type: ignore[misc]


def _check_blobs(store: Store) -> Iterator[_Finding]:
    for name in sorted(os.listdir(store.blobs.directory)):
        path = store.blobs.directory / name
        if not is_digest(f"sha256:{name}"):
            yield _Finding(Problem("leftover", str(path), "not a blob"), lambda path=path: remove_tree(path))  # type: ignore[misc]
            continue
        digest = Digest(f"sha256:{name}")
        hasher = hashlib.sha256()
        try:
            with store.blobs.open(digest) as file:
                while chunk := file.read(CHUNK):
                    hasher.update(chunk)
            fault = "" if hasher.hexdigest() == name else f"its bytes have the digest sha256:{hasher.hexdigest()}"
        except OSError as error:
            fault = f"cannot be read: {error}"
        if fault:
            yield _Finding(Problem("corrupt-blob", digest, fault), lambda path=path: remove_tree(path))  # type: ignore[misc]


def _check_snapshots(store: Store) -> Iterator[_Finding]:
    for snapshot in store.snapshots.all():
        if not store.snapshots.fs(snapshot.id).is_dir():
            yield _Finding(
                Problem("missing-snapshot", str(snapshot.id), "its directory is gone"),
                lambda number=snapshot.id: store.snapshots.delete(number),  # type: ignore[misc]
            )
    for (number,) in store.state.query(
        "SELECT DISTINCT snapshot FROM tars WHERE snapshot NOT IN (SELECT id FROM snapshots)"
    ):
        yield _Finding(
            Problem("dangling", f"tar of snapshot {number}", "the snapshot is gone"),
            lambda number=number: _delete(store, "DELETE FROM tars WHERE snapshot = ?", number),  # type: ignore[misc]
        )
    for diff_id, digest in store.state.query("SELECT diff_id, digest FROM layer_blobs"):
        if not is_digest(digest) or not store.blobs.has(digest):
            yield _Finding(
                Problem("dangling", f"{digest}, a form of layer {diff_id}", "the blob is gone"),
                lambda digest=digest: _delete(store, "DELETE FROM layer_blobs WHERE digest = ?", digest),  # type: ignore[misc]
            )


def _check_actions(store: Store) -> Iterator[_Finding]:
    entries = store.actions.entries()  # first: what they need was there before them
    known = {int(snapshot.id) for snapshot in store.snapshots.all() if store.snapshots.fs(snapshot.id).is_dir()}
    for entry in entries:
        missing = [f"snapshot {number}" for number in entry.snapshots() if number not in known]
        missing += [
            digest for digest in entry.blobs() if not is_digest(digest) or not store.blobs.has(Digest(digest))
        ]
        if missing:
            yield _Finding(
                Problem("dangling", f"action {entry.key}", f"{', '.join(missing)} is gone"),
                lambda key=entry.key: store.actions.delete(key),  # type: ignore[misc]
            )


def _delete(store: Store, sql: str, *parameters: object) -> None:
    with store.state.transaction() as db:
        db.execute(sql, parameters)
