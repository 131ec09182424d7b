"""The configuration hash by which `up` knows what has changed: the value of `com.docker.compose.config-hash`.

It is the one that docker compose computes, so that a project can be handed from one tool to the other without a
container being recreated: SHA-256 of the service's JSON without what does not make its containers. What the label has
differs from what `config --hash` prints: there, names of containers stand for the services that it shares with, and
what env files say has been put in; `config --hash` reads no env file.
Source: reference/stacks.md 2.2, "recreate only when config-hash or image id differs"; docker compose 2.40 and 2.26,
measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from buildtool.stacks.emit import compact_json
from buildtool.stacks.render import network_json, service_json, without_extensions
from buildtool.stacks.schema import NETWORK, SERVICE, VOLUME
from buildtool.stacks.tree import Map

_NOT_THE_CONTAINERS = ("build", "pull_policy", "scale", "depends_on", "profiles")


def service_hash(service: Map, *, shared: Mapping[str, str] | None = None, label_files: Sequence[str] = ()) -> str:
    """The hash of a normalised service.

    `shared` are the ids of the containers whose namespaces or volumes it has, by service; `label_files` were read.
    """
    document: dict[str, Any] = without_extensions(SERVICE.arrange(service), top=False)
    for key in _NOT_THE_CONTAINERS:
        document.pop(key, None)
    deploy = document.get("deploy")
    if isinstance(deploy, dict):
        deploy.pop("replicas", None)
    _as_go_writes_it(document)
    if shared:
        _share(document, shared)
    if label_files:
        document["label_file"] = list(label_files)
    return _digest(service_json(document))


def _share(document: dict[str, Any], shared: Mapping[str, str]) -> None:
    """Put containers where the file names services (docker compose drops the mode of `volumes_from` then)."""
    for key in ("network_mode", "ipc", "pid"):
        service = (document.get(key) or "").removeprefix("service:")
        if service in shared and document[key] != service:
            document[key] = f"container:{shared[service]}"
    if document.get("volumes_from"):
        sources = [source.split(":") for source in document["volumes_from"]]
        document["volumes_from"] = [
            source[1] if source[0] == "container" else shared.get(source[0], source[0]) for source in sources
        ]


def _as_go_writes_it(document: dict[str, Any]) -> None:
    """Where docker compose's JSON differs from what it prints: fields without names, structures never left out."""
    for kind, items in (document.get("blkio_config") or {}).items():
        if isinstance(items, list):
            document["blkio_config"][kind] = [{key.title(): value for key, value in item.items()} for item in items]
    for name, limit in (document.get("ulimits") or {}).items():
        if limit == 0:
            document["ulimits"][name] = {}
    for mount in document.get("volumes") or ():
        if not mount.get("bind", {}).get("create_host_path", True):
            del mount["bind"]["create_host_path"]
    if document.get("env_file"):
        document["env_file"] = [entry["path"] if entry["required"] else entry for entry in document["env_file"]]


def network_hash(network: Map) -> str:
    """The hash of a normalised network."""
    document = without_extensions(NETWORK.arrange(network), top=False)
    return _digest(network_json(document))


def volume_hash(volume: Map) -> str:
    """The hash of a normalised volume."""
    document = without_extensions(VOLUME.arrange(volume), top=False)
    document.setdefault("driver", "local")
    return _digest({key: document[key] for key in VOLUME.fields if key in document})


def _digest(document: Any) -> str:
    return hashlib.sha256(compact_json(document).encode()).hexdigest()
