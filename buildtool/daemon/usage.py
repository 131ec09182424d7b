"""What takes space: the documents of GET /system/df and of the build cache's prune."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from buildtool.aio import offload
from buildtool.cache import GcReport, SnapshotId
from buildtool.containers import times
from buildtool.daemon.services import Services

TYPES = {"container", "image", "volume", "build-cache"}


async def disk_usage(services: Services, types: set[str]) -> dict[str, Any]:
    """GET /system/df for the wanted types of objects."""
    answer: dict[str, Any] = {
        "LayersSize": 0,
        "Images": None,
        "Containers": None,
        "Volumes": None,
        "BuildCache": None,
    }
    if "image" in types:
        answer["LayersSize"], answer["Images"] = await offload(_images, services)
    if "container" in types:
        answer["Containers"] = await services.containers.list(all=True, limit=None, size=True, filters={})
    if "volume" in types:
        answer["Volumes"] = await offload(services.containers.volumes.usage)
    if "build-cache" in types:
        answer["BuildCache"] = await offload(_build_cache, services)
    return {"BuilderSize": 0, **answer}


def moment(text: str) -> float:
    """A filter's `until` (a time stamp, or a duration before now) in seconds. Raises InvalidInput."""
    return times.parse_moment(text, relative_to=times.now()) / times.SECOND


def prune_shape(report: GcReport) -> dict[str, Any]:
    """The answer of POST /build/prune."""
    return {"CachesDeleted": [str(snapshot) for snapshot in report.snapshots] or None, "SpaceReclaimed": report.bytes}


def report_shape(report: GcReport) -> dict[str, Any]:
    """The report of POST /buildtool/v1/gc."""
    return {
        "blobs": [str(digest) for digest in report.blobs],
        "snapshots": [int(snapshot) for snapshot in report.snapshots],
        "actions": report.actions,
        "leftovers": report.leftovers,
        "bytes": report.bytes,
    }


def _images(services: Services) -> tuple[int, list[dict[str, Any]]]:
    users = services.containers.images_in_use()
    summaries = services.images.summaries(
        {}, False, shared_size=True, containers=lambda image_id: len(users.get(image_id, ()))
    )
    layers = {layer.diff_id: layer.size for image in services.images.list() for layer in image.layers}
    return sum(layers.values()), summaries


def _build_cache(services: Services) -> list[dict[str, Any]]:
    """One record for each snapshot that build results name; those of images are in use and shared."""
    store = services.store
    pinned = {int(number) for number in services.pins().snapshots}
    snapshots = {int(snapshot.id): snapshot for snapshot in store.snapshots.all()}
    last_used: dict[int, float] = {}
    uses: dict[int, int] = {}
    for entry in store.actions.entries():
        for number in entry.snapshots():
            last_used[number] = max(entry.used, last_used.get(number, 0.0))
            uses[number] = uses.get(number, 0) + entry.hits
    records = []
    for number, used in sorted(last_used.items()):
        snapshot = snapshots.get(number)
        if snapshot is None:
            continue
        records.append(
            {
                "ID": str(number),
                "Parents": None,
                "Type": "regular",
                "Description": f"snapshot {number}",
                "InUse": number in pinned,
                "Shared": number in pinned,
                "Size": store.snapshots.usage(SnapshotId(number)),
                "CreatedAt": _stamp(snapshot.created),
                "LastUsedAt": _stamp(used),
                "UsageCount": uses[number],
            }
        )
    return records


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds or time.time(), UTC).isoformat().replace("+00:00", "Z")
