"""`HostConfig.DeviceRequests`: devices by their CDI names, and GPUs where a CDI specification has them.

Source: Docker Engine API, "DeviceRequests"; CDI specification 0.8, containerEdits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from buildtool.containers.model import HostConfig
from buildtool.errors import InvalidInput, NotFound, Unavailable
from buildtool.runtime import cdi

# Kinds that a request for GPUs may mean, by the driver that it names.
_GPUS = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "intel.com/gpu"}


class Edits:
    """What the requested devices add to a container."""

    def __init__(self) -> None:
        self.env: list[str] = []
        self.gids: list[int] = []
        self.nodes: list[dict[str, Any]] = []
        self.mounts: list[dict[str, Any]] = []


def requested(host: HostConfig) -> Edits:
    """What the requests ask for, as it is now. Raises Unavailable and InvalidInput with Docker's words."""
    found = Edits()
    for request in host.device_requests or ():
        for name in _names(request):
            try:
                for edit in cdi.edits_of(name):
                    _add(found, name, edit)
            except NotFound as error:
                raise InvalidInput(f"CDI device injection failed: {error.message}", hint=error.hint) from None
    return found


def _names(request: dict[str, Any]) -> list[str]:
    """The CDI names that a request stands for."""
    driver, chosen = str(request.get("Driver") or ""), request.get("DeviceIDs") or []
    if driver == "cdi":
        return [str(name) for name in chosen]
    capabilities = request.get("Capabilities") or []
    kinds = cdi.kinds() if any("gpu" in words for words in capabilities) else set()
    kind = next((kind for name, kind in _GPUS.items() if kind in kinds and driver in ("", name)), None)
    if kind is None:
        shown = "[" + " ".join(f"[{' '.join(map(str, words))}]" for words in capabilities) + "]"
        raise Unavailable(
            f'could not select device driver "{driver}" with capabilities: {shown}',
            hint=f"GPUs are found by CDI specifications in {' and '.join(cdi.DIRECTORIES)}: there is none for them.",
        )
    if chosen:
        return [f"{kind}={name}" for name in chosen]
    count = int(request.get("Count") or 0)
    return [f"{kind}={number}" for number in range(count)] if count > 0 else [f"{kind}=all"]


def _add(found: Edits, name: str, edit: dict[str, Any]) -> None:
    if edit.get("hooks"):
        raise Unavailable(
            f"CDI device {name} needs hooks, which are not run here",
            hint="Use a specification without hooks, or give the devices by their paths (--device).",
        )
    found.env += edit.get("env") or []
    found.gids += edit.get("additionalGids") or edit.get("additionalGIDs") or []
    for node in edit.get("deviceNodes") or []:
        source = str(node.get("hostPath") or node["path"])
        found.nodes.append({"source": source, "path": node["path"], "access": node.get("permissions") or "rwm"})
    for mount in edit.get("mounts") or []:
        options = list(mount.get("options") or [])
        options += [] if {"bind", "rbind"} & set(options) else ["rbind"]
        if not Path(mount["hostPath"]).exists():
            raise InvalidInput(f"CDI device {name}: {mount['hostPath']} does not exist")
        found.mounts.append(
            {"destination": mount["containerPath"], "type": "bind", "source": mount["hostPath"], "options": options}
        )
