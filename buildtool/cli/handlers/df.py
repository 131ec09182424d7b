"""`system df`: what takes how much room on disk."""

from __future__ import annotations

from buildtool.cli.human import ago, decimal_size, parse_rfc3339, short_id
from buildtool.cli.listing import print_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from buildtool.cli.call import Call

_HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_RAW = (
    ("type", "Type"),
    ("total", "TotalCount"),
    ("active", "Active"),
    ("size", "Size"),
    ("reclaimable", "Reclaimable"),
)


def df(call: Call) -> int:
    """Print a line a kind of object; with --verbose a line an object."""
    usage = call.client.get("/system/df")
    if call.switch("verbose") and not call.text("format"):
        _verbose(usage)
        return 0
    rows = [_images(usage), _containers(usage), _volumes(usage), _build_cache(usage)]
    print_rows(rows, call.text("format"), tuple(_HEADERS), _HEADERS, kind=_kind, raw=_RAW)
    return 0


def _kind(row: Mapping[str, Any]) -> str:
    names = {"Local Volumes": "Volumes", "Build Cache": "Builder"}
    return f"formatter.diskUsage{names.get(row['Type'], row['Type'])}Context"


def _row(kind: str, total: int, active: int, size: int, reclaimable: int, *, percent: bool = True) -> dict[str, Any]:
    text = decimal_size(reclaimable)
    if percent and size > 0:
        text += f" ({reclaimable * 100 // size}%)"
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": decimal_size(size),
        "Reclaimable": text,
    }


def _images(usage: dict[str, Any]) -> dict[str, Any]:
    images = usage.get("Images") or []
    whole = int(usage.get("LayersSize") or 0)
    used = [image for image in images if image.get("Containers", 0) > 0]
    own = [image["Size"] - max(image.get("SharedSize", 0), 0) for image in used if image.get("Size", -1) >= 0]
    return _row("Images", len(images), len(used), whole, max(whole - sum(own), 0))


def _containers(usage: dict[str, Any]) -> dict[str, Any]:
    containers = usage.get("Containers") or []
    active = [item for item in containers if _is_active(item)]
    size = sum(item.get("SizeRw") or 0 for item in containers)
    return _row(
        "Containers", len(containers), len(active), size, size - sum(item.get("SizeRw") or 0 for item in active)
    )


def _is_active(item: dict[str, Any]) -> bool:
    return any(word in (item.get("State") or "").lower() for word in ("running", "paused", "restarting"))


def _volumes(usage: dict[str, Any]) -> dict[str, Any]:
    volumes = usage.get("Volumes") or []
    data = [volume.get("UsageData") or {} for volume in volumes]
    size = sum(max(item.get("Size", 0), 0) for item in data)
    used = [item for item in data if item.get("RefCount", 0) > 0]
    free = sum(max(item.get("Size", 0), 0) for item in data if item.get("RefCount", 0) <= 0)
    return _row("Local Volumes", len(volumes), len(used), size, free)


def _build_cache(usage: dict[str, Any]) -> dict[str, Any]:
    records = usage.get("BuildCache") or []
    size = sum(record.get("Size") or 0 for record in records if not record.get("Shared"))
    free = sum(record.get("Size") or 0 for record in records if not record.get("Shared") and not record.get("InUse"))
    used = sum(bool(record.get("InUse")) for record in records)
    return _row("Build Cache", len(records), used, size or int(usage.get("BuilderSize") or 0), free, percent=False)


def _verbose(usage: dict[str, Any]) -> None:
    print("Images space usage:\n")
    titles = ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS")
    _table(titles, [_image_cells(image) for image in usage.get("Images") or ()])
    print("\nContainers space usage:\n")
    titles = ("CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES")
    _table(titles, [_container_cells(item) for item in usage.get("Containers") or ()])
    print("\nLocal Volumes space usage:\n")
    volumes = [
        (volume["Name"], str(data.get("RefCount", 0)), _size_of(data.get("Size", -1)))
        for volume in usage.get("Volumes") or ()
        for data in (volume.get("UsageData") or {},)
    ]
    _table(("VOLUME NAME", "LINKS", "SIZE"), volumes)
    print(f"\nBuild cache usage: {_build_cache(usage)['Size']}\n")
    records = [
        (
            short_id(record.get("ID", "")),
            record.get("Type", ""),
            decimal_size(record.get("Size") or 0),
            ago(_seconds(record.get("CreatedAt"))),
            ago(_seconds(record.get("LastUsedAt"))),
            str(record.get("UsageCount", 0)),
            str(bool(record.get("Shared"))).lower(),
        )
        for record in usage.get("BuildCache") or ()
    ]
    _table(("CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"), records)


def _seconds(text: str | None) -> float:
    try:
        return parse_rfc3339(text or "")
    except ValueError:
        return 0.0


def _image_cells(image: dict[str, Any]) -> tuple[str, ...]:
    repository, _, tag = ((image.get("RepoTags") or ["<none>:<none>"])[0]).rpartition(":")
    shared = max(image.get("SharedSize", 0), 0)
    return (
        repository,
        tag,
        short_id(image["Id"]),
        ago(float(image.get("Created") or 0)),
        decimal_size(image["Size"], 3),
        decimal_size(shared, 3),
        decimal_size(image["Size"] - shared, 3),
        str(max(image.get("Containers", 0), 0)),
    )


def _container_cells(item: dict[str, Any]) -> tuple[str, ...]:
    return (
        short_id(item["Id"]),
        item.get("Image", ""),
        f'"{(item.get("Command") or "")[:20]}"',
        str(sum(mount.get("Type") == "volume" for mount in item.get("Mounts") or ())),
        decimal_size(item.get("SizeRw") or 0, 3),
        ago(float(item.get("Created") or 0)),
        item.get("Status", ""),
        ",".join(name.removeprefix("/") for name in item.get("Names") or ()),
    )


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from buildtool.cli.listing import print_table

    print_table([titles, *rows])


def _size_of(size: int) -> str:
    """Volumes that lie elsewhere have none."""
    return decimal_size(size) if size >= 0 else "N/A"
