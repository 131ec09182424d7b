"""A service's volumes, tmpfs, secrets and configs as Volumes, Binds, Mounts and Tmpfs of a create request."""

from __future__ import annotations

import os
from typing import Any

from buildtool.errors import InvalidInput
from buildtool.stacks.files import bound_files
from buildtool.stacks.model import Project


def mounts(
    project: Project, service: dict[str, Any], inherited: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Config.Volumes, and the part of HostConfig that is about mounts.

    `inherited` keeps an earlier container's anonymous volumes: their names by where they are mounted.
    """
    anonymous: dict[str, Any] = {}
    binds: list[str] = []
    listed: list[dict[str, Any]] = []
    targets = set()
    for item in service.get("volumes") or []:
        targets.add(item["target"])
        if item["type"] == "volume" and not item.get("source") and item["target"] not in inherited:
            anonymous[item["target"]] = {}
        elif item["type"] == "volume" and not item.get("source"):
            binds.append(f"{inherited[item['target']]}:{item['target']}{':ro' if item.get('read_only') else ''}")
        elif item["type"] == "bind" and _is_plain_bind(item):
            binds.append(_bind(item))
        else:
            listed.append(_mount(project, item))
    binds += [f"{name}:{target}" for target, name in inherited.items() if target not in targets]
    for source, target in bound_files(project, service):
        listed.append({"Type": "bind", "Source": source, "Target": target, "ReadOnly": True})
    if service.get("use_api_socket"):
        binds.append("/var/run/docker.sock:/var/run/docker.sock")
    host: dict[str, Any] = {"Binds": binds, "Mounts": listed}
    if service.get("tmpfs"):
        host["Tmpfs"] = {path: options for path, _, options in (item.partition(":") for item in service["tmpfs"])}
    return anonymous, host


def _is_plain_bind(item: dict[str, Any]) -> bool:
    """Whether the engine is to make the source when it is missing: only Binds do that on every engine."""
    options = item.get("bind") or {}
    return options.get("create_host_path", True) is not False and "recursive" not in options


def _bind(item: dict[str, Any]) -> str:
    options = item.get("bind") or {}
    flags = ["ro" if item.get("read_only") else "rw"]
    flags += [options[key] for key in ("selinux", "propagation") if options.get(key)]
    return f"{item['source']}:{item['target']}:{','.join(flags)}"


def _mount(project: Project, item: dict[str, Any]) -> dict[str, Any]:
    kind = item["type"]
    mount: dict[str, Any] = {
        "Type": kind,
        "Source": item.get("source") or "",
        "Target": item["target"],
        "ReadOnly": bool(item.get("read_only")),
    }
    if item.get("consistency"):
        mount["Consistency"] = item["consistency"]
    if kind == "volume":
        mount["Source"] = project.part("volumes")[item["source"]]["name"]
        mount["VolumeOptions"] = _volume_options(item.get("volume") or {})
    elif kind == "bind":
        mount["BindOptions"] = _bind_options(item)
    elif kind == "tmpfs":
        options = item.get("tmpfs") or {}
        mount["TmpfsOptions"] = {"SizeBytes": int(options.get("size") or 0), "Mode": options.get("mode") or 0}
    elif kind == "image" and (item.get("image") or {}).get("subpath"):
        mount["ImageOptions"] = {"Subpath": item["image"]["subpath"]}
    elif kind in ("npipe", "cluster"):
        raise InvalidInput(f"mount {item['target']!r}: mounts of type {kind} do not exist on this platform")
    return mount


def _volume_options(options: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options.get("nocopy"):
        found["NoCopy"] = True
    if options.get("subpath"):
        found["Subpath"] = options["subpath"]
    if options.get("labels"):
        found["Labels"] = dict(options["labels"])
    return found


def _bind_options(item: dict[str, Any]) -> dict[str, Any]:
    options = item.get("bind") or {}
    if options.get("create_host_path") is False and not os.path.exists(item["source"]):  # noqa: PTH110
        raise InvalidInput(
            f"bind source path does not exist: {item['source']}", hint="Make it, or leave create_host_path out."
        )
    found: dict[str, Any] = {}
    if options.get("propagation"):
        found["Propagation"] = options["propagation"]
    recursive = options.get("recursive")
    if recursive == "disabled":
        found["NonRecursive"] = True
    elif recursive == "writable":
        found["ReadOnlyNonRecursive"] = True
    elif recursive == "readonly":
        found["ReadOnlyForceRecursive"] = True
    return found
