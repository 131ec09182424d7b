"""`RUN --device` and `--security=insecure`: which devices of the host a step gets.

A device is named by its path (`/dev/fuse`) or as the Container Device Interface names it (`vendor.com/class=name`).
Source: CDI specification 0.8, containerEdits.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildtool.errors import InvalidInput, NotFound, StepFailed, Unavailable
from buildtool.graph import Exec, StepDevice
from buildtool.runtime import cdi

if TYPE_CHECKING:
    from buildtool.solve.run_mounts import RunFiles

_NOT_FOR_ALL = ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts")


def add_devices(files: RunFiles, step: Exec) -> None:
    """Give the step its devices. Raises NotFound, Unavailable and StepFailed."""
    for device in step.devices:
        try:
            edits = _path_edits(device) if device.name.startswith("/") else _cdi_edits(device)
        except NotFound as error:
            if not device.required:
                continue
            error.where = files.node.span
            raise
        for edit in edits:
            _apply(files, edit)


def all_devices() -> list[dict[str, Any]]:
    """The host's devices, but for terminals and what every container has anyway."""
    found = []
    for directory, names, members in os.walk("/dev"):
        names[:] = [name for name in names if name not in _NOT_FOR_ALL]
        for name in members:
            path = Path(directory, name)
            if name != "console" and not path.is_symlink() and (path.is_char_device() or path.is_block_device()):
                found.append(_node(str(path), str(path), "rwm"))
    return found


def _path_edits(device: StepDevice) -> list[dict[str, Any]]:
    if not (os.path.exists(device.name)):  # noqa: PTH110
        raise NotFound(f"RUN --device: there is no device {device.name} on the daemon's machine")
    return [{"deviceNodes": [{"path": device.name}]}]


def _cdi_edits(device: StepDevice) -> list[dict[str, Any]]:
    try:
        return cdi.edits_of(device.name)
    except NotFound as error:
        raise NotFound(f"RUN --device: {error.message}", hint=error.hint) from None
    except InvalidInput as error:
        raise StepFailed(f"RUN --device: {error.message}") from None


def _apply(files: RunFiles, edits: dict[str, Any]) -> None:
    if edits.get("hooks"):
        raise Unavailable(
            "RUN --device: this CDI device needs hooks, which builds do not run",
            where=files.node.span,
            hint="use a device specification without hooks, or name the device by its path",
        )
    files.env += edits.get("env") or []
    files.groups += edits.get("additionalGids") or edits.get("additionalGIDs") or []
    for node in edits.get("deviceNodes") or []:
        try:
            files.devices.append(_node(node.get("hostPath") or node["path"], node["path"], node.get("permissions")))
        except OSError as error:
            raise StepFailed(
                f"RUN --device: {node.get('hostPath') or node['path']}: {error.strerror}", where=files.node.span
            ) from None
    for mount in edits.get("mounts") or []:
        options = mount.get("options") or []
        files.bind(Path(mount["hostPath"]), mount["containerPath"], readonly="rw" not in options)


def _node(source: str, target: str, access: str | None) -> dict[str, Any]:
    status = Path(source).stat()
    kind = "b" if stat.S_ISBLK(status.st_mode) else "c" if stat.S_ISCHR(status.st_mode) else ""
    if not kind:
        raise OSError(0, "not a device node")
    return {
        "type": kind,
        "path": target,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "access": access or "rwm",
    }
