"""`ps`: the list of containers."""

from __future__ import annotations

from buildtool.cli.human import ago, decimal_size, ellipsis, local_time, quoted, short_id
from buildtool.cli.listing import labels_text, print_rows
from buildtool.cli.ports import displayable_ports
from buildtool.cli.values import filters_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_HEADERS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
_RAW = (
    ("container_id", "ID"),
    ("image", "Image"),
    ("command", "Command"),
    ("created_at", "CreatedAt"),
    ("state", "State"),
    ("status", "Status"),
    ("names", "Names"),
    ("labels", "Labels"),
    ("ports", "Ports"),
)
_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def ps(call: Call) -> int:
    """List containers."""
    form = call.text("format")
    last = 1 if call.switch("latest") else call.number("last") or 0
    sizes = call.switch("size") or ".Size" in form or form == "{{json .}}"
    query = {
        "all": call.switch("all") or last > 0,
        "limit": last if last > 0 else None,
        "size": sizes,
        "filters": filters_document(call.texts("filter")) or None,
    }
    truncate = not call.switch("no-trunc")
    containers = call.client.get("/containers/json", query)
    columns = (*_COLUMNS, "Size") if call.switch("size") else _COLUMNS
    print_rows(
        (_row(item, truncate) for item in containers),
        form,
        columns,
        _HEADERS,
        quiet="ID" if call.switch("quiet") else "",
        kind="formatter.ContainerContext",
        raw=_RAW,
        problems=("failed to parse template", "failed to execute template"),
    )
    return 0


def _row(item: dict[str, Any], truncate: bool) -> dict[str, Any]:
    labels = item.get("Labels") or {}
    mounts = [mount.get("Name") or mount.get("Source") or "" for mount in item.get("Mounts") or ()]
    networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
    created = float(item.get("Created") or 0)
    return {
        "ID": short_id(item["Id"]) if truncate else item["Id"],
        "Names": _names(item.get("Names") or [], truncate),
        "Image": _image(item, truncate),
        "Command": quoted(ellipsis(item.get("Command") or "", 20) if truncate else item.get("Command") or ""),
        "CreatedAt": local_time(created),
        "RunningFor": ago(created),
        "Ports": displayable_ports(item.get("Ports") or []),
        "State": item.get("State", ""),
        "Status": item.get("Status", ""),
        "Size": _size(item),
        "Labels": labels_text(labels),
        "Label": lambda name: labels.get(name, ""),
        "Mounts": ",".join(ellipsis(mount, 15) if truncate else mount for mount in mounts),
        "LocalVolumes": str(sum(mount.get("Driver") == "local" for mount in item.get("Mounts") or ())),
        "Networks": ",".join(sorted(networks)),
        "Platform": _platform(item),
    }


def _names(names: list[str], truncate: bool) -> str:
    """Names without their slash; names of links (`/other/alias`) only when nothing is shortened."""
    plain = [name.removeprefix("/") for name in names]
    return ",".join(name for name in plain if not truncate or "/" not in name)


def _image(item: dict[str, Any], truncate: bool) -> str:
    image: str = item.get("Image") or ""
    if not image:
        return "<no image>"
    if not truncate:
        return image
    if short_id(image) == short_id(item.get("ImageID") or ""):
        return short_id(image)
    name, _, digest = image.partition("@")
    return name if digest else image


def _size(item: dict[str, Any]) -> str:
    own = decimal_size(item.get("SizeRw") or 0, 3)
    whole = item.get("SizeRootFs") or 0
    return f"{own} (virtual {decimal_size(whole, 3)})" if whole > 0 else own


def _platform(item: dict[str, Any]) -> str | None:
    platform = (item.get("ImageManifestDescriptor") or {}).get("platform") or {}
    parts = [part for part in (platform.get("os"), platform.get("architecture"), platform.get("variant")) if part]
    return "/".join(parts) if parts else None
