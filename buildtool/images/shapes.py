"""The Engine API's shapes of images (API 1.50 names): inspect, history, summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from buildtool.images.model import Image
from buildtool.images.times import format_precise, parse_time
from buildtool.oci import ContainerConfig, chain_ids


def inspect_shape(image: Image, lower: Sequence[Path] = ()) -> dict[str, Any]:
    """GET /images/{name}/json. `lower`: the unpacked layers' directories, bottom first, as far as there are."""
    config = image.config
    history = config.history or []
    shape: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": [reference.familiar for reference in image.references],
        "RepoDigests": [reference.familiar for reference in image.repo_digests],
        "Parent": image.parent or "",
        "Comment": history[-1].comment if history else "",
        "Created": config.created or "0001-01-01T00:00:00Z",
        "DockerVersion": "",
        "Author": config.author,
        "Config": config_shape(image.container_config),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": image.size,
        "GraphDriver": {"Data": _driver_data(lower), "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": image.diff_ids},
        "Metadata": {
            "LastTagTime": format_precise(image.last_tagged) if image.last_tagged else "0001-01-01T00:00:00Z"
        },
        "Descriptor": msgspec.to_builtins(image.manifest),
    }
    if config.variant:
        shape["Variant"] = config.variant
    if config.os_version:
        shape["OsVersion"] = config.os_version
    return shape


def config_shape(config: ContainerConfig) -> dict[str, Any]:
    """The `Config` object: what Docker always prints, null where unset, and the rarer fields where set."""
    shape: dict[str, Any] = {
        "User": config.user,
        "Env": config.env,
        "Cmd": config.cmd,
        "Volumes": config.volumes,
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
        "OnBuild": config.on_build,
        "Labels": config.labels,
    }
    return {**shape, **msgspec.to_builtins(config)}


def _driver_data(lower: Sequence[Path]) -> dict[str, str] | None:
    if not lower:
        return None
    *below, top = lower
    data = {"UpperDir": str(top)}
    if below:
        data["LowerDir"] = ":".join(str(path) for path in reversed(below))
    return data


def history_shape(image: Image) -> list[dict[str, Any]]:
    """GET /images/{name}/history: newest first; only the newest line knows its image id."""
    sizes = iter(layer.size for layer in image.layers)
    lines = []
    for entry in image.config.history or []:
        lines.append(
            {
                "Id": "<missing>",
                "Created": int(parse_time(entry.created) or 0),
                "CreatedBy": entry.created_by,
                "Tags": None,
                "Size": 0 if entry.empty_layer else next(sizes, 0),
                "Comment": entry.comment,
            }
        )
    if not lines:
        lines.append({"Created": int(parse_time(image.config.created) or 0), "CreatedBy": "", "Comment": ""})
        lines[0]["Size"] = image.size
    lines[-1] |= {"Id": image.id, "Tags": [reference.familiar for reference in image.references] or None}
    lines.reverse()
    return lines


def summary_shape(image: Image, *, shared: int = -1, containers: int = -1) -> dict[str, Any]:
    """One element of GET /images/json; `shared` and `containers` are -1 where they were not counted."""
    return {
        "Containers": containers,
        "Created": int(image.created),
        "Id": image.id,
        "Labels": image.container_config.labels,
        "ParentId": image.parent or "",
        "RepoDigests": [reference.familiar for reference in image.repo_digests],
        "RepoTags": [reference.familiar for reference in image.references],
        "SharedSize": shared,
        "Size": image.size,
    }


def manifest_shape(image: Image) -> dict[str, Any]:
    """One element of an image's `Manifests`, API 1.48: an image of an index, with its platform and sizes."""
    content = image.manifest.size + sum(layer.blob.size for layer in image.layers if layer.blob is not None)
    unpacked = sum(layer.size for layer in image.layers if layer.snapshot is not None)
    platform = msgspec.to_builtins(image.config.platform)
    return {
        "ID": image.manifest.digest,
        "Descriptor": {**msgspec.to_builtins(image.manifest), "platform": platform},
        "Available": True,
        "Size": {"Content": content, "Total": content + unpacked},
        "Kind": "image",
        "ImageData": {"Platform": platform, "Size": {"Unpacked": unpacked}, "Containers": []},
    }


def shared_sizes(images: Sequence[Image]) -> dict[str, int]:
    """For each image id: the bytes of its layers that stand on the same layers in another image too."""
    chains = {image.id: _chain(image) for image in images}
    owners: dict[str, int] = {}
    for chain in chains.values():
        for identity, _size in chain:
            owners[identity] = owners.get(identity, 0) + 1
    return {owner: sum(size for identity, size in chain if owners[identity] > 1) for owner, chain in chains.items()}


def _chain(image: Image) -> list[tuple[str, int]]:
    return list(zip(chain_ids(image.diff_ids), (layer.size for layer in image.layers), strict=True))
