"""The store: blobs, layers, snapshots, action records, leases.

The names below are loaded on first use, so that `buildtool.cache.overlay` costs a forked container process nothing
else.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # typing itself would be the most expensive import here
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cache.actions import ActionCache, ActionEntry
    from buildtool.cache.blobs import BlobStore, Ingest
    from buildtool.cache.check import Problem
    from buildtool.cache.compression import compress, decompress
    from buildtool.cache.disk import FullDisk, remove_tree
    from buildtool.cache.gc import GcReport, Pins
    from buildtool.cache.layers import LayerStore
    from buildtool.cache.leases import Lease, LeaseStore
    from buildtool.cache.snapshots import Draft, Snapshot, SnapshotId, SnapshotStore
    from buildtool.cache.state import Documents, StateDB
    from buildtool.cache.store import Store
    from buildtool.cache.tar_in import extract
    from buildtool.cache.tar_out import tar_tree
    from buildtool.cache.trees import Tree

_HOMES = {
    "ActionCache": "actions",
    "ActionEntry": "actions",
    "BlobStore": "blobs",
    "Documents": "state",
    "Draft": "snapshots",
    "FullDisk": "disk",
    "GcReport": "gc",
    "Ingest": "blobs",
    "LayerStore": "layers",
    "Lease": "leases",
    "LeaseStore": "leases",
    "Pins": "gc",
    "Problem": "check",
    "Snapshot": "snapshots",
    "SnapshotId": "snapshots",
    "SnapshotStore": "snapshots",
    "StateDB": "state",
    "Store": "store",
    "Tree": "trees",
    "compress": "compression",
    "decompress": "compression",
    "extract": "tar_in",
    "remove_tree": "disk",
    "tar_tree": "tar_out",
}

__all__ = [
    "ActionCache",
    "ActionEntry",
    "BlobStore",
    "Documents",
    "Draft",
    "FullDisk",
    "GcReport",
    "Ingest",
    "LayerStore",
    "Lease",
    "LeaseStore",
    "Pins",
    "Problem",
    "Snapshot",
    "SnapshotId",
    "SnapshotStore",
    "StateDB",
    "Store",
    "Tree",
    "compress",
    "decompress",
    "extract",
    "remove_tree",
    "tar_tree",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
